"""Brings in torch, transformers and peft, in less time than they take by themselves.

Nearly all commands wait for them, most of a short one's time; `benchmarks/importing.py` measures
it.
"""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@functools.cache
def import_torch() -> None:
    """Import torch, once in a process."""
    with _collector_at_rest():
        import torch  # noqa: F401


@functools.cache
def import_libraries() -> None:
    """Import torch, transformers' models and peft, once in a process."""
    import_torch()
    with _collector_at_rest():
        import transformers.modeling_layers  # noqa: F401  # what every model needs

        with _compiled_when_called():
            import peft  # noqa: F401  # which imports bitsandbytes, where there is one


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Keep Python's collector from what is imported, now and later.

    Importing makes hundreds of thousands of objects and no garbage, and the collector would look
    through all of them again and again.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collects:
            gc.enable()


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
