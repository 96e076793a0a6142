"""What is said of pairs: each one's rank and error, and all of theirs together."""

from __future__ import annotations

import math

import pytest
import torch

from lora_cli.adapters.variant import Factors
from lora_cli.merge.fits import ModuleFit, figures_of, limit_error, module_fits
from lora_cli.merge.truncate import Fit, Limit


def fit(rank: int, lost: float, total: float) -> Fit:
    return Fit(Factors(torch.zeros(rank, 3), torch.zeros(2, rank)), lost, total)


def test_errors_add_up_as_squares() -> None:
    fits = {"a": fit(2, 1.0, 4.0), "b": fit(5, 0.0, 12.0)}
    assert module_fits(fits) == {"a": ModuleFit(2, 0.5), "b": ModuleFit(5, 0.0)}
    assert figures_of(fits) == {"exact": False, "rank": 5, "error": 0.25, "largest_error": 0.5}


def test_nothing_lost_is_exact() -> None:
    fits = {"a": fit(0, 0.0, 0.0), "b": fit(3, 0.0, 0.0)}
    assert figures_of(fits) == {"exact": True, "rank": 3, "error": 0.0, "largest_error": 0.0}


@pytest.mark.parametrize(("energy", "kept"), [(0.6, 1), (0.7, 2), (0.92, 2), (0.93, 3), (1.0, 3)])
def test_an_energy_is_a_share_of_the_squared_values(energy: float, kept: int) -> None:
    values = torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)  # squares 9, 4, 1: of 14
    assert limit_error(energy) == math.sqrt(1 - energy)
    assert Limit(error=limit_error(energy)).kept(values) == kept
