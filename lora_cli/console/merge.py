"""`loracli merge` on the terminal: progress, what was written, and the proof."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.text import Text

from lora_cli.console.quiet import quiet_bars, quiet_libraries
from lora_cli.console.units import gigabytes
from lora_cli.merge.merge import MergeResult, Phase, Progress, merge_adapter
from lora_cli.merge.prepare import MergeOptions
from lora_cli.words import counted

MUCH = 0.5
"""The share of an adapter's effect whose loss is told."""
FEW = 3
"""How many of many names are shown."""


def merge(adapter: Path, options: MergeOptions, *, as_json: bool) -> MergeResult:
    """Merge an adapter and print what came of it, for a person or a program."""
    quiet_libraries()
    with progress() as report:
        result = merge_adapter(adapter, options, report=report)
    if as_json:
        print(json.dumps(asdict(result), indent=2))  # noqa: T201  # rich would wrap long lines
    else:
        show_merge(result, Console(highlight=False))
    return result


@contextmanager
def progress() -> Iterator[Progress]:
    """Give what is to be told of a merge's progress, which is shown on standard error."""
    shown = "reading the adapter"
    with Console(stderr=True).status(shown) as status:

        def report(phase: Phase, done: int, total: int) -> None:
            nonlocal shown
            text = shown
            if phase == "checking":
                quiet_bars()  # imports transformers, which merging itself may not need
                text = "comparing with base and adapter"
            elif phase == "writing":
                text = f"writing {gigabytes(done)} of {gigabytes(total)}"
            if text != shown:  # told some thousand times a second, which rich would pay for
                shown = text
                status.update(text)

        yield report


def show_merge(merged: MergeResult, console: Console) -> None:
    """Print what a merge came to."""
    written = f"{gigabytes(merged.bytes_written)} in {merged.seconds:.1f} s"
    tensors = f"{merged.changed_tensors} of {counted(merged.tensors, 'tensor')} changed"
    lines = [
        f"{merged.method}, {counted(merged.adapter_tensors, 'tensor')} → {tensors}, {written}",
        f"base      {merged.base}",
        f"merged    {merged.output}",
    ]
    if merged.requantized_tensors:
        count = counted(merged.requantized_tensors, "more tensor")
        lines.append(f"held      {count} written as the quantized base held them in training")
    if merged.untied:
        lines.append(f"untied    {_some(merged.untied)}: shared with no other now")
    if merged.dropped:
        lines.append(f"left out  {', '.join(merged.dropped)}: this model has no place for them")
    lines.append(f"proof     {_proof(merged)}")
    lines += [f"note      {note}" for note in _notes(merged)]
    for line in lines:
        console.print(Text(line), soft_wrap=True)


def _some(names: Sequence[str]) -> str:
    """Return the first few names, and how many there are beside them."""
    more = [f"{len(names) - FEW} more"] if len(names) > FEW else []
    return ", ".join([*names[:FEW], *more])


def _notes(merged: MergeResult) -> Iterator[str]:
    """Give what has to be known of a merge beside its figures."""
    if merged.base_doubt:
        yield merged.base_doubt
    if merged.proof is not None and not merged.proof.is_felt:
        small = f", {merged.proof.effect:.2g} of the logits' spread: how much of it rounding leaves"
        unknown = f"{small} cannot be told" if merged.proof.effect else ""
        yield f"the adapter changes next to nothing{unknown}"
    elif merged.proof is not None and merged.proof.lost > MUCH:
        share = f"{merged.proof.lost:.0%} of what the adapter changes"
        yield f"rounding takes {share}: it is small; --dtype float32 keeps it"
    yield from merged.notes
    if merged.difference_to_training is not None:
        yield (
            f"on the weights of {merged.base} it is not the model that was trained: logits "
            f"differ from that by {merged.difference_to_training:.2g} of their spread"
        )


def _proof(merged: MergeResult) -> str:
    proof = merged.proof
    if proof is None:
        return "not asked for (--no-verify)"
    return (
        f"{counted(proof.positions, 'place')} of {counted(proof.probes, 'text')}: logits differ by "
        f"at most {proof.max_difference:.2g}, {proof.relative_difference:.2g} of their spread "
        f"(allowed {proof.tolerance:.2g}; without the adapter {proof.effect:.2g}); "
        f"KL {max(0.0, proof.divergence):.2g}; same likeliest token {proof.agreement:.1%}"
    )
