"""Where in the model a storage is made: the module whose forward pass runs, and what that means.

In the backward pass, the module is that whose forward pass made the node: nodes are numbered in the
order in which they are made.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lora_cli.memory.trace import Category, Phase
from lora_cli.memory.tracker import MADE_IN

if TYPE_CHECKING:
    import torch


class Places:
    """The modules of a model that are being computed, innermost last."""

    def __init__(self, names: dict[int, str], heads: Sequence[str]) -> None:
        self._names = names
        self._heads = heads
        self._stack: list[str] = []
        self._borders, self._names_after = [0], [""]

    def is_in_a_module(self) -> bool:
        """Return whether a module's forward pass runs."""
        return bool(self._stack)

    def here(self) -> str:
        """Return the full name of the module that is being computed, or differentiated."""
        import torch

        if self._stack:
            return self._stack[-1]
        node: Any = torch._C._current_autograd_node()  # no public way
        if node is None:
            return ""
        return self._names_after[bisect_right(self._borders, node._sequence_nr()) - 1]

    def place(self, phase: Phase, operation: str) -> tuple[Category, str]:
        """Return what a storage is that an operation makes here, and its name."""
        module = self.here()
        name = f"{module}: {operation}" if module else operation
        category = MADE_IN[phase]
        if self._stack and phase == "backward":  # computed again, to be differentiated
            category = "activations"
        if category == "activations" and any(f".{head}." in f".{module}." for head in self._heads):
            category = "logits and loss"
        return category, name

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Follow which module is computed."""
        from torch.nn.modules import module as hooks

        handles = (
            hooks.register_module_forward_pre_hook(self._enter),
            hooks.register_module_forward_hook(self._leave, always_call=True),
        )
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, module: torch.nn.Module, _arguments: Any) -> None:
        outer = self._stack[-1] if self._stack else ""
        self._stack.append(self._names.get(id(module), outer))
        self._note_border()

    def _leave(self, _module: torch.nn.Module, _arguments: Any, _result: Any) -> None:
        self._stack.pop()
        self._note_border()

    def _note_border(self) -> None:
        import torch

        number = torch._C._autograd._get_sequence_nr()  # no public way
        name = self._stack[-1] if self._stack else ""
        if self._borders[-1] == number:
            self._names_after[-1] = name
        elif self._names_after[-1] != name:
            self._borders.append(number)
            self._names_after.append(name)
