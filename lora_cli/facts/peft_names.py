"""Names of linear layers that peft does not adapt as they stand, told by peft's own functions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def names_taken_for_experts(model: Any, leaves: Iterable[str]) -> frozenset[str]:
    """Return those last names that peft's LoRA takes for parts of the fused experts of `model`.

    Checkpoints from before experts were fused have them as layers, and peft rewrites their names;
    it does not look at whether the model has linear layers of the same names beside its experts.
    """
    from peft import LoraConfig
    from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers

    taken = set()
    for leaf in leaves:
        config = LoraConfig(target_modules=[leaf])
        try:
            convert_peft_config_for_transformers(config, model, None)
        except ValueError:  # half of what is fused: its other half has another name
            taken.add(leaf)
        if leaf not in (config.target_modules or ()):
            taken.add(leaf)
    return frozenset(taken)


def names_refused(model: Any, leaves: Iterable[str]) -> frozenset[str]:
    """Return those last names that peft's LoRA and its kin refuse on a model of this type.

    They are Mamba's: its kernels read the weight of such a layer and would pass an adapter by. A
    peft without this check of its own says so when the adapter is put on, and not here.
    """
    return frozenset(leaf for leaf in leaves if why_refused(model, leaf))


def why_refused(model: Any, leaf: str) -> str:
    """Return why peft's LoRA refuses a last name; nothing if it does not."""
    from peft import LoraConfig
    from peft.tuners import tuners_utils

    check = getattr(tuners_utils, "_check_lora_target_modules_mamba", None)
    try:
        if check is not None:
            check(LoraConfig(), model, leaf)
    except ValueError as error:
        return str(error)
    return ""
