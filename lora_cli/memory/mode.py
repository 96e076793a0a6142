"""The dispatch mode under which a step runs on the meta device: each operation, seen and helped.

What an operation allocates is what its output takes; what a kernel needs besides is in `kernels`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map_only

from lora_cli.memory.known import LARGEST, KnownValues, UnknownValueError
from lora_cli.memory.places import Places
from lora_cli.memory.results import MetaResults
from lora_cli.memory.tracker import Storages

aten = torch.ops.aten
INDEXING = (aten.index.Tensor, aten._unsafe_index.Tensor)
INDEXED_WRITES = (aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default)
OF_TWO = (aten.add, aten.sub, aten.mul, aten.div, aten.add_, aten.sub_, aten.mul_, aten.div_)

Kernel = Callable[..., Any]
"""Takes the mode's `run` and an operation's arguments; returns what the operation does."""


class SimulatedDevice(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes storages, keeps the values of integers, and puts kernels in the place of operations."""

    def __init__(
        self,
        storages: Storages,
        places: Places,
        kernels: Mapping[Any, Kernel],
        *,
        on_cpu: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._on_cpu = on_cpu
        self.storages = storages
        self.known = KnownValues()
        self._results = MetaResults()
        self._places = places
        self._kernels = kernels
        self._helped: dict[Any, Callable[..., Any]] = {
            aten._local_scalar_dense.default: self._scalar,
            aten._to_copy.default: self._copied,
            aten.topk.default: self._chosen,
            aten.equal.default: self._equal,
            aten.any.default: self._any,
            **dict.fromkeys(INDEXING, self._indexed),
            **dict.fromkeys(INDEXED_WRITES, self._indexed),
        }
        if on_cpu:
            self._helped |= {each.Tensor: self._promoted for each in OF_TWO}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Leave out torch's wrapper against its compiler, which is slow and has no use here."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Do what `func` does, and note what it makes."""
        options = kwargs or {}
        if func in self._kernels:
            with self:
                return self._kernels[func](*args, **options)
        if func in self._helped:
            made = self._helped[func](func, args, options)
        elif torch.Tag.dynamic_output_shape in func.tags:
            made = self._computed(func, args, options)
        else:
            made = self._results.of(func, args, options)
        for tensor in (made,) if isinstance(made, torch.Tensor) else tree_iter(made):
            if isinstance(tensor, torch.Tensor) and tensor.device.type == "meta":
                self._note(tensor, func)
                if not tensor.is_floating_point():
                    self._follow(tensor, func, args, options)
        return made

    def _note(self, tensor: torch.Tensor, func: Any) -> None:
        """Note what `func` made, and where in the model; half of all tensors are views."""
        if self.storages.is_new(tensor):
            place = self._places.place(self.storages.phase, func.overloadpacket.__name__)
            self.storages.note(tensor, *place)

    def _follow(self, tensor: torch.Tensor, func: Any, args: Any, options: Any) -> None:
        """Learn the value of an integer that an operation made or wrote to."""
        writes = func._schema.is_mutable
        if tensor.numel() > LARGEST or (not writes and self.known.of(tensor) is not None):
            return
        value = self.known.on_cpu(func, args, options)
        if writes:
            if value is None:
                self.known.forget(tensor)
        elif isinstance(value, torch.Tensor):
            self.known.learn(tensor, value)

    def _scalar(self, func: Any, args: Any, _options: Any) -> Any:
        """Return a number; one of floats that only true weights give is 1.0, and passes guards."""
        tensor = args[0]
        value = self._value(tensor)
        if value is not None:
            return value.item()
        if tensor.is_floating_point():
            return 1.0
        raise UnknownValueError(self._unknown(func))

    def _equal(self, func: Any, args: Any, options: Any) -> Any:
        value = self.known.on_cpu(func, args, options)
        if value is None:
            raise UnknownValueError(self._unknown(func))
        return value

    def _any(self, func: Any, args: Any, options: Any) -> Any:
        """Return whether any number is not zero: of weights and gradients, some are not."""
        made = func(*args, **options)
        if args[0].is_floating_point():
            self.known.learn(made, torch.ones((), dtype=torch.bool))
        return made

    def _value(self, tensor: torch.Tensor) -> torch.Tensor | None:
        return tensor if tensor.device.type == "cpu" else self.known.of(tensor)

    def _unknown(self, func: Any) -> str:
        name = func.overloadpacket.__name__
        return f"`{name}` in {self._places.here() or 'the step'} asks for a value of the weights"

    def _copied(self, func: Any, args: Any, options: Any) -> Any:
        """Return the copy; one on the CPU is of zeros where no value is known."""
        tensor, device = args[0], options.get("device")
        if tensor.device.type != "meta" or device is None or device.type == "meta":
            made = func(*args, **options)
            if self._on_cpu and tensor.device.type == "cpu" and self._places.is_in_a_module():
                with self.storages.elsewhere():  # there, it is where it is asked to go
                    self._note(made, func)
            return made
        known = self.known.of(tensor)
        held = torch.zeros(tensor.shape, dtype=tensor.dtype) if known is None else known
        return func(held, **options)

    def _promoted(self, func: Any, args: Any, options: Any) -> Any:
        """Compute with two tensors: a CPU copies one of a narrower type first, a GPU does not."""
        made = self._results.of(func, args, options)
        wide = torch.result_type(args[0], args[1])
        copies = [
            torch.empty_like(each, dtype=wide)
            for each in args[:2]
            if isinstance(each, torch.Tensor) and each.dtype != wide
        ]
        for each in (*copies, made):
            self._note(each, func)
        return made

    def _chosen(self, func: Any, args: Any, options: Any) -> Any:
        """Return the k largest: where nothing is known of them, all are chosen equally often."""
        values, indices = func(*args, **options)
        if self._value(args[0]) is None and indices.numel() <= LARGEST:
            dim = args[2] if len(args) > 2 else options.get("dim", -1)
            even = torch.arange(indices.numel()) % args[0].shape[dim]
            self._note(indices, func)
            self.known.learn(indices, even.reshape(indices.shape))
        return values, indices

    def _computed(self, func: Any, args: Any, options: Any) -> Any:
        """Return the outcome of an operation whose shape depends on values."""
        outcome = self.known.on_cpu(func, args, options)
        if outcome is None:
            raise UnknownValueError(self._unknown(func))
        return tree_map_only(torch.Tensor, lambda value: self._on_meta(func, value), outcome)

    def _on_meta(self, func: Any, value: torch.Tensor) -> torch.Tensor:
        made = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
        self._note(made, func)
        self.known.learn(made, value)
        return made

    def _indexed(self, func: Any, args: Any, options: Any) -> Any:
        """Index with the places where a mask holds, as real kernels do."""
        indices: list[Any] = []
        for index in args[1]:
            if index is not None and index.dtype in (torch.bool, torch.uint8):
                places = self._computed(aten.nonzero.default, (index,), {})
                indices += places.unbind(1)
            else:
                indices.append(index)
        return func(args[0], indices, *args[2:], **options)
