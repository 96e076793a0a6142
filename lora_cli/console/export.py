"""`loracli export` on the terminal: progress, what was written, which servers take it.

`show_gguf` is for a GGUF file, `show_export` for a plain LoRA.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.text import Text

from lora_cli.console.fits import error_of
from lora_cli.console.quiet import quiet_bars, quiet_libraries
from lora_cli.console.units import gigabytes
from lora_cli.merge.export import ExportResult, export_lora
from lora_cli.merge.gguf.export import export_gguf
from lora_cli.merge.gguf.precision import Precision
from lora_cli.merge.gguf.result import GgufResult
from lora_cli.merge.truncate import Limit
from lora_cli.words import counted


def export(
    adapter: Path, output: Path, limit: Limit, *, overwrite: bool, as_json: bool
) -> ExportResult:
    """Export an adapter and print what came of it, for a person or a program."""
    quiet_libraries()
    quiet_bars()
    with Console(stderr=True).status("reading the adapter") as status:

        def report(done: int, total: int) -> None:
            status.update(f"change of weights: module {done} of {total}")

        result = export_lora(adapter, output, limit, overwrite=overwrite, report=report)
    if as_json:
        print(json.dumps(asdict(result), indent=2))  # noqa: T201  # rich would wrap long lines
    else:
        show_export(result, Console(highlight=False))
    return result


def export_to_gguf(
    source: Path,
    output: Path,
    precision: Precision | None,
    limit: Limit,
    *,
    overwrite: bool,
    as_json: bool,
) -> GgufResult:
    """Export an adapter or a model to GGUF and print what came of it."""
    quiet_libraries()
    quiet_bars()
    with Console(stderr=True).status("writing GGUF") as status:

        def report(done: int, total: int) -> None:
            status.update(f"change of weights: module {done} of {total}")

        result = export_gguf(source, output, precision, limit, overwrite=overwrite, report=report)
    if as_json:
        print(json.dumps(asdict(result), indent=2))  # noqa: T201  # rich would wrap long lines
    else:
        show_gguf(result, Console(highlight=False))
    return result


def show_gguf(result: GgufResult, console: Console) -> None:
    """Print what an export to GGUF came to."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in result.kinds.items())
    written = f"{gigabytes(result.bytes_written)} in {result.seconds:.1f} s"
    texts = counted(result.texts_compared, "text")
    checked = f"; its tokenizer makes the same tokens of {texts}" if result.texts_compared else ""
    what = f"{result.form} of {counted(result.tensors, 'tensor')} ({kinds})"
    lines = [
        f"{what} → GGUF of `{result.architecture}`, {written}",
        f"checked   opened again: every tensor is there{checked}",
        *([f"base      {result.base}"] if result.base else []),
        f"exported  {result.output}",
        *(f"note      {note}" for note in result.notes),
        "",
        *(f"use       {command}" for command in result.use),
        "",
        "transformers reads files like it back; neither llama.cpp nor Ollama was run",
    ]
    for line in lines:
        console.print(Text(line), soft_wrap=True)


def show_export(result: ExportResult, console: Console) -> None:
    """Print what an export came to."""
    written = f"{gigabytes(result.bytes_written)} in {result.seconds:.1f} s"
    modules = counted(len(result.modules), "module")
    lines = [
        f"{result.method} on {modules} → LoRA of rank {result.rank}, {written}",
        f"error     {error_of(result)}",
        f"base      {result.base}",
        f"exported  {result.output}",
        *(f"note      {note}" for note in result.notes),
        "",
        *(f"{each.name:<10}{each.use or 'no: ' + each.why_not}" for each in result.servers),
        "",
        "what vLLM and llama.cpp take was read in their sources; neither was run",
    ]
    for line in lines:
        console.print(Text(line), soft_wrap=True)
