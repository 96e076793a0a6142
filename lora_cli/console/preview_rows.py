"""A previewed row on the terminal: what is trained on stands out, with colour or without."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text

from lora_cli.console.preview_words import place, row_words, unit_words
from lora_cli.data.preview_rows import ShownRow, Span
from lora_cli.plan.run_plan import RunPlan

LEARNT, LEARNT_SPECIAL = "bold green", "bold black on green"
READ, READ_SPECIAL = "", "cyan"
BEGIN, END = "⟦", "⟧"
"""Around what is trained on, where there is no colour."""
GUTTER, LEARNT_GUTTER = "│ ", "┃ "
LINE_END = "↵"
LONGEST_SPAN, SPAN_START, SPAN_END = 3000, 2000, 600
"""A span with more characters is shown with its beginning and its end."""


def has_colour(console: Console) -> bool:
    """Return whether the console can tell tokens apart by colour."""
    return console.color_system is not None and not console.no_color


def print_legend(console: Console) -> None:
    """Print how to read the rows, in one line."""
    if has_colour(console):
        parts = [("trained on", LEARNT), ("its special tokens", LEARNT_SPECIAL)]
        parts += [("read only", READ), ("special tokens, read only", READ_SPECIAL)]
        legend = Text(" · ").join(Text(text, style) for text, style in parts)
    else:
        legend = Text(f"{BEGIN}trained on{END}, the rest is read only; ┃ marks its lines")
    console.print(legend, soft_wrap=True)


def print_units(console: Console, plan: RunPlan, units: Sequence[tuple[ShownRow, ...]]) -> None:
    """Print rows, or packs of rows with a line where one document ends and the next begins."""
    packed = plan.schedule.batching == "packed"
    for number, unit in enumerate(units, 1):
        if packed:
            title = f"pack {number} · {unit_words(plan, unit)}"
            console.print(Text(f"\n{title}", style="bold"), soft_wrap=True)
        for position, row in enumerate(unit, 1):
            name = f"document {position} of {len(unit)}" if packed else f"row {number}"
            _print_row(console, row, f"── {name} · " if packed else f"\n{name} · ")


def _print_row(console: Console, row: ShownRow, title: str) -> None:
    head = Text(title, style="bold").append(visible(place(row.file, row.line)))
    head.append(f" · {row_words(row)}")
    console.print(head, soft_wrap=True)
    _print_text(console, row.spans)
    if row.target:
        console.print(Text("→ target", style="bold"))
        _print_text(console, row.target)
    if row.labels:
        label = Span(", ".join(row.labels), 0, supervised=True, special=False)
        text = drawn([label], marks=not has_colour(console))
        console.print(Text.assemble(("→ ", "bold"), text), soft_wrap=True)


def _print_text(console: Console, spans: Sequence[Span]) -> None:
    """Print spans, folded on a terminal, with a thick line beside what is trained on."""
    text = drawn(spans, marks=not has_colour(console))
    lines = (
        text.wrap(console, max(20, console.width - len(GUTTER)))
        if console.is_terminal
        else text.split("\n", allow_blank=True)
    )
    for line in lines:
        learnt = any(span.style in (LEARNT, LEARNT_SPECIAL) for span in line.spans)
        gutter = (LEARNT_GUTTER, LEARNT) if learnt else (GUTTER, "dim")
        console.print(Text.assemble(gutter, line), soft_wrap=True)


def drawn(spans: Sequence[Span], *, marks: bool) -> Text:
    """Return the spans' text, each in its style, `marks` around what is trained on."""
    text = Text()
    for span, before, after in _with_neighbours(spans):
        style = _style(span)
        if marks and span.supervised and not (before and before.supervised and not before.label):
            text.append(BEGIN, style)
        text.append(_shown(span, is_last=after is None), style)
        if marks and span.supervised and (span.label or not (after and after.supervised)):
            text.append(END, style)
        if span.label:
            text.append(f"/{visible(span.label)}", "magenta")
    return text


def _with_neighbours(
    spans: Sequence[Span],
) -> Iterator[tuple[Span, Span | None, Span | None]]:
    padded = [None, *spans, None]
    return zip(spans, padded, padded[2:], strict=False)


def _style(span: Span) -> str:
    if span.supervised:
        return LEARNT_SPECIAL if span.special else LEARNT
    return READ_SPECIAL if span.special else READ


def _shown(span: Span, *, is_last: bool) -> str:
    """Return a span's text with all that would not be seen; very long ones without their midst.

    A line end that is learnt is worth seeing, and so is one that nothing follows.
    """
    text = span.text
    if len(text) > LONGEST_SPAN:
        left_out = len(text) - SPAN_START - SPAN_END
        text = f"{text[:SPAN_START]} … {left_out:,} characters … {text[-SPAN_END:]}"
    text = visible(text)
    bare = text.rstrip("\n")
    line_ends = len(text) - len(bare)
    if is_last:
        return bare + LINE_END * line_ends
    return bare + f"{LINE_END}\n" * line_ends if span.supervised else text


def visible(text: str) -> str:
    """Return a text without anything that moves a terminal's cursor or hides what stands there."""
    return "".join(each if each == "\n" or each.isprintable() else _seen(each) for each in text)


def _seen(character: str) -> str:
    return "⇥" if character == "\t" else character.encode("unicode_escape").decode()
