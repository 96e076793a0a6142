"""`loracli extract` on the terminal: progress, what was written, what is not in it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.text import Text

from lora_cli.console.fits import error_of
from lora_cli.console.quiet import quiet_bars, quiet_libraries
from lora_cli.console.units import gigabytes
from lora_cli.merge.extract.extract import ExtractResult, extract_lora
from lora_cli.merge.extract.options import ExtractOptions
from lora_cli.merge.extract.rest import by_kind
from lora_cli.words import counted


def extract(
    tuned: str,
    base: str,
    output: Path,
    options: ExtractOptions,
    *,
    overwrite: bool,
    as_json: bool,
) -> ExtractResult:
    """Extract a LoRA and print what came of it, for a person or a program."""
    quiet_libraries()
    quiet_bars()
    with Console(stderr=True).status("comparing the models") as status:

        def report(done: int, total: int) -> None:
            status.update(f"change of weights: layer {done} of {total}")

        result = extract_lora(tuned, base, output, options, overwrite=overwrite, report=report)
    if as_json:
        print(json.dumps(asdict(result), indent=2))  # noqa: T201  # rich would wrap long lines
    else:
        show_extract(result, Console(highlight=False))
    return result


def show_extract(result: ExtractResult, console: Console) -> None:
    """Print what an extraction came to."""
    written = f"{gigabytes(result.bytes_written)} in {result.seconds:.1f} s"
    layers = counted(len(result.modules), "linear layer")
    lines = [
        f"change of {layers} → LoRA of rank {result.rank}, {written}",
        f"error     {error_of(result)}",
        *([f"as it is  {', '.join(result.whole)}"] if result.whole else []),
        *_left_out(result),
        f"unchanged {counted(len(result.unchanged), 'tensor')}",
        f"base      {result.base}",
        f"extracted {result.output}",
    ]
    for line in lines:
        console.print(Text(line), soft_wrap=True)


def _left_out(result: ExtractResult) -> list[str]:
    """Return what changed and is not in the LoRA, and what the error is with it."""
    lines = [f"left out  {kind}: {what}" for kind, what in by_kind(result.rest).items()]
    lines += [f"left out  setting {what}" for what in result.settings]
    if result.rest:
        lines.append(f"          error over the whole model with these: {result.whole_error:.2%}")
    return lines
