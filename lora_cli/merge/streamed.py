"""A weightless model's answers: each module gets its weights from the files as its turn comes.

In float32, and with one module's weights in memory at a time, so that a model of any size can be
asked. The model is called as it always is; what it computes is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from lora_cli.errors import MergeError
from lora_cli.merge.storage import Storage
from lora_cli.merge.weightless import is_weightless

if TYPE_CHECKING:
    import torch

Read = Callable[[str], "torch.Tensor"]
"""Returns a parameter by its name in the model."""


@contextmanager
def streaming(
    modules: Mapping[str, Any], read: Read, around: Mapping[str, Sequence[Any]] | None = None
) -> Iterator[None]:
    """Let the modules of a weightless model take their parameters while they are at work.

    `modules` are by name; a parameter that has numbers keeps them. A layer that is `around` a
    module may use its parameters without calling it.
    """
    with ExitStack() as hooks:
        for name, module in modules.items():
            empty = {
                short: parameter.data
                for short, parameter in module.named_parameters(recurse=False)
                if is_weightless(parameter)
            }
            if not empty:
                continue
            turn = _Turn(name, module, empty, read)
            hooks.callback(turn.empty)
            for each in (module, *(around or {}).get(name, ())):
                turn.begin_and_end_with(each, hooks)
        yield


def fill_buffers(model: Any, places: Mapping[str, Storage]) -> None:
    """Give a model those of its buffers that are in the files."""
    for name, buffer in model.named_buffers():
        if name in places:
            buffer.copy_(places[name].read()[name])


class _Turn:
    """One module's parameters, there while any of the layers around it is at work.

    It is what accelerate calls a hook, too: transformers tells those of the children whose weights
    a forward reads without calling them, such as the convolutions of state space models.
    """

    def __init__(
        self, name: str, module: Any, empty: Mapping[str, torch.Tensor], read: Read
    ) -> None:
        self._name, self._module, self._empty, self._read = name, module, empty, read
        self._depth = 0

    def begin_and_end_with(self, layer: Any, hooks: ExitStack) -> None:
        """Let the turn be whenever a layer is at work, or is read by its parent."""
        layer._hf_hook = self  # noqa: SLF001
        hooks.callback(delattr, layer, "_hf_hook")
        before = layer.register_forward_pre_hook(self.pre_forward)
        after = layer.register_forward_hook(self.post_forward, always_call=True)
        hooks.callback(before.remove)
        hooks.callback(after.remove)

    def pre_forward(self, *_: Any) -> None:
        """Put the parameters in place."""
        self._depth += 1
        if self._depth == 1:
            for short in self._empty:
                full = f"{self._name}.{short}" if self._name else short
                getattr(self._module, short).data = self._read(full)

    def post_forward(self, *_: Any) -> None:
        """Take them out again."""
        self._depth -= 1
        if self._depth == 0:
            self.empty()

    def empty(self) -> None:
        """Leave the module without its parameters."""
        for short, empty in self._empty.items():
            getattr(self._module, short).data = empty


def reader(
    places: Mapping[str, Storage],
    ties: Mapping[str, str],
    held: Callable[[str, torch.Tensor], torch.Tensor] = lambda _name, weight: weight,
) -> Read:
    """Return what reads a parameter from the files, or the one that it is tied to, in float32.

    It raises a MergeError for one that is not there.
    """

    def read(name: str) -> torch.Tensor:
        source = name if name in places else ties.get(name, name)
        if source not in places:
            raise MergeError(f"`{source}` is not in the files", hint="fetch them again")
        return held(source, places[source].read()[source]).float()

    return read
