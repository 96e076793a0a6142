"""What peft's rank allocator knows of an AdaLoRA: read out, put back, and as a plain LoRA.

This module does not decide which ranks go: peft's allocator does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from lora_cli.adapters.trained import put_trained_tensors, trained_tensors
from lora_cli.adapters.variant import Factors, SavedAdapter

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

VALUES = ".lora_E.default"
"""What ends the name of a module's singular values: each is the switch of one rank."""


def ranked_layers(model: PeftModel) -> dict[str, Any]:
    """Return peft's layers by the names that their modules have in the base."""
    modules = model.get_base_model().named_modules()
    return {name: module for name, module in modules if hasattr(module, "lora_E")}


def kept_ranks(model: PeftModel) -> dict[str, int]:
    """Return the rank that each module has after the last allocation."""
    kept = _kept(model)
    return {
        name: sum(kept.get(name + VALUES, [True] * layer.r["default"]))
        for name, layer in ranked_layers(model).items()
    }


def allocator_state(model: PeftModel) -> dict[str, torch.Tensor]:
    """Return what is trained, what the allocator has gathered, and the ranks that it keeps."""
    import torch

    base, allocator, kept = model.get_base_model(), model.base_model.rankallocator, _kept(model)
    state = trained_tensors(base)
    for name, tensor in _ranked(base).items():
        nothing = torch.zeros_like(tensor)
        state[f"{name}.importance"] = allocator.exp_avg_ipt.get(name, nothing)
        state[f"{name}.uncertainty"] = allocator.exp_avg_unc.get(name, nothing)
        if name.endswith(VALUES):
            state[f"{name}.kept"] = torch.tensor(kept.get(name, [True] * len(tensor)))
    return state


def put_allocator_state(model: PeftModel, state: Mapping[str, torch.Tensor]) -> None:
    """Put it all back."""
    import torch

    base, allocator = model.get_base_model(), model.base_model.rankallocator
    put_trained_tensors(base, state)
    kept = {}
    for name, tensor in _ranked(base).items():
        # the allocator begins its averages anew for a name that is not in `ipt`
        allocator.ipt[name] = torch.zeros_like(tensor)
        allocator.exp_avg_ipt[name] = state[f"{name}.importance"].to(tensor)
        allocator.exp_avg_unc[name] = state[f"{name}.uncertainty"].to(tensor)
        if name.endswith(VALUES):
            kept[name] = state[f"{name}.kept"].tolist()
    model.peft_config["default"].rank_pattern = kept


def as_plain_lora(model: PeftModel, scaling: float) -> SavedAdapter:
    """Return the plain LoRA of the ranks whose values are not 0, with the values in A.

    A module that has lost all its ranks keeps one of zeros: every module has its pair.
    """
    from peft import LoraConfig

    tensors: dict[str, torch.Tensor] = {}
    ranks: dict[str, int] = {}
    for name, layer in ranked_layers(model).items():
        pair = _kept_pair(layer)
        ranks[name] = len(pair.a)
        tensors[f"base_model.model.{name}.lora_A.weight"] = pair.a
        tensors[f"base_model.model.{name}.lora_B.weight"] = pair.b
    largest = max(ranks.values())
    others = {name: rank for name, rank in ranks.items() if rank != largest}
    config = remade(
        model.peft_config["default"],
        LoraConfig,
        r=largest,
        lora_alpha=scaling * largest,
        rank_pattern=others,
        alpha_pattern={name: scaling * rank for name, rank in others.items()},
    )
    return SavedAdapter(config, tensors)


def remade(config: Any, kind: Any, **changes: Any) -> Any:
    """Return a configuration of another kind, whatever both have taken over from `config`."""
    common = {field.name for field in fields(config)} & {field.name for field in fields(kind)}
    return kind(**{name: getattr(config, name) for name in common} | changes)


def _kept(model: PeftModel) -> dict[str, list[bool]]:
    """Return which ranks the last allocation kept; nothing before the first one."""
    return model.peft_config["default"].rank_pattern or {}


def _ranked(base: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the tensors whose importance the allocator follows, by the names that it uses."""
    return {name: each for name, each in trained_tensors(base).items() if ".lora_" in name}


def _kept_pair(layer: Any) -> Factors:
    """Return a layer's pair without the ranks whose value e is 0: A = diag(e)·A, B = B."""
    a, b, values = (
        getattr(layer, part)["default"].detach() for part in ("lora_A", "lora_B", "lora_E")
    )
    kept = values.flatten() != 0
    kept[0] |= not kept.any()
    return Factors(a=(values * a)[kept], b=b[:, kept])
