"""`loracli inspect-targets`: a model's parts, what adapting them costs, and a recipe for it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from lora_cli.console.inspect_targets_json import as_json_values
from lora_cli.console.inspect_targets_rows import (
    group_rows,
    odd_lines,
    peft_lines,
    preset_rows,
    summary_rows,
    tree_lines,
    variant_rows,
)
from lora_cli.console.inspect_targets_words import (
    pattern_lines,
    warnings_of,
    warnings_of_snippet,
)
from lora_cli.console.quiet import quiet_bars, quiet_libraries
from lora_cli.console.rows import print_rows
from lora_cli.errors import InspectError, PlanError, RecipeError
from lora_cli.targets.asked import Asked, asked_recipe
from lora_cli.targets.inspect import Inspection

NOT_RUN = "by what their sources say; neither was run"


def inspect_and_show(asked: Asked, *, tree: bool, as_json: bool, as_yaml: bool) -> None:
    """Inspect what was asked for and print it: a recipe alone, JSON, or for a person."""
    inspection = inspected(asked)
    if as_yaml:
        sys.stdout.write(inspection.snippet)
        found = (f"warning: {each}" for each in warnings_of_snippet(inspection))
        _print(Console(stderr=True), found, "yellow")
    elif as_json:
        values = as_json_values(inspection, tree=tree)
        print(json.dumps(values, indent=2))  # noqa: T201  # rich would wrap long lines
    else:
        show_inspection(inspection, Console(highlight=False), tree=tree)


def inspected(asked: Asked) -> Inspection:
    """Return the inspection that was asked for; a terminal shows that it is being made.

    Raises:
        LoraCliError: the arguments, the recipe or the model are wrong. Where no recipe was named,
            nothing is said of one.
    """
    quiet_libraries()
    try:
        recipe = asked_recipe(asked)
        with Console(stderr=True).status("building the model, without its weights …"):
            from lora_cli.targets.inspect import inspect_targets

            quiet_bars()
            return inspect_targets(recipe.loaded, recipe.written, task_is_open=recipe.task_is_open)
    except (RecipeError, PlanError) as error:
        if asked.of_recipe:
            raise
        raise InspectError.from_problems(error.problems) from error


def show_inspection(inspection: Inspection, console: Console, *, tree: bool = False) -> None:
    """Print all that was found, from what the model holds to a recipe to paste."""
    from lora_cli.merge.served_targets import servers_taking

    print_rows(console, summary_rows(inspection), ("bold", ""))
    _print(console, (f"warning: {each}" for each in warnings_of(inspection)), "yellow")
    if tree:
        _title(console, "the module tree")
        _print(console, tree_lines(inspection.tree))
    _title(console, "what the model holds")
    rows = group_rows(inspection)
    print_rows(console, rows, ("bold", *("",) * (len(rows[0]) - 1)))
    _print(console, odd_lines(inspection), "yellow")
    _print(console, pattern_lines(inspection))
    if inspection.presets:
        _title(console, f"presets, with {inspection.choice.spec.variant}")
        print_rows(console, preset_rows(inspection.presets), ("", "", "", "", "dim"))
    _title(console, "what peft would take by itself")
    _print(console, peft_lines(inspection.peft))
    if inspection.variants:
        _title(console, "variants that take this choice")
        print_rows(console, variant_rows(inspection.variants), ("", "", "dim"))
    if not inspection.choice.trainable:
        return  # nothing to serve or to paste
    _title(console, f"servers ({NOT_RUN})")
    servers = servers_taking(inspection)
    said = [(each.name, f"no: {each.why_not}" if each.why_not else each.use) for each in servers]
    print_rows(console, said, ("", ""))
    _title(console, "to paste into a recipe")
    _print(console, inspection.snippet.splitlines())


def _title(console: Console, text: str) -> None:
    _print(console, [f"\n{text}"], "bold")


def _print(console: Console, lines: Iterable[str], style: str = "") -> None:
    for line in lines:
        console.print(Text(line, style=style), soft_wrap=True)
