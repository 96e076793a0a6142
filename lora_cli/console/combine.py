"""Several adapters made one, on the terminal: what went in, what came out, how near it is."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.text import Text

from lora_cli.console.fits import error_of
from lora_cli.console.merge import merge
from lora_cli.console.quiet import quiet_libraries
from lora_cli.console.units import gigabytes
from lora_cli.merge.combine.combine import CombineResult, combine_adapters
from lora_cli.merge.combine.options import CombineOptions
from lora_cli.merge.prepare import MergeOptions
from lora_cli.words import counted


def merge_several(
    adapters: Sequence[Path],
    combining: CombineOptions,
    options: MergeOptions,
    *,
    into_model: bool,
    as_json: bool,
) -> None:
    """Make one adapter of several and print what came of it; or fold it into the base as well."""
    quiet_libraries()
    assert options.output is not None, "the command asks for it"
    if not into_model:
        show_combination(combine_adapters(adapters, options.output, combining), as_json=as_json)
        return
    with tempfile.TemporaryDirectory(prefix="loracli-combined-") as temporary:
        combined = Path(temporary) / "adapter"
        result = combine_adapters(adapters, combined, combining)
        if not as_json:
            show_combination(result, as_json=False)
        merge(combined, options, as_json=as_json)


def show_combination(result: CombineResult, *, as_json: bool) -> None:
    """Print what was combined, for a person or a program."""
    if as_json:
        print(json.dumps(asdict(result), indent=2))  # noqa: T201  # rich would wrap long lines
        return
    console = Console(highlight=False)
    adapters = counted(len(result.adapters), "adapter")
    modules = counted(len(result.modules), "module")
    written = f"{gigabytes(result.bytes_written)} in {result.seconds:.1f} s"
    lines = [
        f"{result.method} of {adapters} on {modules} → LoRA of rank {result.rank}, {written}",
        *(
            f"adapter   {each.weight:g} × {each.path} ({each.method}, rank {each.rank})"
            for each in result.adapters
        ),
        f"error     {error_of(result)}",
        f"base      {result.base}",
        f"combined  {result.output}",
        *(f"note      {note}" for note in result.notes),
    ]
    for line in lines:
        console.print(Text(line), soft_wrap=True)
