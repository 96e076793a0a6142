"""Arguments that several commands share, and those of one that its work does not read."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from lora_cli.errors import Problem, UsageError, Where

RecipePath = Annotated[
    Path, typer.Argument(metavar="RECIPE", help="The recipe, a YAML file.", show_default=False)
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Set one recipe value, e.g. training.learning_rate=1e-4. Repeatable.",
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace what an earlier call wrote there.")
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print JSON for a program to read, of errors too.")
]


def unread(context: typer.Context, names: Collection[str], message: str) -> list[Problem]:
    """Return a problem for each of these parameters that the command line gives a value."""
    return [
        Problem(Where("/".join([*each.opts, *each.secondary_opts])), message, "leave it out")
        for each in context.command.params
        if each.name in names and _is_given(context, each.name)
    ]


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


@contextmanager
def told_together(problems: Sequence[Problem]) -> Iterator[None]:
    """Tell problems that are known already as one error with those of what is done now.

    Raises:
        UsageError: there are any.
    """
    found = list(problems)
    try:
        yield
    except UsageError as error:
        found += error.problems
    if found:
        raise UsageError.from_problems(found)
