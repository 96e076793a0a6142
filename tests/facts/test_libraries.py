"""The libraries, imported sooner: what is put off is done when it is needed."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from lora_cli.facts import libraries

IMPORTS = """
import gc, sys
from lora_cli.facts.libraries import import_libraries

import_libraries()
assert gc.isenabled()
assert {"transformers", "peft", "bitsandbytes"} <= set(sys.modules)
assert "torch._inductor.compile_fx" not in sys.modules
"""


def test_the_compiler_is_not_imported_with_the_libraries() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_function_is_compiled_once_when_it_is_first_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compiled = []

    def compile_at_once(function, **options):
        compiled.append((function.__name__, options))
        return lambda *arguments, **named: ("compiled", function(*arguments, **named))

    monkeypatch.setattr(torch, "compile", compile_at_once)
    with libraries._compiled_when_called():

        @torch.compile(dynamic=False)
        def less(one, other=0):
            """Subtract."""
            return one - other

        @torch.compile
        def never(): ...

    assert torch.compile is compile_at_once
    assert compiled == []
    assert less.__doc__ == "Subtract."
    assert [less(3), less(3, other=1)] == [("compiled", 3), ("compiled", 2)]
    assert compiled == [("less", {"dynamic": False})]


def test_compiling_is_put_off_no_longer_after_an_import_that_failed() -> None:
    at_once = torch.compile
    with pytest.raises(ImportError), libraries._compiled_when_called():
        raise ImportError
    assert torch.compile is at_once
