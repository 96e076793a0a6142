"""How the base holds the weights that an adapter updates, from its config alone.

The model is built without weights: a module's class says how its weight lies, which the shape of a
square one does not, and ties between weights show, which a file of tensors does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_cli.errors import MergeError
from lora_cli.merge.adapter_config import read_json
from lora_cli.merge.adapter_folder import Update
from lora_cli.merge.fold import WeightUpdate

if TYPE_CHECKING:
    import torch


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
    names = set(stored)
    found: dict[str, WeightUpdate] = {}
    lost = []
    for module, update in updates.items():
        weight = f"{module}.weight"
        # checkpoints saved without a head lack the prefix, and transformers loads them all the same
        bare = weight.removeprefix(f"{model.base_model_prefix}.")
        name = weight if weight in names else bare
        if name not in names:
            lost.append(weight)
            continue
        found[name] = WeightUpdate(update, _is_input_by_output(model, module))
    if lost:
        message = f"has no tensor for {len(lost)} of {len(updates)} updates, among them `{lost[0]}`"
        raise MergeError(message, str(base), "is this the right base?")
    return found


def _build_without_weights(base: Path) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(str(base), trust_remote_code=False)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0]
        message = f"cannot be built as a causal language model: {reason}"
        raise MergeError(message, str(base)) from error


def _is_input_by_output(model: Any, module: str) -> bool:
    """Return whether the module's weight is (in, out), as GPT-2's are, and not (out, in)."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    target = _submodule(model, module)
    ties = model.all_tied_weights_keys
    if f"{module}.weight" in {*ties.keys(), *ties.values()}:
        message = f"`{module}` shares its weight with another module, which would change with it"
        raise MergeError(message, hint="adapt other modules, or untie the base's embeddings first")
    if not isinstance(target, nn.Linear | Conv1D):
        kind = "absent" if target is None else type(target).__name__
        raise MergeError(f"`{module}` is {kind} in {type(model).__name__}: no linear layer")
    return isinstance(target, Conv1D)


def _submodule(model: Any, name: str) -> torch.nn.Module | None:
    try:
        module: torch.nn.Module = model.get_submodule(name)
    except AttributeError:
        return None
    return module
