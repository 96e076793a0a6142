"""A checkpoint's tensors by GGUF's names, and their rows in llama.cpp's order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from lora_cli.errors import ExportError
from lora_cli.merge.gguf.architecture import Architecture

if TYPE_CHECKING:
    import torch

QUERY, KEY = ".attn_q.", ".attn_k."
SUFFIXES = (".weight", ".bias")


def gguf_names(
    names: Iterable[str], architecture: Architecture, layers: int, place: str
) -> dict[str, str]:
    """Return GGUF's name of each tensor.

    Raises:
        ExportError: a tensor has none.
    """
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    kind = next(kind for kind, name in MODEL_ARCH_NAMES.items() if name == architecture.name)
    known = get_tensor_name_map(kind, layers)
    found = {name: known.get_name(name, try_suffixes=SUFFIXES) for name in names}
    if lost := [name for name, there in found.items() if there is None]:
        message = f"`{lost[0]}` has no place in a `{architecture.name}` file"
        raise ExportError(message, place, "merge the adapter, and export the merged model")
    return found


def in_gguf_order(
    tensor: torch.Tensor, name: str, architecture: Architecture, config: Any
) -> torch.Tensor:
    """Return a tensor (out, …) with its rows as llama.cpp has them.

    transformers turns row i of a head together with row i + size/2; llama.cpp's `llama` turns
    neighbours, 2i with 2i + 1.
    """
    if not architecture.interleaved_rotary or not (QUERY in name or KEY in name):
        return tensor
    heads = config.num_attention_heads if QUERY in name else config.num_key_value_heads
    halves = tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, *tensor.shape[1:])
    return halves.transpose(1, 2).reshape(tensor.shape)
