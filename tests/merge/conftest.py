"""Fixtures of this folder's tests."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lora_cli import cli
from tests.helpers.adapters import make_adapter
from tests.helpers.caches import own_cache

__all__ = ["own_cache"]
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def adapter(tmp_path: Path, tiny_model: Callable[[str], Path]) -> Path:
    """Return a LoRA on the query projections of a tiny Llama."""
    return make_adapter(tmp_path / "adapter", tiny_model("llama"), ["q_proj"])


@pytest.fixture
def loracli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Return a function that runs the command line and gives (exit code, output, errors)."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "dumb")

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["loracli", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        output = capsys.readouterr()
        return code, output.out, output.err

    return call
