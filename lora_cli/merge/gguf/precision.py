"""How a file's numbers are held: as they lie, in half precision, or in blocks of 32 with a scale.

Blocks are rounded as the `gguf` package does it, which is llama.cpp's plain rounding: no importance
matrix, and no K-quants, which the package cannot make.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, get_args

from lora_cli.errors import ExportError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from gguf import GGMLQuantizationType, LlamaFileType

Precision = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"]
"""The names that llama.cpp's tools use."""

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
STORED: dict[str, Precision] = {"F32": "f32", "F16": "f16", "BF16": "bf16"}
"""safetensors' names, and the precision that loses nothing of them."""

ENDS = frozenset(["token_embd.weight", "output.weight"])
"""Embedding and head: held in no less than 8 bits, for they decide every token."""


def precision_of(dtypes: Iterable[str], place: str) -> Precision:
    """Return the precision that holds tensors of these dtypes without any loss.

    Raises:
        ExportError: there is none.
    """
    found = set(dtypes)
    if odd := sorted(found - STORED.keys()):
        message = f"holds {odd[0]}: only full-precision models are exported"
        raise ExportError(message, place)
    return STORED[found.pop()] if len(found) == 1 else "f32"


def kind_of(name: str, shape: tuple[int, ...], wanted: Precision) -> GGMLQuantizationType:
    """Return how a tensor is held: vectors in float32, rows that blocks do not fill in float16."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    if len(shape) < 2:
        return GGMLQuantizationType.F32
    kind = GGMLQuantizationType[wanted.upper()]
    if name in ENDS and wanted.startswith(("q4", "q5")):
        kind = GGMLQuantizationType.Q8_0
    block, _ = GGML_QUANT_SIZES[kind]
    return kind if shape[-1] % block == 0 else GGMLQuantizationType.F16


def file_type(wanted: Precision) -> LlamaFileType:
    """Return what llama.cpp calls a file that is mostly of this precision."""
    from gguf import LlamaFileType

    return LlamaFileType.ALL_F32 if wanted == "f32" else LlamaFileType[f"MOSTLY_{wanted.upper()}"]


def held(tensor: torch.Tensor, kind: GGMLQuantizationType, name: str) -> np.ndarray:
    """Return a tensor's bytes as a file holds them.

    Raises:
        ExportError: a number does not fit.
    """
    import numpy as np
    from gguf import GGMLQuantizationType, quants

    values = tensor.float().numpy()
    if not np.isfinite(values).all():
        raise ExportError(f"`{name}` holds values that are not finite")
    if kind == GGMLQuantizationType.F16 and np.abs(values).max(initial=0) > np.finfo("f2").max:
        hint = "name --type bf16 or f32"
        raise ExportError(f"`{name}` holds values that float16 cannot", hint=hint)
    bytes_: np.ndarray = quants.quantize(values, kind)
    return bytes_
