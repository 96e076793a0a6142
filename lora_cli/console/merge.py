"""A finished merge on the terminal."""

from __future__ import annotations

import json
from dataclasses import asdict

from rich.console import Console

from lora_cli.console.units import gigabytes
from lora_cli.merge.merge import MergeResult
from lora_cli.words import counted


def show_merge(merged: MergeResult, *, as_json: bool) -> None:
    """Print what was merged, for a person or a program."""
    console = Console(highlight=False)
    if as_json:
        print(json.dumps(asdict(merged), indent=2))  # noqa: T201  # rich would wrap long lines
        return
    console.print(
        f"{counted(merged.adapter_tensors, 'adapter tensor')} folded into {merged.changed_tensors} "
        f"of {counted(merged.tensors, 'tensor')}, {gigabytes(merged.bytes_written)} in "
        f"{merged.seconds:.1f} s",
        soft_wrap=True,
    )
    console.print(f"base      {merged.base}", soft_wrap=True)
    console.print(f"merged    {merged.output}", soft_wrap=True)
