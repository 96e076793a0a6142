"""Folding one update into one weight, and one shard of a file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lora_cli.errors import MergeError
from lora_cli.merge.adapter_folder import Update
from lora_cli.merge.fold import WeightUpdate, fold, fold_shard


def update(
    inputs: int, outputs: int, *, scaling: float = 0.5, input_by_output: bool = False
) -> WeightUpdate:
    torch.manual_seed(0)
    pair = torch.randn(2, inputs), torch.randn(outputs, 2)
    return WeightUpdate(Update(*pair, scaling), input_by_output)


def delta_of(weight_update: WeightUpdate) -> torch.Tensor:
    pair = weight_update.update
    return pair.scaling * (pair.lora_b.double() @ pair.lora_a.double())


def test_the_update_is_added() -> None:
    weight, change = torch.randn(5, 3), update(3, 5)
    folded = fold(weight, change, "w")
    torch.testing.assert_close(folded.double(), weight.double() + delta_of(change))


def test_a_weight_that_is_input_by_output_gets_it_transposed() -> None:
    for inputs, outputs in ((3, 5), (4, 4)):
        weight, change = torch.zeros(inputs, outputs), update(inputs, outputs, input_by_output=True)
        torch.testing.assert_close(fold(weight, change, "w").double(), delta_of(change).T)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_sum_is_rounded_once(dtype: torch.dtype) -> None:
    """Rounding ΔW before adding it would be a second rounding, and another result."""
    weight, change = torch.randn(64, 64).to(dtype), update(64, 64)
    folded = fold(weight, change, "w")
    assert folded.dtype == dtype
    pair = change.update
    delta = (pair.lora_b @ pair.lora_a) * pair.scaling
    assert folded.equal((weight.float() + delta).to(dtype))
    assert not folded.equal(weight + delta.to(dtype))


def test_float64_weights_keep_their_precision() -> None:
    weight = torch.full((2, 2), 1.0 + 2**-40, dtype=torch.float64)
    nothing = WeightUpdate(Update(torch.zeros(1, 2), torch.zeros(2, 1), 1.0), False)
    assert fold(weight, nothing, "w").equal(weight)


def test_pairs_in_lower_precision_are_multiplied_in_float32() -> None:
    full = update(16, 16).update
    low = Update(full.lora_a.bfloat16(), full.lora_b.bfloat16(), 0.5)
    widened = Update(low.lora_a.float(), low.lora_b.float(), 0.5)
    weight = torch.randn(16, 16)
    folded = [fold(weight, WeightUpdate(pair, False), "w") for pair in (low, widened)]
    assert folded[0].equal(folded[1])


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(MergeError, match=r"`w` \(5, 3\) does not fit the base's \(3, 5\)"):
        fold(torch.zeros(3, 5), update(3, 5), "w")
    with pytest.raises(MergeError, match=r"`w` is int8: only full-precision bases"):
        fold(torch.zeros(5, 3, dtype=torch.int8), update(3, 5), "w")


def test_a_sum_beyond_the_dtype_is_an_error() -> None:
    change = update(3, 5, scaling=1e6)
    assert fold(torch.zeros(5, 3), change, "w").isfinite().all()
    with pytest.raises(MergeError, match="`w` is no longer finite"):
        fold(torch.zeros(5, 3, dtype=torch.float16), change, "w")


def test_a_shard_changes_where_it_should_and_nowhere_else(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(5, 3), "b": torch.randn(4), "c": torch.ones(2, dtype=torch.int64)}
    save_file(tensors, tmp_path / "base", metadata={"format": "pt", "origin": "here"})
    count, changed = fold_shard(
        tmp_path / "base", tmp_path / "merged", {"a": update(3, 5), "elsewhere": update(3, 5)}
    )
    assert (count, changed) == (3, {"a"})
    merged = load_file(tmp_path / "merged")
    assert merged.keys() == tensors.keys()
    assert merged["a"].equal(fold(tensors["a"], update(3, 5), "a"))
    assert all(merged[name].equal(tensors[name]) for name in "bc")
    with safe_open(tmp_path / "merged", framework="pt") as file:
        assert file.metadata() == {"format": "pt", "origin": "here"}


def test_a_shard_without_metadata_says_what_it_is(tmp_path: Path) -> None:
    save_file({"b": torch.zeros(1)}, tmp_path / "base")
    fold_shard(tmp_path / "base", tmp_path / "merged", {})
    with safe_open(tmp_path / "merged", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}
