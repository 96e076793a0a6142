"""combine_adapters: several adapters of one base → one LoRA, module by module.

No weight of the base is read. What is combined is ΔW: `linear` and `cat` put the pairs side by
side, which is the weighted sum exactly; the other methods' result is cut to a rank, and the error
told. What is for a model is only cut if that is asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lora_cli.adapters.variant import Factors
from lora_cli.errors import MergeError
from lora_cli.files import new_folder
from lora_cli.merge.adapter_config import CONFIG
from lora_cli.merge.canonical import write_canonical
from lora_cli.merge.combine.inputs import (
    Input,
    notes_on,
    read_inputs,
    shared_config,
    shared_origin,
)
from lora_cli.merge.combine.methods import combined_change
from lora_cli.merge.combine.options import DRAWING, PRUNING, STACKED, VOTING, CombineOptions
from lora_cli.merge.fits import ModuleFit, figures_of, module_fits
from lora_cli.merge.place import check_place, told_as
from lora_cli.merge.sketch import nearest_pair
from lora_cli.merge.truncate import Fit, fit_factors

Progress = Callable[[int, int], None]
"""Told how many modules of how many are done."""


@dataclass(frozen=True)
class CombinedAdapter:
    """One of the adapters that a combination was made of."""

    path: str
    sha256: str
    """Of its tensors' file."""
    method: str
    rank: int
    weight: float


@dataclass(frozen=True)
class CombineResult:
    """What a combination wrote."""

    adapters: list[CombinedAdapter]
    method: str
    base: str
    output: str
    exact: bool
    """Whether it is the method's own result, nothing cut off."""
    rank: int
    error: float
    """‖ΔW − B·A‖ / ‖ΔW‖ over all modules, in the Frobenius norm; ΔW is the method's result."""
    largest_error: float
    """The same for the module where it is largest."""
    modules: dict[str, ModuleFit]
    notes: list[str]
    bytes_written: int
    seconds: float


def combine_adapters(
    adapters: Sequence[Path],
    output: Path,
    options: CombineOptions,
    *,
    overwrite: bool = False,
    report: Progress = lambda _done, _total: None,
) -> CombineResult:
    """Write `output`: the combination of the adapters (or runs) as a canonical LoRA.

    Raises:
        MergeError: the output is taken, or the adapters cannot be combined.
        UsageError: there are more or fewer weights than adapters.
    """
    started = time.perf_counter()
    if not adapters:
        raise MergeError("there are no adapters to combine")
    check_place(output, CONFIG, adapters, overwrite=overwrite)
    weights = options.weights_for(len(adapters))
    inputs = read_inputs(adapters)
    fits = _Combination(inputs, weights, options).fits(report)
    parts = _parts(inputs, weights)
    figures, origin = figures_of(fits), shared_origin(inputs)
    recorded = {**_used(options), **figures, "adapters": [asdict(part) for part in parts]}
    with told_as(MergeError, output), new_folder(output) as new:
        pairs = {module: fit.pair for module, fit in fits.items()}
        write_canonical(new, pairs, shared_config(inputs), {**origin, "combined": recorded})
        size = sum(path.stat().st_size for path in new.iterdir())
    return CombineResult(
        adapters=parts,
        method=options.method,
        base=origin["base"],
        output=str(output),
        modules=module_fits(fits),
        notes=notes_on(inputs),
        bytes_written=size,
        seconds=time.perf_counter() - started,
        **figures,
    )


class _Combination:
    """What is to be combined, and how."""

    def __init__(
        self, inputs: Sequence[Input], weights: Sequence[float], options: CombineOptions
    ) -> None:
        self._inputs, self._weights, self._options = inputs, weights, options
        self._limit = options.limit(max(each.rank for each in inputs))

    def fits(self, report: Progress) -> dict[str, Fit]:
        """Return the pair of each module that any of the adapters changes."""
        modules = list(dict.fromkeys(module for each in self._inputs for module in each.pairs))
        fits = {}
        for done, module in enumerate(modules, 1):
            fits[module] = self._fit(module)
            report(done, len(modules))
        return fits

    def _fit(self, module: str) -> Fit:
        """Return one module's pair; an adapter that lacks the module does not change it."""
        pairs = {
            position: each.pairs[module]
            for position, each in enumerate(self._inputs)
            if module in each.pairs
        }
        if self._options.method not in PRUNING:
            return fit_factors(_side_by_side(pairs, self._weights), self._limit)
        changes = {position: pair.b @ pair.a for position, pair in pairs.items()}
        delta = combined_change(changes, self._weights, self._options, module)
        return nearest_pair(delta, self._limit)


def _side_by_side(pairs: Mapping[int, Factors], weights: Sequence[float]) -> Factors:
    """Return the pair whose product is the weighted sum of the pairs' products."""
    import torch

    lora_a = torch.cat([pair.a for pair in pairs.values()])
    lora_b = torch.cat([pair.b * weights[position] for position, pair in pairs.items()], dim=1)
    return Factors(lora_a, lora_b)


def _parts(inputs: Sequence[Input], weights: Sequence[float]) -> list[CombinedAdapter]:
    return [
        CombinedAdapter(each.name, each.digest, each.adapter.method, each.rank, weight)
        for each, weight in zip(inputs, weights, strict=True)
    ]


def _used(options: CombineOptions) -> dict[str, Any]:
    """Return the options that the method read."""
    used: dict[str, Any] = {"method": options.method}
    if options.method in PRUNING:
        used["density"] = options.density
    if options.method in VOTING:
        used["majority_sign_method"] = options.majority_sign_method or "total"
    if options.method in DRAWING:
        used["seed"] = options.seed or 0
    if options.method not in STACKED:
        used |= {"highest_rank": options.rank, "energy": options.energy}
    return used
