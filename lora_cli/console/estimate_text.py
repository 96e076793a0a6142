"""An estimate of memory as text: the verdict, a bar for each part, and what to change."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.text import Text

from lora_cli.console.rows import print_rows
from lora_cli.console.units import gibibytes
from lora_cli.memory.answers import EachDevice, OneDevice
from lora_cli.memory.estimate import Estimate
from lora_cli.memory.fit import Answer, Fit
from lora_cli.memory.interval import Interval
from lora_cli.words import counted

WIDTH = 40
EIGHTHS = " ▏▎▍▌▋▊▉"
COLOURS = {"fits": "green", "tight": "yellow", "does not fit": "red"}
MOST_LISTED = 6
SMALLEST_SHOWN = 1 << 16


def show(found: OneDevice | EachDevice | Fit, console: Console) -> None:
    """Print an answer for a person."""
    if isinstance(found, OneDevice):
        show_estimate(found.estimate, console)
        _show_levers(found, console)
    elif isinstance(found, EachDevice):
        _show_devices(found, console)
    else:
        _show_fit(found, console)


def one_line(estimate: Estimate) -> str:
    """Return the need, what there is, and the verdict."""
    need = interval(estimate.needed)
    return f"{need} of {gibibytes(estimate.capacity)}: {estimate.verdict}"


def show_estimate(estimate: Estimate, console: Console) -> None:
    """Print the verdict, the parts of the peak as bars, and what was taken for granted."""
    verdict = Text(f"{estimate.device}: {one_line(estimate)}", style=COLOURS[estimate.verdict])
    console.print(verdict, style="bold", soft_wrap=True)
    console.print(Text(_how(estimate), style="dim"), soft_wrap=True)
    _show_notes([estimate], console)
    console.print(f"\nthe peak, in the {estimate.peak_phase} phase", style="bold")
    print_rows(console, _parts(estimate), ("", "", "cyan"))
    _show_list(console, "peak of each phase", list(estimate.phases.items()))
    _show_list(console, "activations by module, layers together", estimate.modules[:MOST_LISTED])
    largest = [
        (f"{each.count} × {each.name}  ({each.category}, made in {each.phase})", each.size)
        for each in estimate.largest[:MOST_LISTED]
    ]
    _show_list(console, "largest at the peak", largest)
    _show_host(estimate, console)


def _show_notes(estimates: Iterable[Estimate], console: Console) -> None:
    notes = dict.fromkeys(note for estimate in estimates for note in estimate.notes)
    for note in notes:
        console.print(Text(f"note: {note}", style="yellow"), soft_wrap=True)


def _how(estimate: Estimate) -> str:
    """Return what was estimated, and by which means."""
    batch = estimate.batch
    rows = f"{counted(batch.rows, 'row')} of {counted(batch.tokens, 'token')}"
    rows += ", the longest that max_length lets in" if estimate.full_length else ""
    versions = ", ".join(f"{name} {number}" for name, number in estimate.versions.items())
    if estimate.method == "simulated":
        return f"{rows}; simulated with {versions}"
    reason = f" ({estimate.reason})" if estimate.reason else ""
    return f"{rows}; in closed form, ±{estimate.unsure:.0%}: not simulated{reason}"


def _parts(estimate: Estimate) -> list[tuple[str, str, str]]:
    kinds = estimate.categories.items()
    parts = [(str(name), size) for name, size in kinds if size >= SMALLEST_SHOWN]
    parts += [("workspace", estimate.workspace)] if estimate.workspace else []
    parts += [("allocator", estimate.overhead)] if estimate.overhead > 0 else []
    scale = max([estimate.capacity, estimate.needed.high])
    rows = [(name, gibibytes(size), bar(size, scale)) for name, size in parts]
    on_gpu = estimate.workspace > 0
    outside = interval(estimate.outside)
    return [
        *rows,
        ("context" if on_gpu else "process", outside, bar(estimate.outside.high, scale)),
    ]


def bar(size: int, scale: int, width: int = WIDTH) -> str:
    """Return `size` as a bar of which `scale` would fill `width` characters."""
    eighths = max(1, round(8 * width * size / scale)) if size else 0
    whole, rest = divmod(min(eighths, 8 * width), 8)
    return "█" * whole + EIGHTHS[rest].strip()


def interval(need: Interval) -> str:
    """Return `14.1–15.6 GiB`, or one number where the two look alike."""
    low, high = gibibytes(need.low), gibibytes(need.high)
    if low == high:
        return low
    return f"{low} to {high}" if low.split()[1] != high.split()[1] else f"{low.split()[0]}–{high}"


def _show_list(console: Console, title: str, sizes: Sequence[tuple[str, int]]) -> None:
    if sizes:
        console.print(f"\n{title}", style="bold")
        print_rows(console, [(gibibytes(size), name) for name, size in sizes], ("", ""))


def _show_host(estimate: Estimate, console: Console) -> None:
    host = estimate.host
    source = "the headers of the weight files" if host.from_headers else "the config"
    console.print(f"\nthe machine's own memory, from {source}", style="bold")
    rows = [
        (interval(host.loading), "to load the base"),
        (interval(host.merging), "to merge the adapter into it"),
    ]
    print_rows(console, rows, ("", ""))


def _show_levers(found: OneDevice, console: Console) -> None:
    if found.effects is None:
        console.print(Text("\n--levers: what each change of the recipe would save", style="dim"))
        return
    if not found.effects:
        console.print("\nno change that a recipe can say would save anything")
        return
    console.print("\nwhat to change, each by itself", style="bold")
    rows = [
        (
            f"-{gibibytes(effect.saved)}",
            effect.estimate.verdict,
            _flags(effect.lever.settings),
            f"{effect.lever.name}; costs: {effect.lever.cost}",
        )
        for effect in found.effects
    ]
    print_rows(console, rows, ("", "", "", "dim"))


def _show_devices(found: EachDevice, console: Console) -> None:
    rows = []
    for each in found.on:
        if each.estimate is None:
            rows.append((each.device.name, "not planned", each.refusal, ""))
        else:
            need, room = interval(each.estimate.needed), gibibytes(each.estimate.capacity)
            middle = (each.estimate.needed.low + each.estimate.needed.high) // 2
            filled = bar(min(middle, each.estimate.capacity), each.estimate.capacity, WIDTH // 2)
            rows.append((each.device.name, each.estimate.verdict, f"{need} of {room}", filled))
    print_rows(console, rows, ("bold", "", "", "cyan"))
    _show_notes([each.estimate for each in found.on if each.estimate], console)


def _show_fit(found: Fit, console: Console) -> None:
    console.print(f"as it is: {one_line(found.as_it_is)}", style="bold", soft_wrap=True)
    console.print(Text(_how(found.as_it_is), style="dim"), soft_wrap=True)
    _show_notes([found.as_it_is], console)
    rows = [
        ("largest micro batch", *_answer(found.batch, "row")),
        ("longest rows", *_answer(found.length, "token")),
        ("mildest changes", *_changes(found)),
    ]
    console.print()
    print_rows(console, rows, ("bold", "", "", ""))


def _answer(found: Answer | None, noun: str) -> tuple[str, str, str]:
    if found is None:
        return "none fits", "", ""
    end = "" if found.beyond else ", the most there can be"
    end += f" ({found.note})" if found.note else ""
    return counted(found.value, noun) + end, _flags(found.settings), one_line(found.estimate)


def _changes(found: Fit) -> tuple[str, str, str]:
    if found.levers is None or found.with_levers is None:
        return "no set of changes fits", "", ""
    if not found.levers:
        return "none needed", "", ""
    names = ", ".join(lever.name for lever in found.levers)
    return names, _flags(found.settings), one_line(found.with_levers)


def _flags(settings: Sequence[str]) -> str:
    return " ".join(f"--set {setting}" for setting in settings)
