"""A combination on the terminal, for a person and for a program."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from lora_cli.console.combine import show_combination
from lora_cli.merge.combine.combine import CombinedAdapter, CombineResult
from lora_cli.merge.fits import ModuleFit

RESULT = CombineResult(
    adapters=[
        CombinedAdapter("runs/one/adapter", "00", "LORA", 16, 0.5),
        CombinedAdapter("runs/two/adapter", "11", "ADALORA", 8, -1.0),
    ],
    method="ties",
    base="some/base",
    output="both",
    exact=False,
    rank=16,
    error=0.25,
    largest_error=0.5,
    modules={"a": ModuleFit(16, 0.1), "b": ModuleFit(9, 0.5)},
    notes=["something to know"],
    bytes_written=3_000_000,
    seconds=1.26,
)


def test_a_person_reads_what_went_in_and_how_near_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_combination(RESULT, as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "ties of 2 adapters on 2 modules → LoRA of rank 16, 3 MB in 1.3 s",
        "adapter   0.5 × runs/one/adapter (LORA, rank 16)",
        "adapter   -1 × runs/two/adapter (ADALORA, rank 8)",
        "error     25.00% of the change over all modules, at most 50.00% (`b`); ranks 9 to 16",
        "base      some/base",
        "combined  both",
        "note      something to know",
    ]


def test_an_exact_one_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    show_combination(replace(RESULT, exact=True, notes=[]), as_json=False)
    told = capsys.readouterr().out
    assert "error     none: the same change of weights\n" in told
    assert "note" not in told


def test_a_program_reads_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    show_combination(RESULT, as_json=True)
    assert json.loads(capsys.readouterr().out) == asdict(RESULT)
