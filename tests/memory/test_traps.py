"""What the meta device does otherwise than a real one, each mended: one test a trap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional

from lora_cli.memory.kernels import kernels_of
from lora_cli.memory.known import UnknownValueError
from lora_cli.memory.mode import SimulatedDevice
from lora_cli.memory.places import Places
from lora_cli.memory.quantized_kernels import FUSED_ROWS, bitsandbytes_kernels
from lora_cli.memory.trace import Storage
from lora_cli.memory.tracker import Storages

META = torch.device("meta")


def made(device: str, what: Callable[[], Any]) -> list[Storage]:
    """Return the storages that `what` makes where the meta device is taken for a device type."""
    storages = Storages()
    mode = SimulatedDevice(storages, Places({}, ()), bitsandbytes_kernels(device))
    with kernels_of(device), mode:
        what()
    return list(storages.trace().storages)


def names(storages: list[Storage]) -> set[str]:
    return {storage.name for storage in storages}


def heads(dtype: torch.dtype = torch.bfloat16, count: int = 4, size: int = 64) -> torch.Tensor:
    return torch.empty(2, count, 100, size, dtype=dtype, device=META, requires_grad=True)


def attend(*tensors: torch.Tensor, **options: Any) -> Callable[[], torch.Tensor]:
    return lambda: functional.scaled_dot_product_attention(*tensors, **options)


def test_attention_without_a_mask_is_flash_attention_on_a_gpu() -> None:
    found = made("cuda", attend(heads(), heads(), heads(), is_causal=True))
    assert "_scaled_dot_product_flash_attention" in names(found)
    assert max(each.size for each in found) == 2 * 4 * 100 * 64 * 2, "no square of scores"


def test_a_mask_or_float32_takes_the_memory_efficient_kernel() -> None:
    mask = torch.ones(2, 1, 100, 100, dtype=torch.bool, device=META)
    found = made("cuda", attend(heads(), heads(), heads(), attn_mask=mask))
    assert "_scaled_dot_product_efficient_attention" in names(found)
    padded = [each.size for each in found if each.name == "constant_pad_nd"]
    assert padded == [2 * 100 * 112 * 2], "rows of 100 are padded to 112, in bfloat16"
    wide = heads(torch.float32)
    found = made("cuda", attend(wide, wide, wide, is_causal=True))
    assert "_scaled_dot_product_efficient_attention" in names(found)


def test_grouped_queries_in_float32_are_computed_in_plain_steps_on_a_gpu() -> None:
    query, key = heads(torch.float32), heads(torch.float32, count=2)
    found = made("cuda", attend(query, key, key, is_causal=True, enable_gqa=True))
    assert any("softmax" in name for name in names(found))


def test_the_cpu_has_an_attention_kernel_of_its_own() -> None:
    found = made("cpu", attend(heads(), heads(), heads(), is_causal=True))
    assert "_scaled_dot_product_flash_attention_for_cpu" in names(found)


@pytest.mark.parametrize(("device", "bytes_each"), [("cuda", 1), ("cpu", 2)])
def test_the_mask_of_dropout(device: str, bytes_each: int) -> None:
    values = torch.empty(50, 10, dtype=torch.bfloat16, device=META, requires_grad=True)
    kept: list[Any] = []
    found = made(device, lambda: kept.append(functional.dropout(values, 0.1)))
    assert sum(each.size for each in found if each.size == 500 * bytes_each) > 0
    assert 500 * 4 not in [each.size for each in found]


@pytest.mark.parametrize(("device", "at_once"), [("cuda", True), ("cpu", False)])
def test_adamw_goes_over_all_tensors_at_once_on_a_gpu(device: str, at_once: bool) -> None:
    weights = [torch.nn.Parameter(torch.empty(100, device=META)) for _ in range(3)]

    def step() -> None:
        optimizer = torch.optim.AdamW(weights)
        for weight in weights:
            weight.grad = torch.empty_like(weight)
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()

    found = names(made(device, step))
    assert ("_foreach_sqrt" in found) == at_once
    assert "_foreach_norm" in found, "clipping does, on either device"


def test_values_of_integers_decide() -> None:
    outcomes: list[Any] = []

    def step() -> None:
        mask = torch.tensor([[1, 1, 1], [1, 0, 0]]).to(META)
        outcomes.append(bool(mask.all()))
        outcomes.append(bool(mask[0].all()))  # a view knows them too
        mask[1] = 1
        outcomes.append(bool(mask.bool().all()))  # and a write is not missed
        outcomes.append((torch.arange(7, device=META) % 3 == 0).nonzero().shape)
        outcomes.append(mask.tolist())

    made("cuda", step)
    assert outcomes == [False, True, True, (3, 1), [[1, 1, 1], [1, 1, 1]]]


def test_a_choice_that_only_weights_decide_is_no_guess() -> None:
    def step() -> None:
        if (torch.empty(3, device=META) > 0).all():
            raise AssertionError

    with pytest.raises(UnknownValueError, match=r"_local_scalar_dense.*asks for a value"):
        made("cuda", step)


def test_a_number_of_weights_passes_the_guards() -> None:
    numbers: list[float] = []
    made("cuda", lambda: numbers.append(torch.empty(3, device=META).norm().item()))
    assert numbers == [1.0]


def test_indexing_with_a_mask_takes_what_the_mask_leaves() -> None:
    shapes: list[Any] = []

    def step() -> None:
        logits = torch.empty(2, 3, 5, device=META, requires_grad=True)
        mask = torch.tensor([[True, False, True], [False, False, True]]).to(META)
        chosen = logits[mask]
        shapes.append(tuple(chosen.shape))
        chosen.sum().backward()
        shapes.append(tuple(logits.grad.shape))  # type: ignore[union-attr]

    made("cuda", step)
    assert shapes == [(3, 5), (2, 3, 5)]


def test_a_router_spreads_tokens_evenly() -> None:
    counts: list[list[int]] = []

    def step() -> None:
        _, experts = torch.empty(8, 4, device=META).topk(2, dim=-1)
        counts.append(experts.flatten().bincount(minlength=4).tolist())

    made("cuda", step)
    assert counts == [[4, 4, 4, 4]]


@pytest.mark.parametrize("rows", [FUSED_ROWS, FUSED_ROWS + 1])
def test_many_rows_are_multiplied_with_the_weight_dequantised(rows: int) -> None:
    from bitsandbytes.functional import quantize_4bit
    from bitsandbytes.nn import Linear4bit  # noqa: F401  # its operations are registered

    sizes: list[int] = []

    def step() -> None:
        weight = torch.empty(128, 256, dtype=torch.bfloat16, device=META)
        packed, state = quantize_4bit(weight, compress_statistics=True, quant_type="nf4")
        sizes.append(packed.nbytes)
        inputs = torch.empty(rows, 256, dtype=torch.bfloat16, device=META)
        torch.ops.bitsandbytes.gemm_4bit(
            inputs,
            packed,
            state.shape,
            state.state2.absmax,
            state.blocksize,
            "nf4",
            absmax_8bit=state.absmax,
            absmax_code=state.state2.code,
            absmax_offset=state.offset,
        )

    found = made("cuda", step)
    assert sizes == [128 * 256 // 2]
    assert ("dequantize_4bit" in names(found)) == (rows > FUSED_ROWS)


def test_nothing_of_it_stays() -> None:
    from bitsandbytes.functional import quantize_4bit

    made("cuda", lambda: quantize_4bit(torch.empty(128, 64, device=META), compress_statistics=True))
    values = heads()
    seen = functional.scaled_dot_product_attention(values, values, values)
    assert "Flash" not in type(seen.grad_fn).__name__
    assert "Native" not in type(functional.dropout(values, 0.1).grad_fn).__name__
    packed, state = quantize_4bit(torch.ones(128, 64), compress_statistics=True)
    assert packed.device.type == state.state2.code.device.type == "cpu"
