"""How far float32 leaves a model's answers open: what a small effect has to be told from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@contextmanager
def nudged(modules: Iterable[Any]) -> Iterator[None]:
    """Let each module without children give its numbers one unit in the last place up or down.

    Sums in another order do no more to most of them. Which way is drawn by a fixed seed.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    unit = torch.finfo(torch.float32).eps

    def nudge(_module: Any, _inputs: Any, output: Any) -> torch.Tensor | None:
        if not isinstance(output, torch.Tensor) or not output.is_floating_point():
            return None
        signs = torch.randint(2, output.shape, generator=generator) * 2 - 1
        return output * (1 + unit * signs)

    with ExitStack() as hooks:
        for module in modules:
            if next(module.children(), None) is None:
                hooks.callback(module.register_forward_hook(nudge).remove)
        yield
