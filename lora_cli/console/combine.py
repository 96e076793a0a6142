"""Several adapters made one, on the terminal: what went in, what came out, how near it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.text import Text

from lora_cli.console.fits import error_of
from lora_cli.console.merge import progress, show_merge
from lora_cli.console.quiet import quiet_libraries
from lora_cli.console.units import gigabytes
from lora_cli.merge.combine.combine import CombineResult, combine_adapters
from lora_cli.merge.combine.into_model import combine_into_model
from lora_cli.merge.combine.options import CombineOptions
from lora_cli.merge.prepare import MergeOptions
from lora_cli.words import counted


def merge_several(
    adapters: Sequence[Path], combining: CombineOptions, options: MergeOptions, *, as_json: bool
) -> None:
    """Make one adapter of several, or fold it into the base, and print what came of it."""
    quiet_libraries()
    assert options.output is not None, "the command asks for it"
    if combining.into == "adapter":
        result = combine_adapters(adapters, options.output, combining, overwrite=options.overwrite)
        show_combination(result, as_json=as_json)
        return
    with progress() as report:
        model = combine_into_model(adapters, options.output, combining, options, report=report)
    if as_json:
        print(json.dumps(model.told(), indent=2))  # noqa: T201  # rich would wrap long lines
        return
    console = Console(highlight=False)
    made = model.combination
    _print(console, [f"{_made(made)} → into their base", *_how(made), *_notes(made)])
    show_merge(model.merged, console)


def show_combination(result: CombineResult, *, as_json: bool) -> None:
    """Print what was combined, for a person or a program."""
    if as_json:
        print(json.dumps(asdict(result), indent=2))  # noqa: T201  # rich would wrap long lines
        return
    written = f"{gigabytes(result.bytes_written)} in {result.seconds:.1f} s"
    lines = [
        f"{_made(result)} → LoRA of rank {result.rank}, {written}",
        *_how(result),
        f"base      {result.base}",
        f"combined  {result.output}",
        *_notes(result),
    ]
    _print(Console(highlight=False), lines)


def _made(result: CombineResult) -> str:
    adapters = counted(len(result.adapters), "adapter")
    return f"{result.method} of {adapters} on {counted(len(result.modules), 'module')}"


def _how(result: CombineResult) -> list[str]:
    """Return what went in, and how near the result is."""
    return [
        *(
            f"adapter   {each.weight:g} × {each.path} ({each.method}, rank {each.rank})"
            for each in result.adapters
        ),
        f"error     {error_of(result)}",
    ]


def _notes(result: CombineResult) -> list[str]:
    return [f"note      {note}" for note in result.notes]


def _print(console: Console, lines: Sequence[str]) -> None:
    for line in lines:
        console.print(Text(line), soft_wrap=True)
