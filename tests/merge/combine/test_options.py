"""What can be asked of a combination; what is wrong is said, all at once."""

from __future__ import annotations

from typing import Any

import pytest

from lora_cli.errors import UsageError
from lora_cli.merge.combine.options import METHODS, PRUNING, STACKED, CombineOptions
from lora_cli.merge.truncate import Limit


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": "tiez"}, "`tiez` is no method to combine adapters (did you mean `ties`?"),
        ({"method": "mean"}, "methods: linear, cat, svd, ties, dare_linear, dare_ties"),
        ({"weights": (1.0, float("nan"))}, "are not all numbers"),
        ({"weights": (0.0, 0.0)}, "all weights are 0"),
        ({"method": "ties"}, "`ties` needs a density (the share of entries to keep"),
        ({"method": "ties", "density": 0.0}, "density 0 is not over 0 and up to 1"),
        ({"method": "dare_linear", "density": 1.5}, "density 1.5 is not over 0"),
        ({"method": "dare_ties", "density": float("nan")}, "density nan is not over 0"),
        ({"method": "svd", "density": 0.5}, "`svd` has no density (methods that do: ties,"),
        ({"method": "svd", "rank": 0}, "0 is no rank"),
        ({"method": "svd", "energy": 1.1}, "energy 1.1 is not over 0"),
        ({"method": "svd", "energy": 0}, "energy 0 is not over 0"),
        ({"method": "linear", "rank": 8}, "takes no rank and no energy (`svd` is the same sum"),
        ({"method": "cat", "energy": 0.9}, "`cat` keeps everything"),
        ({"method": "svd", "majority_sign_method": "total"}, "`svd` elects no sign"),
        ({"method": "svd", "seed": 0}, "draws nothing: it takes no seed (methods that do: dare"),
        (
            {"method": "ties", "density": 0.5, "majority_sign_method": "most"},
            "`most` is no way to elect a sign (total or frequency)",
        ),
    ],
)
def test_what_is_wrong_is_said_with_a_way_out(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        CombineOptions(**options)
    assert said in str(caught.value)
    assert all(problem.hint for problem in caught.value.problems)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        CombineOptions(method="ties", weights=(0.0,), rank=-1, energy=2.0)
    assert len(caught.value.problems) == 4


def test_every_method_is_one_of_three_families() -> None:
    assert {*STACKED, "svd", *PRUNING} == set(METHODS)


def test_weights_are_one_each_if_none_are_given() -> None:
    assert CombineOptions().weights_for(3) == (1.0, 1.0, 1.0)
    assert CombineOptions(weights=(0.5, -1.0)).weights_for(2) == (0.5, -1.0)
    with pytest.raises(UsageError, match=r"2 weights for 3 adapters \(give one for each"):
        CombineOptions(weights=(0.5, 1.0)).weights_for(3)


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ({"method": "linear"}, Limit()),
        ({"method": "cat"}, Limit()),
        ({"method": "svd"}, Limit(rank=16)),
        ({"method": "ties", "density": 0.2}, Limit(rank=16)),
        ({"method": "svd", "rank": 4}, Limit(rank=4)),
        ({"method": "svd", "energy": 0.75}, Limit(error=0.5)),
        ({"method": "svd", "energy": 0.75, "rank": 4}, Limit(4, 0.5)),
        ({"method": "svd", "into": "model"}, Limit()),
        ({"method": "ties", "density": 0.2, "into": "model"}, Limit()),
        ({"method": "svd", "rank": 4, "into": "model"}, Limit(rank=4)),
        ({"method": "svd", "energy": 0.75, "into": "model"}, Limit(error=0.5)),
    ],
)
def test_the_rank_of_an_adapter_is_its_parts_highest_if_nothing_is_asked_for(
    options: dict[str, Any], limit: Limit
) -> None:
    assert CombineOptions(**options).limit(16) == limit
