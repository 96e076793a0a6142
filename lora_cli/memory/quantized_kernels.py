"""What bitsandbytes' operations allocate on a device, in operations that the meta device knows.

Known to be so of bitsandbytes 0.50. Where its own code for a device is in Python, it is that which
runs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch

FUSED_ROWS = 1536
"""More rows than these are multiplied with the weight dequantised: `backends/cuda/ops.py`."""


def bitsandbytes_kernels(device: str) -> dict[Any, Callable[..., Any]]:
    """Return what its operations do on a device type; nothing where it is not imported."""
    if "bitsandbytes" not in sys.modules:
        return {}
    from bitsandbytes.backends.cpu import ops as cpu
    from bitsandbytes.backends.default import ops as default

    own = torch.ops.bitsandbytes
    on_both: dict[Any, Callable[..., Any]] = {
        own.int8_vectorwise_quant.default: _int8_rows,
        own.int8_mixed_scaled_mm.default: _int8_mixed,
    }
    if device == "cuda":
        return {own.gemm_4bit.default: _gemm_4bit_on_cuda, **on_both}
    return {
        own.gemm_4bit.default: default._gemm_4bit_default_impl,
        own.optimizer_update_32bit.default: cpu._optimizer_update_32bit_cpu,
        own.optimizer_update_8bit_blockwise.default: cpu._optimizer_update_8bit_blockwise_cpu,
        **on_both,
    }


def int8_product_on_cpu(  # noqa: PLR0917  # as bitsandbytes calls it
    inputs: Any,
    weight: Any,
    out: Any = None,
    state: Any = None,
    threshold: float = 0.0,
    bias: Any = None,
) -> Any:
    """Choose bitsandbytes' product as it does for a tensor on the CPU."""
    from bitsandbytes.autograd import _functions

    state.threshold = threshold if threshold > 0 else state.threshold
    kind = _functions.MatMul8bitFp if state.is_training else _functions.MatMul8bitLt
    return kind.apply(inputs, weight, out, bias, state)


def copied_4bit(weight: Any, memo: Any) -> Any:
    """Return a copy of a 4-bit weight; bitsandbytes' own begins on the CPU, and cannot leave it."""
    names = ("blocksize", "compress_statistics", "quant_type", "quant_storage", "bnb_quantized")
    kept = {name: getattr(weight, name) for name in names}
    return type(weight)(weight.data.clone(), quant_state=deepcopy(weight.quant_state, memo), **kept)


def _gemm_4bit_on_cuda(*arguments: Any, **options: Any) -> Any:
    """Multiply in one kernel, or with the weight dequantised where there are many rows."""
    from bitsandbytes.backends.default import ops

    inputs, _, shape, _, blocksize = arguments[:5]
    rows = inputs.numel() // inputs.shape[-1]
    if rows <= FUSED_ROWS and inputs.shape[-1] % blocksize == 0:
        return inputs.new_empty(*inputs.shape[:-1], shape[0])
    return ops._gemm_4bit_default_impl(*arguments, **options)


def _int8_rows(values: torch.Tensor, threshold: float = 0.0) -> tuple[Any, Any, Any]:
    """Quantize row by row; where outliers are left out, none is found: that depends on values."""
    rows = values.new_empty(values.shape, dtype=torch.int8)
    scales = values.new_empty(values.numel() // values.shape[-1], dtype=torch.float32)
    outliers = values.new_empty(0, dtype=torch.int64) if threshold > 0 else None
    return rows, scales, outliers


def _int8_mixed(*arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Multiply in int8: a product in int32, then its scaled copy."""
    values, rows, weight, row_scales, weight_scales = arguments[:5]
    bias = arguments[6] if len(arguments) > 6 else None  # what is None may be left out
    product = values.new_empty(*rows.shape[:-1], weight.shape[0], dtype=torch.int32)
    scaled = torch.ops.bitsandbytes.int8_mm_dequant.default(
        product, row_scales, weight_scales, values.dtype, bias
    )
    return scaled, values.new_empty(0)
