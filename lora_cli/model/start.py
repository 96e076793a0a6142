"""The first values of adapters that do not start from a seed: computed module by module.

What a start is computed from (a weight, the inputs of a module, the gradient of its weight) is
gathered by `evidence`; what is made of it is the variant's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_cli.adapters.low_rank import LowRankSpec
from lora_cli.adapters.variant import Evidence, Factors, Start, VariantSpec
from lora_cli.events import Report, Stage, StartsDone
from lora_cli.model.evidence import Calibration, cut_into_groups, gather
from lora_cli.model.layers import as_out_by_in, weight_of

if TYPE_CHECKING:
    import torch


def compute_starts(
    model: Any,
    spec: LowRankSpec,
    modules: Sequence[str],
    *,
    calibration: Calibration | None = None,
    requantized: Callable[[torch.Tensor], torch.Tensor] = lambda weight: weight,
    report: Report = lambda _event: None,
) -> dict[str, Start]:
    """Return each module's start, on the CPU; the base, without an adapter yet, stays as it is.

    `requantized` tells what the base will keep of an (out, in) weight in its own dtype.

    Raises:
        RunError: the calibration says nothing of a module.
    """
    report(Stage("computing the adapter's start"))
    starts: dict[str, Start] = {}
    for group in cut_into_groups(model, spec.start_from, modules):
        gathered = gather(model, spec.start_from, group, calibration)
        for name in group:
            module = model.get_submodule(name)
            evidence = Evidence(
                weight=weight_of(module),
                rank=spec.rank_of(name),
                scaling=spec.scaling_of(name),
                requantized=_rounding_first(requantized, module.weight.dtype),
                inputs=gathered.get(name) if spec.start_from == "inputs" else None,
                gradient=gathered.get(name) if spec.start_from == "gradients" else None,
            )
            starts[name] = _on_cpu(_rounded(spec.start(evidence), spec.dtype))
            report(StartsDone(len(starts), len(modules)))
    return starts


def _rounding_first(
    requantized: Callable[[torch.Tensor], torch.Tensor], dtype: torch.dtype
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return `requantized` for float32 weights, which the base rounds before it holds them."""
    return lambda weight: requantized(weight.to(dtype)).float()


def _rounded(start: Start, dtype: str) -> Start:
    """Return a start with the first values that a pair in `dtype` can have, in float32.

    A base that gives up these values gives up the rounded ones: together they are what it was.
    """
    import torch

    held = getattr(torch, dtype)
    first = Factors(start.first.a.to(held).float(), start.first.b.to(held).float())
    return Start(first, first if start.taken is start.first else start.taken)


def _on_cpu(start: Start) -> Start:
    """Return a start for which nothing is kept on a GPU while it trains."""

    def moved(pair: Factors) -> Factors:
        return Factors(pair.a.detach().cpu().contiguous(), pair.b.detach().cpu().contiguous())

    return Start(moved(start.first), moved(start.taken) if start.taken else None)


def take_from_base(model: Any, spec: VariantSpec, starts: Mapping[str, Start]) -> None:
    """Subtract from each weight what its start took: W − scaling·b·a, rounded to W's dtype."""
    import torch

    for name, start in starts.items():
        if start.taken is None:
            continue
        assert isinstance(spec, LowRankSpec), "pairs are what is taken"
        module = model.get_submodule(name)
        # where the weight is, always: a resumed run must come to the same bits
        a, b = start.taken.a.to(module.weight.device), start.taken.b.to(module.weight.device)
        rest = weight_of(module) - spec.scaling_of(name) * (b @ a)
        with torch.no_grad():
            module.weight.copy_(as_out_by_in(module, rest))


def save_starts(file: Path, starts: Mapping[str, Start]) -> None:
    """Write starts as safetensors: a resumed run takes them from there."""
    from safetensors.torch import save_file

    tensors = {}
    for name, start in starts.items():
        pairs = {"first": start.first, "taken": start.taken}
        for which, pair in pairs.items():
            if pair is not None:
                tensors[f"{name}.{which}.a"] = pair.a.detach().cpu().clone().contiguous()
                tensors[f"{name}.{which}.b"] = pair.b.detach().cpu().clone().contiguous()
    save_file(tensors, file)


def load_starts(file: Path) -> dict[str, Start]:
    """Return the starts that `save_starts` wrote."""
    from safetensors.torch import load_file

    tensors = load_file(file)
    ending = ".first.a"
    names = [name.removesuffix(ending) for name in tensors if name.endswith(ending)]
    return {
        name: Start(_pair(tensors, name, "first"), _optional_pair(tensors, name)) for name in names
    }


def _pair(tensors: Mapping[str, torch.Tensor], name: str, which: str) -> Factors:
    return Factors(tensors[f"{name}.{which}.a"], tensors[f"{name}.{which}.b"])


def _optional_pair(tensors: Mapping[str, torch.Tensor], name: str) -> Factors | None:
    return _pair(tensors, name, "taken") if f"{name}.taken.a" in tensors else None
