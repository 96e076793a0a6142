"""Which attention kernel a device would choose, and what that one allocates.

On the meta device, torch computes attention in plain steps, and a square of scores for every head.
The kernels below are torch's own: only the choice is made here.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend

aten = torch.ops.aten
ALIGNED = 16
"""A row of a mask is padded to a multiple of these for the memory-efficient kernel."""


def attention_on_cpu(  # noqa: PLR0913, PLR0917  # as torch calls it
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """Return attention by the kernel that torch itself chooses for such tensors on the CPU."""
    options: dict[str, Any] = {"scale": scale, "enable_gqa": enable_gqa}
    likes = [_like_on_cpu(each) for each in (query, key, value, attn_mask)]
    choose: Any = torch._fused_sdp_choice
    flash: Any = SDPBackend.FLASH_ATTENTION
    mask = _added(attn_mask, query)
    if choose(*likes, dropout_p, is_causal, **options) == int(flash):
        return aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, dropout_p, is_causal, attn_mask=mask, scale=scale
        )[0]
    return _in_plain_steps(query, key, value, mask, dropout_p, is_causal, options)


def _like_on_cpu(tensor: torch.Tensor | None) -> torch.Tensor | None:
    """Return a tensor that differs in its values only; memory is not touched, and so not taken."""
    if tensor is None:
        return None
    like = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)
    return like.requires_grad_(tensor.requires_grad)


def attention_on_cuda(  # noqa: PLR0913, PLR0917  # as torch calls it
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """Return attention by the kernel of an NVIDIA GPU since Ampere.

    Flash attention where there is no mask, in 16 bits; else the memory-efficient kernel, which
    knows no grouped queries; else plain steps. cuDNN's kernel is taken for one of the first two.
    """
    grouped = enable_gqa and query.shape[1] != key.shape[1]
    in_16_bits = query.dtype in (torch.bfloat16, torch.float16)
    sizes = {each.shape[-1] for each in (query, key, value)}
    if attn_mask is None and in_16_bits and len(sizes) == 1 and max(sizes) <= 256:
        return _flash(query, key, value, dropout_p, is_causal=is_causal, scale=scale)
    mask = _added(attn_mask, query)
    if not grouped and all(size % (8 if in_16_bits else 4) == 0 for size in sizes):
        learns = any(each.requires_grad for each in (query, key, value))
        return aten._scaled_dot_product_efficient_attention(
            query,
            key,
            value,
            _padded(mask, query, key),
            learns and torch.is_grad_enabled(),
            dropout_p,
            is_causal,
            scale=scale,
        )[0]
    options = {"scale": scale, "enable_gqa": enable_gqa}
    return _in_plain_steps(query, key, value, mask, dropout_p, is_causal, options)


def _in_plain_steps(*arguments: Any) -> Any:
    *tensors_and_numbers, options = arguments
    return aten._scaled_dot_product_attention_math(*tensors_and_numbers, None, **options)[0]


def _flash(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    dropout: float,
    *,
    is_causal: bool,
    scale: float | None,
) -> Any:
    """Return flash attention; the heads' size is padded to a multiple of 8."""
    size = query.shape[-1]
    scale = size**-0.5 if scale is None else scale
    if missing := -size % 8:
        query, key, value = (functional.pad(each, (0, missing)) for each in (query, key, value))
    seen = aten._scaled_dot_product_flash_attention(
        query, key, value, dropout, is_causal, False, scale=scale
    )[0]
    return seen[..., :size] if missing else seen


def _added(mask: torch.Tensor | None, query: torch.Tensor) -> torch.Tensor | None:
    """Return a mask to add to scores, of a boolean one that tells what is seen."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    added = torch.zeros_like(mask, dtype=query.dtype)
    return added.masked_fill_(mask.logical_not(), float("-inf"))


def _padded(
    mask: torch.Tensor | None, query: torch.Tensor, key: torch.Tensor
) -> torch.Tensor | None:
    if mask is None:
        return None
    length = mask.shape[-1]
    if missing := -length % ALIGNED:
        mask = functional.pad(mask, (0, missing))[..., :length]
    return mask.expand(*query.shape[:3], key.shape[2])
