"""Fixtures of this folder's tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.adapters import make_adapter
from tests.helpers.caches import own_cache

__all__ = ["Call", "own_cache"]
Call = Callable[..., tuple[int, str, str]]
"""Runs the command line, and gives (exit code, output, errors)."""


@pytest.fixture
def adapter(tmp_path: Path, tiny_model: Callable[[str], Path]) -> Path:
    """Return a LoRA on the query projections of a tiny Llama."""
    return make_adapter(tmp_path / "adapter", tiny_model("llama"), ["q_proj"])
