"""How numbers are held: rounded once, blocks right to a step, and nothing that does not fit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from lora_cli.errors import ExportError
from lora_cli.merge.gguf.precision import (
    PRECISIONS,
    Precision,
    file_type,
    held,
    kind_of,
    precision_of,
)


def back(tensor: torch.Tensor, precision: Precision) -> torch.Tensor:
    """Return what is left of a tensor once it has been held in a file."""
    from gguf import dequantize

    kind = kind_of("blk.0.attn_q.weight", tuple(tensor.shape), precision)
    return torch.from_numpy(dequantize(held(tensor, kind, "weight"), kind).copy())


@pytest.mark.parametrize(
    ("precision", "rounded"),
    [
        ("f32", lambda weight: weight),
        ("f16", lambda weight: weight.half().float()),
        ("bf16", lambda weight: weight.bfloat16().float()),
    ],
)
def test_half_precision_is_rounded_once(
    precision: Precision, rounded: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    weight = torch.randn(24, 64)
    assert torch.equal(back(weight, precision), rounded(weight))
    assert torch.equal(back(rounded(weight), precision), rounded(weight))


@pytest.mark.parametrize(
    ("precision", "steps"),
    [("q8_0", 127), ("q5_1", 31 / 2), ("q5_0", 16), ("q4_1", 15 / 2), ("q4_0", 8)],
)
def test_blocks_are_right_to_a_step(precision: Precision, steps: float) -> None:
    weight = torch.randn(24, 64)
    error = (back(weight, precision) - weight).abs().reshape(-1, 32)
    largest = weight.abs().reshape(-1, 32).amax(1, keepdim=True)
    # `steps` lie between 0 and a block's largest number; the last one of q4_0 and q5_0 has no
    # opposite, so that a number may be one step off; scales are rounded to float16 (2⁻¹¹)
    assert (error <= largest * (1.01 / steps + 2**-10)).all()
    assert (error > 0).any()


def test_what_is_no_matrix_and_what_blocks_do_not_fill() -> None:
    assert kind_of("output_norm.weight", (64,), "q4_0").name == "F32"
    assert kind_of("blk.0.ffn_up.weight", (64, 48), "q8_0").name == "F16"
    assert kind_of("output.weight", (99, 64), "q5_1").name == "Q8_0"
    assert kind_of("output.weight", (99, 64), "bf16").name == "BF16"


def test_every_precision_has_llama_cpp_s_name_for_the_file() -> None:
    names = [file_type(precision).name for precision in PRECISIONS]
    assert names[:3] == ["ALL_F32", "MOSTLY_F16", "MOSTLY_BF16"]
    assert names[3:] == [f"MOSTLY_{precision.upper()}" for precision in PRECISIONS[3:]]


def test_the_precision_that_loses_nothing() -> None:
    assert precision_of({"BF16"}, "place") == "bf16"
    assert precision_of({"BF16", "F16"}, "place") == "f32"
    with pytest.raises(ExportError, match="holds I8"):
        precision_of({"F32", "I8"}, "place")
