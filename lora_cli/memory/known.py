"""The values of integers on the meta device: what a step decides by.

Which tokens are supervised, where a mask hides something, where a document begins: a step looks at
such values and allocates accordingly. They come from the batch alone, so they are computed on the
CPU as well, beside the tensor that has none. What depends on weights is not known, with one
exception: the experts that a router chooses are taken to be chosen evenly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import ref

if TYPE_CHECKING:
    import torch

LARGEST = 1 << 26
"""Numbers of the largest tensor whose values are kept: the mask of 8192 tokens."""


class UnknownValueError(Exception):
    """A step decides by a value that only true weights would give."""


class KnownValues:
    """CPU copies of the storages of integer tensors on the meta device; views share them."""

    def __init__(self) -> None:
        self._storages: dict[int, tuple[Any, torch.UntypedStorage]] = {}

    def of(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """Return the tensor with its values, on the CPU; None if they are not known."""
        import torch

        held = self._storages.get(tensor.untyped_storage()._cdata)  # its identity
        if held is None:
            return None
        like = torch.empty(0, dtype=tensor.dtype)
        return like.set_(held[1], tensor.storage_offset(), tensor.shape, tensor.stride())

    def learn(self, tensor: torch.Tensor, value: torch.Tensor) -> None:
        """Keep `value`, on the CPU, as that of a tensor on the meta device with its own storage."""
        import torch

        storage = tensor.untyped_storage()
        copy = torch.UntypedStorage(storage.nbytes())  # type: ignore[no-untyped-call]
        key = storage._cdata
        forget = ref(storage, lambda _: self._storages.pop(key, None))
        self._storages[key] = (forget, copy)
        known = self.of(tensor)
        assert known is not None, "just kept"
        known.copy_(value)

    def forget(self, tensor: torch.Tensor) -> None:
        """Forget the values of a tensor that was written to."""
        self._storages.pop(tensor.untyped_storage()._cdata, None)

    def on_cpu(self, func: Callable[..., Any], arguments: Any, options: Any) -> Any:
        """Return what `func` gives for the values; None if one of them is not known."""
        import torch
        from torch.utils._pytree import tree_map

        unknown = False

        def valued(item: Any) -> Any:
            nonlocal unknown
            if isinstance(item, torch.Tensor) and item.device.type == "meta":
                value = self.of(item)
                unknown = unknown or value is None
                return value
            return torch.device("cpu") if isinstance(item, torch.device) else item

        arguments, options = tree_map(valued, (arguments, dict(options)))
        return None if unknown else func(*arguments, **options)
