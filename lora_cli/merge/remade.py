"""The two ways in which a changed tensor is made: rows of a plain LoRA, and all that peft merges.

Both add in float32, or finer where the base is, and round once, to the type that is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING

from lora_cli.errors import MergeError
from lora_cli.merge.adapted import AdaptedModule
from lora_cli.merge.adapter_folder import Update
from lora_cli.merge.checkpoint import FLOATS, TORCH_NAMES, StoredTensor
from lora_cli.merge.storage import Storage
from lora_cli.merge.writing import Rows

if TYPE_CHECKING:
    import torch

ROWS_HOLD = 1 << 19
"""Numbers of a weight that are in work at once: in float32, what a core's cache holds."""


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

    def rows(self) -> Iterator[Rows]:
        """Give the new weight, a few rows at a time.

        Raises:
            MergeError: it is no longer finite.
        """
        import torch

        lora_a, lora_b = self.update.lora_a.float(), self.update.lora_b.float()
        outputs, inputs = self.weight.shape
        step = max(1, ROWS_HOLD // inputs)
        for first in range(0, outputs, step):
            weight = self.weight.read(first, min(outputs, first + step))
            delta = (lora_b[first : first + step] @ lora_a).mul_(self.update.scaling)
            finer = torch.promote_types(weight.dtype, torch.float32)
            folded = delta.to(finer).add_(weight.to(finer))
            yield Rows(self.weight.name, first, _rounded(folded, self.dtype, self.weight.name))


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

    def rows(self) -> Iterator[Rows]:
        """Give all tensors, one by one.

        Raises:
            MergeError: peft does not merge it, or it is no longer finite.
        """
        import torch

        weights: dict[str, torch.Tensor] = {}
        for storage in self.storages:
            for name, weight in storage.read().items():
                finer = torch.promote_types(weight.dtype, torch.float32)
                weights[name] = self.held(name, weight).to(finer)
        weights |= {name: self.replaced[name].float() for name in weights.keys() & self.replaced}
        for module in self.modules:
            module.merge(weights)
        for storage in self.storages:
            for written, tensor in storage.split(weights).items():
                yield Rows(written, 0, _rounded(tensor, self.dtypes[written], written))


def _rounded(tensor: torch.Tensor, dtype: torch.dtype, name: str) -> torch.Tensor:
    rounded = tensor.to(dtype)
    # twenty times as fast as isfinite(), and NaN comes through
    if rounded.numel() and not all(map(isfinite, rounded.aminmax())):
        raise MergeError(f"`{name}` is no longer finite once the adapter is merged")
    return rounded


@dataclass(frozen=True, slots=True)
class Given:
    """A tensor that the adapter brings along, which the base has none of."""

    name: str
    tensor: torch.Tensor
    dtype: torch.dtype

    def rows(self) -> Iterator[Rows]:
        """Give it as it is written."""
        yield Rows(self.name, 0, self.tensor.to(self.dtype))


@dataclass(frozen=True, slots=True)
class Cast:
    """A tensor of the base in another precision."""

    tensor: StoredTensor
    dtype: torch.dtype

    def rows(self) -> Iterator[Rows]:
        """Give it, a few rows at a time."""
        shape = self.tensor.shape
        if not shape:
            yield Rows(self.tensor.name, 0, self.tensor.read().to(self.dtype))
            return
        step = max(1, ROWS_HOLD * shape[0] * 2 // max(1, self.tensor.size))
        for first in range(0, shape[0], step):
            rows = self.tensor.read(first, min(shape[0], first + step))
            yield Rows(self.tensor.name, first, rows.to(self.dtype))
