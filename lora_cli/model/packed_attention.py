"""Attention inside each document of a row, and nowhere else.

transformers finds the documents of a row by positions that restart, and masks everything between
them: a square of mostly nothing, which a kernel computes all the same; and some architectures
forget to look (GPT-OSS and OPT in 5.23). Here the architecture's own kernel is given one document
after the other, and never two at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

BY_DOCUMENT = {"eager": "eager_by_document", "sdpa": "sdpa_by_document"}
"""Kernel → its name in transformers where it goes document by document.

Flash attention is not among them: it finds the documents by itself, from positions that restart."""

_positions: ContextVar[torch.Tensor | None] = ContextVar("positions", default=None)
"""Of the tokens that the model is reading, if it was told."""


@dataclass(frozen=True, slots=True)
class Documents:
    """What the tokens of one row see; stands where a mask would."""

    borders: Sequence[tuple[int, int]]
    """The first token of each document, and the one after its last."""
    mask: torch.Tensor | None
    """Of the longest, (1, 1, tokens, tokens), as the kernel takes it; the upper left corner is the
    mask of a shorter one. None: a token sees all before it."""

    def mask_of(self, length: int) -> torch.Tensor | None:
        """Return the mask of a document of `length` tokens."""
        return None if self.mask is None else self.mask[..., :length, :length]


def attend_by_document(model: Any, kernel: str) -> None:
    """Let a model with this kernel, adapted or not, tell the documents of a row apart.

    Rows with an attention mask are read as before.
    """
    name = BY_DOCUMENT.get(kernel)
    if name is None:
        return
    _register(kernel, name)
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    base.set_attn_implementation(name)
    model.register_forward_pre_hook(_note_positions, with_kwargs=True)


def _register(kernel: str, name: str) -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import eager_mask, sdpa_mask

    if kernel == "eager":
        AttentionInterface.register(name, _by_document(_own_eager))
        AttentionMaskInterface.register(name, _documents_or(eager_mask, additive=True))
    else:
        AttentionInterface.register(name, _by_document(lambda _module: sdpa_attention_forward))
        AttentionMaskInterface.register(name, _documents_or(sdpa_mask, additive=False))


def _own_eager(module: Any) -> Callable[..., Any]:
    """Return the architecture's eager attention: each file of transformers has its own."""
    attend: Callable[..., Any] = sys.modules[type(module).__module__].eager_attention_forward
    return attend


def _note_positions(_model: Any, _arguments: Any, options: dict[str, Any]) -> None:
    packed = options.get("attention_mask") is None
    _positions.set(options.get("position_ids") if packed else None)


def _by_document(kernel_of: Callable[[Any], Callable[..., Any]]) -> Callable[..., Any]:
    def attend(  # noqa: PLR0917  # as transformers calls it
        module: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | Documents | None,
        **options: Any,
    ) -> Any:
        """Return (what is seen, (rows, tokens, heads, size); the weights, if there is one mask)."""
        import torch

        kernel = kernel_of(module)
        if not isinstance(attention_mask, Documents):
            return kernel(module, query, key, value, attention_mask, **options)
        seen = []
        for first, end in attention_mask.borders:
            states = (each[:, :, first:end] for each in (query, key, value))
            mask = attention_mask.mask_of(end - first)
            seen.append(kernel(module, *states, mask, **options)[0])
        return torch.cat(seen, dim=1), None

    return attend


def _documents_or(plain: Callable[..., Any], *, additive: bool) -> Callable[..., Any]:
    def mask(mask_function: Callable[..., torch.Tensor], **options: Any) -> Any:
        """Return the documents of a row whose positions are known; else the plain mask."""
        positions = _positions.get()
        square = (1, options["q_length"]) == (options["batch_size"], options["kv_length"])
        if positions is None or not square or options.get("use_vmap"):
            return plain(mask_function=mask_function, **options)
        return _documents(mask_function, positions[0], options["dtype"] if additive else None)

    return mask


def _documents(
    sees: Callable[..., torch.Tensor], positions: torch.Tensor, dtype: torch.dtype | None
) -> Documents:
    """Return the documents of a row, in which one begins wherever a position is not the next.

    `sees(row, head, token, other)` tells by index whether a token sees another. With a `dtype` the
    mask is one to add; else it is boolean, and left out where a token sees all before it.
    """
    import torch

    first = (positions.diff() != 1).nonzero().flatten() + 1
    borders = list(pairwise([0, *first.tolist(), len(positions)]))
    start, end = max(borders, key=lambda border: border[1] - border[0])
    here = torch.zeros((), dtype=torch.int64, device=positions.device)
    longest = torch.arange(start, end, device=positions.device)
    mask = sees(here, here, longest[:, None], longest[None, :])
    if dtype is not None:
        added = torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)
        return Documents(borders, added[None, None])
    all_before = bool(mask.equal(torch.ones_like(mask).tril()))
    return Documents(borders, None if all_before else mask[None, None])
