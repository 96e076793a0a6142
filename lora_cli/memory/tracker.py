"""Every storage that a step makes on the meta device, from its birth to its death."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import ref

from lora_cli.memory.trace import Category, Phase, Storage, Trace

if TYPE_CHECKING:
    import torch

MADE_IN: dict[Phase, Category] = {
    "loading": "buffers",
    "forward": "activations",
    "loss": "logits and loss",
    "backward": "temporaries",
    "optimizer": "temporaries",
    "evaluation": "activations",
}
"""What a storage is taken for if nothing else is known of it but the phase."""


class Storages:
    """The storages that are alive, and the story of all."""

    def __init__(self) -> None:
        self.phase: Phase = "loading"
        self._made: list[Storage] = []
        self._events: list[int] = []
        self._phases: list[tuple[int, Phase]] = [(0, "loading")]
        self._alive: dict[int, tuple[int | None, Any]] = {}
        self._is_elsewhere = False

    def is_new(self, tensor: torch.Tensor) -> bool:
        """Return whether the tensor's storage is still to be noted."""
        return tensor.untyped_storage()._cdata not in self._alive

    def note(self, tensor: torch.Tensor, category: Category, name: str) -> None:
        """Note the tensor's storage, if it is new."""
        storage = tensor.untyped_storage()
        key = storage._cdata  # its identity
        if key in self._alive or storage.nbytes() == 0:
            return
        index = None if self._is_elsewhere else len(self._made)
        if index is not None:
            self._made.append(Storage(storage.nbytes(), category, name, self.phase))
            self._events.append(index)

        def end(_: Any) -> None:
            del self._alive[key]
            if index is not None:
                self._events.append(~index)
                self._end(index)

        self._alive[key] = (index, ref(storage, end))

    def _end(self, index: int) -> None:
        """Call an activation that does not outlive its forward pass a temporary."""
        storage = self._made[index]
        if storage.category == "activations" and storage.phase == self.phase == "forward":
            self._made[index] = replace(storage, category="temporaries")

    @contextmanager
    def elsewhere(self) -> Iterator[None]:
        """Leave out what is made: it is not in the device's memory."""
        self._is_elsewhere = True
        try:
            yield
        finally:
            self._is_elsewhere = False

    def call(self, tensors: Iterable[torch.Tensor], category: Category) -> None:
        """Say what the storages of these tensors are."""
        for tensor in tensors:
            held = self._alive.get(tensor.untyped_storage()._cdata)
            if held is not None and held[0] is not None:
                self._made[held[0]] = replace(self._made[held[0]], category=category)

    def enter(self, phase: Phase) -> None:
        """Begin a phase."""
        if phase != self.phase:
            self.phase = phase
            self._phases.append((len(self._events), phase))

    @contextmanager
    def during(self, phase: Phase) -> Iterator[None]:
        """Be in a phase, then in the one before it."""
        before = self.phase
        self.enter(phase)
        try:
            yield
        finally:
            self.enter(before)

    def trace(self) -> Trace:
        """Return all that was noted."""
        return Trace(tuple(self._made), tuple(self._events), tuple(self._phases))
