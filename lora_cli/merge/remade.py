"""The two ways in which a changed tensor is made: rows of a plain LoRA, and all that peft merges.

Both add in float32, or finer where the base is, and round once, to the type that is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, prod
from typing import TYPE_CHECKING

from lora_cli.errors import MergeError
from lora_cli.merge.adapter_folder import Update
from lora_cli.merge.checkpoint import FLOATS, TORCH_NAMES, StoredTensor
from lora_cli.merge.storage import Storage
from lora_cli.merge.writing import Rows

if TYPE_CHECKING:
    import torch

    from lora_cli.merge.adapted import AdaptedModule

ROWS_HOLD = 1 << 18
"""Numbers of a weight that are in work at once: fewer cost more calls than the cache saves.

Memory that is taken anew for each would cost more than the products: it is taken once a tensor.
"""

WHOLE_ROWS = 16
"""Blocks of so many rows are multiplied as the whole matrix would be, to the last bit."""


def own_dtype(stored: StoredTensor) -> torch.dtype:
    """Return a stored tensor's type as torch's."""
    import torch

    dtype: torch.dtype = getattr(torch, TORCH_NAMES[stored.dtype])
    return dtype


def finer_than(dtype: torch.dtype) -> torch.dtype:
    """Return the type in which numbers of `dtype` are added to."""
    import torch

    return torch.promote_types(dtype, torch.float32)


def check_float(stored: StoredTensor) -> None:
    """Check that a tensor can be added to.

    Raises:
        MergeError: its numbers are not floats of at least 16 bits.
    """
    if stored.dtype not in FLOATS:
        held = TORCH_NAMES.get(stored.dtype, stored.dtype)
        message = f"`{stored.name}` is {held}: only full-precision bases are merged"
        raise MergeError(message, str(stored.file))


@dataclass(frozen=True, slots=True)
class Folded:
    """W + s·B·A of one linear layer, whose W (out, in) lies in the file as it is."""

    weight: StoredTensor
    update: Update
    dtype: torch.dtype

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the tensors it makes."""
        return (self.weight.name,)

    def rows(self) -> Iterator[Rows]:
        """Give the new weight, a few rows at a time.

        Raises:
            MergeError: it is no longer finite.
        """
        import torch

        lora_a, lora_b = self.update.lora_a.float(), self.update.lora_b.float()
        outputs, inputs = self.weight.shape
        step = min(outputs, max(1, ROWS_HOLD // inputs // WHOLE_ROWS) * WHOLE_ROWS)
        delta = torch.empty(step, inputs)
        exact = torch.empty(step, inputs, dtype=finer_than(own_dtype(self.weight)))
        rounded = torch.empty(step, inputs, dtype=self.dtype)
        for first, weight in self.weight.blocks(step):
            count = weight.shape[0]
            if count < step:  # the last rows
                delta, exact, rounded = delta[:count], exact[:count], rounded[:count]
            torch.mm(lora_b[first : first + count], lora_a, out=delta)
            exact.copy_(weight).add_(delta.mul_(self.update.scaling))
            rounded.copy_(exact)
            check_finite(rounded, self.weight.name, [self.weight])
            yield Rows(self.weight.name, first, rounded)


@dataclass(frozen=True, slots=True)
class Remade:
    """Parameters that are stored together or merged together, whole."""

    storages: Sequence[Storage]
    modules: Sequence[AdaptedModule]
    replaced: Mapping[str, torch.Tensor]
    held: Callable[[str, torch.Tensor], torch.Tensor]
    """Tells what the base held, while the adapter was trained, of the parameter of a name."""
    dtypes: Mapping[str, torch.dtype]
    """What each tensor is written in, by its name in the files."""

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the tensors it makes."""
        return tuple(self.dtypes)

    def rows(self) -> Iterator[Rows]:
        """Give all tensors, one by one.

        Raises:
            MergeError: peft does not merge it, or it is no longer finite.
        """
        import torch

        weights: dict[str, torch.Tensor] = {}
        for storage in self.storages:
            for name, weight in storage.read().items():
                weights[name] = self.held(name, weight).to(finer_than(weight.dtype))
        for name in weights.keys() & self.replaced:
            # a copy: peft adds to it in place, and the adapter is asked again for the proof
            weights[name] = self.replaced[name].to(torch.float32, copy=True)
        for module in self.modules:
            module.merge(weights)
        for storage in self.storages:
            for written, tensor in storage.split(weights).items():
                rounded = tensor.to(self.dtypes[written])
                check_finite(rounded, written, storage.stored)
                yield Rows(written, 0, rounded)


def check_finite(tensor: torch.Tensor, name: str, before: Iterable[StoredTensor]) -> None:
    """Check that every number is one in a tensor that was made of those of the base in `before`.

    Raises:
        MergeError: one is not.
    """
    if is_finite(tensor):
        return
    for each in before:
        if not is_finite(each.read()):
            raise MergeError(f"`{each.name}` of the base holds what is no number", str(each.file))
    raise MergeError(f"`{name}` is no longer finite once the adapter is merged")


def is_finite(tensor: torch.Tensor) -> bool:
    """Return whether every number is one."""
    # twenty times as fast as isfinite(), and NaN comes through
    return tensor.numel() == 0 or all(map(isfinite, tensor.aminmax()))


@dataclass(frozen=True, slots=True)
class Given:
    """A tensor that the adapter brings along, which the base has none of."""

    name: str
    tensor: torch.Tensor
    dtype: torch.dtype

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the tensors it makes."""
        return (self.name,)

    def rows(self) -> Iterator[Rows]:
        """Give it as it is written."""
        yield Rows(self.name, 0, self.tensor.to(self.dtype))


@dataclass(frozen=True, slots=True)
class Cast:
    """A tensor of the base in another precision."""

    tensor: StoredTensor
    dtype: torch.dtype

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the tensors it makes."""
        return (self.tensor.name,)

    def rows(self) -> Iterator[Rows]:
        """Give it, a few rows at a time."""
        shape = self.tensor.shape
        if not shape:
            yield Rows(self.tensor.name, 0, self.tensor.read().to(self.dtype))
            return
        for first, rows in self.tensor.blocks(max(1, ROWS_HOLD // max(1, prod(shape[1:])))):
            yield Rows(self.tensor.name, first, rows.to(self.dtype))
