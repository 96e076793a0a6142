"""What is said of pairs that stand for changes of weights: ranks and errors, each and all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict

from lora_cli.merge.canonical import uniform_rank
from lora_cli.merge.truncate import Fit


@dataclass(frozen=True)
class ModuleFit:
    """What one module's pair came to: its rank before padding, and its relative error."""

    rank: int
    error: float


class Figures(TypedDict):
    """What is said of all pairs together."""

    exact: bool
    rank: int
    """The rank that all pairs are padded to."""
    error: float
    """‖ΔW − B·A‖ / ‖ΔW‖ over all modules, in the Frobenius norm."""
    largest_error: float
    """The same for the module where it is largest."""


def module_fits(fits: Mapping[str, Fit]) -> dict[str, ModuleFit]:
    """Return each module's rank and error."""
    return {module: ModuleFit(fit.rank, fit.error) for module, fit in fits.items()}


def figures_of(fits: Mapping[str, Fit]) -> Figures:
    """Return what is said of all pairs, in a result and in `loracli.json`."""
    lost, total = sum(fit.lost for fit in fits.values()), sum(fit.total for fit in fits.values())
    return {
        "exact": lost == 0,
        "rank": uniform_rank({module: fit.pair for module, fit in fits.items()}),
        "error": math.sqrt(lost / total) if lost else 0.0,
        "largest_error": max(fit.error for fit in fits.values()),
    }


def limit_error(energy: float) -> float:
    """Return the relative error at which a share of the squared singular values is kept."""
    return math.sqrt(1 - energy)
