"""`loracli preview` on the terminal: rows with their masks, then what was found in all of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from lora_cli.console.plan import quietly_planned, show_warnings
from lora_cli.console.preview_json import preview_json
from lora_cli.console.preview_page import preview_page
from lora_cli.console.preview_rows import print_legend, print_units, visible
from lora_cli.console.preview_words import Finding, findings
from lora_cli.console.reading import shown_in
from lora_cli.data.lengths import Lengths
from lora_cli.data.preview import Preview
from lora_cli.errors import LoraCliError
from lora_cli.files import write_text
from lora_cli.plan.run_plan import RunPlan
from lora_cli.recipe.load import LoadedRecipe
from lora_cli.words import counted

BAR = 40
"""Characters of the longest bar."""
NAME = 12
"""Characters of the column of names."""


def make_and_show_preview(
    loaded: LoadedRecipe, *, rows: int, as_json: bool, page: Path | None
) -> None:
    """Plan a recipe, look at its rows, and print them: as JSON for a program, else for a person.

    Raises:
        LoraCliError: the recipe cannot be planned, its rows change meanwhile, or the page cannot
            be written.
    """
    console = Console(highlight=False)
    plan = quietly_planned(loaded, console)
    preview = _quietly_made(plan, rows, console)
    if page is not None:
        _write(page, preview_page(plan, preview, loaded.path.name))
    if as_json:
        text = json.dumps(preview_json(plan, preview), indent=2, ensure_ascii=False)
        sys.stdout.write(text + "\n")
    else:
        show_preview(plan, preview, console)
        if page is not None:
            console.print(Text(f"page        {page}"), soft_wrap=True)


def _quietly_made(plan: RunPlan, rows: int, console: Console) -> Preview:
    from lora_cli.engine.preview import preview_of_plan

    what = "looking at the rows …"
    with console.status(what) as status:
        return preview_of_plan(plan, rows, shown_in(status, what))


def _write(page: Path, text: str) -> None:
    try:
        write_text(page, text)
    except OSError as error:
        reason = error.strerror or str(error)
        raise LoraCliError(f"cannot be written: {reason}", str(page)) from error


def show_preview(plan: RunPlan, preview: Preview, console: Console) -> None:
    """Print some rows, then the account of all, what was found, and the plan's warnings."""
    if preview.shown:
        print_legend(console)
        print_units(console, plan, preview.shown)
        console.print()
    for finding in findings(plan, preview):
        _print_finding(console, finding)
        if finding.name == "row length":
            _print_lengths(console, preview.lengths)
    if plan.warnings:
        console.print()
    show_warnings(plan, console)


def _print_finding(console: Console, finding: Finding) -> None:
    line = Text(finding.name.ljust(NAME), style="bold")
    line.append(visible(finding.text), "yellow" if finding.is_bad else "not bold")
    console.print(line, soft_wrap=True)
    for detail in finding.details:
        console.print(Text(" " * NAME + "  " + visible(detail), style="dim"), soft_wrap=True)


def _print_lengths(console: Console, lengths: Lengths) -> None:
    """Print a bar for each range of lengths, and a line where the limit is."""
    most = max(1, *(each.rows for each in lengths.bins))
    width = len(f"{lengths.bins[-1].last:,}")
    beyond = False
    for each in lengths.bins:
        if each.first > lengths.limit:
            beyond = True
            _print_limit(console, lengths.limit, "rows below this line are longer")
        bar = "█" * max(round(each.rows / most * BAR), 1 if each.rows else 0)
        line = Text(f"  {each.first:>{width},} – {each.last:>{width},}  ")
        line.append(bar, "yellow" if beyond else "cyan").append(f" {each.rows:,}")
        console.print(line, soft_wrap=True)
    if not beyond:
        _print_limit(console, lengths.limit, "no row is longer")


def _print_limit(console: Console, limit: int, meaning: str) -> None:
    rule = f"  ── limit {counted(limit, 'token')}: {meaning} "
    console.print(Text(rule.ljust(BAR + 2 * NAME, "─"), style="dim"), soft_wrap=True)
