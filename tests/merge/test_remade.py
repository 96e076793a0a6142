"""Sums are made in float32, or finer where the base is, and rounded once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from lora_cli.errors import MergeError
from lora_cli.facts.weight_files import SINGLE
from lora_cli.merge import remade
from lora_cli.merge.adapter_folder import Update
from lora_cli.merge.checkpoint import StoredTensor, open_checkpoint
from lora_cli.merge.remade import Cast, Folded, Given, check_float


def stored(folder: Path, tensor: torch.Tensor) -> StoredTensor:
    """Return a tensor that lies in a file."""
    save_file({"w": tensor}, folder / SINGLE)
    return open_checkpoint(folder).tensors["w"]


def update(inputs: int, outputs: int, *, scaling: float = 0.5) -> Update:
    return Update(torch.randn(2, inputs), torch.randn(outputs, 2), scaling)


def whole(rewrite: Any) -> torch.Tensor:
    """Return what a rewrite gives, its rows put together; each piece begins where the last ends."""
    pieces = [(name, first, values.clone()) for name, first, values in rewrite.rows()]
    assert [first for _, first, _ in pieces] == [
        sum(len(values) for _, _, values in pieces[:number]) for number in range(len(pieces))
    ]
    return torch.cat([values for _, _, values in pieces])


def fold(folder: Path, weight: torch.Tensor, change: Update, dtype: Any = None) -> torch.Tensor:
    return whole(Folded(stored(folder, weight), change, dtype or weight.dtype))


@pytest.mark.parametrize("at_once", [1, 7, 1 << 19])
def test_the_update_is_added_whatever_the_rows_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(remade, "ROWS_HOLD", at_once)
    weight, change = torch.randn(5, 3), update(3, 5)
    due = weight.double() + 0.5 * (change.lora_b.double() @ change.lora_a.double())
    torch.testing.assert_close(fold(tmp_path, weight, change).double(), due)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_sum_is_rounded_once(tmp_path: Path, dtype: torch.dtype) -> None:
    """Rounding ΔW before adding it would be a second rounding, and another result."""
    weight, change = torch.randn(64, 64).to(dtype), update(64, 64)
    folded = fold(tmp_path, weight, change)
    assert folded.dtype == dtype
    delta = (change.lora_b @ change.lora_a) * change.scaling
    assert folded.equal((weight.float() + delta).to(dtype))
    assert not folded.equal(weight + delta.to(dtype))


def test_a_sum_in_another_type_is_rounded_once_too(tmp_path: Path) -> None:
    weight, change = torch.randn(64, 64), update(64, 64)
    full = fold(tmp_path, weight, change)
    assert fold(tmp_path, weight, change, torch.bfloat16).equal(full.bfloat16())


def test_float64_weights_keep_their_precision(tmp_path: Path) -> None:
    weight = torch.full((2, 2), 1.0 + 2**-40, dtype=torch.float64)
    nothing = Update(torch.zeros(1, 2), torch.zeros(2, 1), 1.0)
    assert fold(tmp_path, weight, nothing).equal(weight)


def test_pairs_in_lower_precision_are_multiplied_in_float32(tmp_path: Path) -> None:
    full = update(16, 16)
    low = Update(full.lora_a.bfloat16(), full.lora_b.bfloat16(), 0.5)
    widened = Update(low.lora_a.float(), low.lora_b.float(), 0.5)
    weight = torch.randn(16, 16)
    assert fold(tmp_path, weight, low).equal(fold(tmp_path, weight, widened))


def test_a_sum_beyond_the_type_is_an_error(tmp_path: Path) -> None:
    change = update(3, 5, scaling=1e6)
    assert fold(tmp_path, torch.zeros(5, 3), change).isfinite().all()
    with pytest.raises(MergeError, match="`w` is no longer finite"):
        fold(tmp_path, torch.zeros(5, 3, dtype=torch.float16), change)


def test_what_is_no_float_cannot_be_added_to(tmp_path: Path) -> None:
    with pytest.raises(MergeError, match="`w` is int8: only full-precision bases"):
        check_float(stored(tmp_path, torch.zeros(2, dtype=torch.int8)))


@pytest.mark.parametrize("shape", [(), (3,), (5, 3), (0, 3)])
@pytest.mark.parametrize("at_once", [1, 1 << 19])
def test_what_is_only_rounded_is_rounded_as_torch_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], at_once: int
) -> None:
    monkeypatch.setattr(remade, "ROWS_HOLD", at_once)
    weight = torch.randn(shape)
    rows = list(Cast(stored(tmp_path, weight), torch.bfloat16).rows())
    given = rows[0].values if not shape else torch.cat([each.values for each in rows] or [weight])
    assert given.reshape(shape).to(torch.bfloat16).equal(weight.bfloat16())


def test_what_the_adapter_brings_is_given_in_the_type_that_is_written() -> None:
    (rows,) = Given("head", torch.ones(2, 3), torch.float16).rows()
    assert (rows.name, rows.first) == ("head", 0)
    assert rows.values.equal(torch.ones(2, 3, dtype=torch.float16))
