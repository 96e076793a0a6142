"""Brings in transformers and peft at once, in two thirds of the time that they take by themselves.

`benchmarks/importing.py` measures it. Nearly all commands wait for them, most of a short one's
time.
"""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@functools.cache
def import_libraries() -> None:
    """Import torch, transformers' models and peft, once in a process.

    Importing makes hundreds of thousands of objects and no garbage: Python's collector would look
    through all of them again and again, so it rests meanwhile, and passes them over ever after.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        import transformers.modeling_layers  # noqa: F401  # what every model needs

        with _compiled_when_called():
            import peft  # noqa: F401  # which imports bitsandbytes, where there is one
    finally:
        if collects:
            gc.enable()
    gc.freeze()


@contextmanager
def _compiled_when_called() -> Iterator[None]:
    """Put `torch.compile` off until what it compiles is called.

    bitsandbytes compiles four functions as it is imported, and each asks for the whole compiler;
    few runs call one of them.
    """
    import torch

    at_once: Any = torch.compile

    def when_called(function: Callable[..., Any] | None = None, **options: Any) -> Any:
        if function is None:
            return functools.partial(when_called, **options)
        compiled = functools.cache(lambda: at_once(function, **options))

        @functools.wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            return compiled()(*arguments, **named)

        return call

    torch.compile = when_called  # type: ignore[assignment]  # as it is called here
    try:
        yield
    finally:
        torch.compile = at_once
