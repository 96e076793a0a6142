"""How the base holds the weights that an adapter updates, from its config alone.

The model is built without weights: a module's class says how its weight lies, which the shape of a
square one does not, and ties between weights show, which a file of tensors does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lora_cli.errors import MergeError
from lora_cli.merge.adapter_config import read_json
from lora_cli.merge.adapter_folder import Update
from lora_cli.merge.fold import WeightUpdate
from lora_cli.words import reason_of


def weight_updates(
    base: Path, updates: Mapping[str, Update], stored: Iterable[str]
) -> dict[str, WeightUpdate]:
    """Return the updates by the names of the tensors that the base's files hold (`stored`).

    Raises:
        MergeError: an update belongs to no tensor, or to one that is tied to another.
    """
    if read_json(base / "config.json").get("quantization_config"):
        raise MergeError("is quantized: only full-precision bases are merged", str(base))
    model = _build_without_weights(base)
    _check_no_ties(model, updates)
    names = _stored_names(model, updates, frozenset(stored))
    lost = [module for module in updates if module not in names]
    if lost:
        count = f"{len(lost)} of {len(updates)} updates"
        message = f"has no tensor for {count}, among them `{lost[0]}.weight`"
        raise MergeError(message, str(base), "is this the right base?")
    return {
        names[module]: WeightUpdate(update, _is_input_by_output(model, module))
        for module, update in updates.items()
    }


def _stored_names(model: Any, modules: Iterable[str], stored: frozenset[str]) -> dict[str, str]:
    """Return the names of the modules' weights in the base's files, of those that are there.

    Checkpoints saved without a head lack the prefix; transformers loads them all the same.
    """
    prefix = f"{model.base_model_prefix}."
    found = {}
    for module in modules:
        weight = f"{module}.weight"
        for name in (weight, weight.removeprefix(prefix)):
            if name in stored:
                found[module] = name
                break
    return found


def _build_without_weights(base: Path) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(str(base), trust_remote_code=False)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        message = f"cannot be built as a causal language model: {reason_of(error)}"
        raise MergeError(message, str(base)) from error


def _check_no_ties(model: Any, modules: Iterable[str]) -> None:
    ties = model.all_tied_weights_keys
    for module in modules:
        if f"{module}.weight" in {*ties.keys(), *ties.values()}:
            message = f"`{module}` shares its weight with another module, which would change too"
            hint = "adapt other modules, or untie the base's embeddings before training"
            raise MergeError(message, hint=hint)


def _is_input_by_output(model: Any, module: str) -> bool:
    """Return whether the module's weight is (in, out), as GPT-2's are, and not (out, in)."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    try:
        target = model.get_submodule(module)
    except AttributeError:
        message = f"`{module}` is in the base's files, but not in {type(model).__name__}"
        raise MergeError(message) from None
    if not isinstance(target, nn.Linear | Conv1D):
        kind = type(target).__name__
        raise MergeError(f"`{module}` is a {kind}: this version merges linear layers only")
    return isinstance(target, Conv1D)
