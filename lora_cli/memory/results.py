"""What operations return on the meta device, worked out once for all layers of a shape.

torch works the shape of a result out anew each time, in Python for many operations. A model's
layers are alike: the second one asks for what the first one did.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils._pytree import tree_iter, tree_map_only

LAID_OUT_ANEW = {
    *("resize_", "resize_as_", "set_", "as_strided_"),
    *("t_", "transpose_", "squeeze_", "unsqueeze_", "swapaxes_", "swapdims_"),
}
"""What changes a tensor's shape or storage, not its numbers."""


class MetaResults:
    """Calls operations, and remembers what their results look like."""

    def __init__(self) -> None:
        self._looks: dict[Any, Any] = {}
        self._kinds: dict[Any, str] = {}

    def of(self, func: Any, args: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
        """Return what `func` returns."""
        kind = self._kinds.get(func)
        if kind is None:
            kind = self._kinds[func] = _kind(func)
        if kind == "writes" and args[0].is_meta:
            return args[0]
        if kind != "makes":
            return func(*args, **options)
        try:
            key = (func, _look(args), _look(tuple(options.items())))
            looks = self._looks.get(key)
        except TypeError:  # something that has no hash
            return func(*args, **options)
        if looks is None:
            made = func(*args, **options)
            if _is_new(made, args):
                self._looks[key] = tree_map_only(torch.Tensor, _Look, made)
            return made
        return looks.made() if isinstance(looks, _Look) else _remade(looks)


class _Look:
    """All of a tensor on the meta device but its storage."""

    __slots__ = ("dtype", "shape", "stride")

    def __init__(self, tensor: torch.Tensor) -> None:
        self.shape, self.stride, self.dtype = tensor.shape, tensor.stride(), tensor.dtype

    def made(self) -> torch.Tensor:
        return torch.empty_strided(self.shape, self.stride, dtype=self.dtype, device="meta")


def _remade(looks: Any) -> Any:
    return tree_map_only(_Look, _Look.made, looks)


def _kind(func: Any) -> str:
    """Return whether an operation writes to its first argument and returns it, or makes tensors."""
    schema = func._schema
    aliases = [each.alias_info for each in schema.returns]
    if torch.Tag.dynamic_output_shape in func.tags:
        return "other"
    if func.namespace == "aten" and len(aliases) == 1 and aliases[0] is not None:
        return "writes" if _returns_what_it_writes_to(func, aliases[0]) else "other"
    pure = not schema.is_mutable and all(alias is None for alias in aliases)
    return "makes" if pure and aliases else "other"


def _returns_what_it_writes_to(func: Any, returned: Any) -> bool:
    """Return whether an operation, such as `add_`, gives its first argument back as it was."""
    first = func._schema.arguments[0]
    changed = first.alias_info is not None and first.alias_info.is_write and returned.is_write
    name = func.overloadpacket.__name__
    in_place = name.endswith("_") and str(first.type) == "Tensor"
    return bool(changed and in_place and name not in LAID_OUT_ANEW)


def _look(item: Any) -> Any:
    """Return what an argument contributes to the look of a result."""
    if isinstance(item, torch.Tensor):
        if not item.is_meta:
            raise TypeError("a tensor with values")
        return (item.shape, item.stride(), item.dtype)
    if isinstance(item, list | tuple):
        return tuple(map(_look, item))
    return (type(item), item)


def _is_new(made: Any, args: Any) -> bool:
    """Return whether all of a result is on the meta device, in storages that it fills alone."""
    held = {
        item.untyped_storage()._cdata for item in tree_iter(args) if isinstance(item, torch.Tensor)
    }
    tensors = [item for item in tree_iter(made) if isinstance(item, torch.Tensor)]
    return bool(tensors) and all(
        each.is_meta
        and each.storage_offset() == 0
        and each.untyped_storage()._cdata not in held
        and each.untyped_storage().nbytes() == _extent(each)
        for each in tensors
    )


def _extent(tensor: torch.Tensor) -> int:
    """Return the bytes of the smallest storage that holds the tensor."""
    if tensor.numel() == 0:
        return 0
    last = sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
    return (last + 1) * tensor.element_size()
