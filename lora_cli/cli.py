"""The command table, and the one place where an error becomes an exit code.

0 done · 1 the run failed · 2 recipe, plan or usage · 3 unexpected · 4 a guard stopped the run ·
130 Ctrl-C · 143 SIGTERM. Nothing heavy is imported here: `loracli --help` must be instant.
"""

from __future__ import annotations

import errno
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from lora_cli import __version__
from lora_cli.commands import (
    estimate_memory,
    export,
    extract,
    inspect_targets,
    merge,
    plan,
    preview,
    push,
    schema,
    train,
)
from lora_cli.errors import InterruptedRunError, LoraCliError, RunError

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class Commands(TyperGroup):
    """The commands; Ctrl-C while one of them works ends it with a word and not in silence."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)
            raise


app = typer.Typer(
    name="loracli",
    cls=Commands,
    epilog="Example: loracli train recipes/quickstart.yaml",
    help="Fine-tune with LoRA from one YAML recipe: what it says is what happens.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("train")(train.command)
app.command("plan")(plan.command)
app.command("preview")(preview.command)
app.command("inspect-targets")(inspect_targets.command)
app.command("estimate-memory")(estimate_memory.command)
app.command("merge")(merge.command)
app.command("export")(export.command)
app.command("extract")(extract.command)
app.command("push")(push.command)
app.command("schema")(schema.command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"loracli {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Fine-tune with LoRA from one YAML recipe: what it says is what happens."""


def exit_code_of(error: LoraCliError) -> int:
    """Return the process's exit code for an error."""
    if isinstance(error, InterruptedRunError):
        return error.signal_exit_code
    return error.exit_code


def _end(error: LoraCliError) -> int:
    """Show an error, to a program as well where it asked for JSON, and return the exit code."""
    from lora_cli.console.errors import error_as_json, show_error

    show_error(error)
    code = exit_code_of(error)
    if "--json" in sys.argv:
        typer.echo(error_as_json(error, code))
    return code


def _end_of_disk(error: OSError) -> int:
    """Show what the disk refused and return the exit code; anything else is unexpected."""
    if error.errno not in DISK_ERRORS:
        from lora_cli.console.errors import show_unexpected

        show_unexpected(error)
        return 3
    where = str(error.filename or "")
    hint = "make room; a run goes on with --resume" if error.errno != errno.EROFS else ""
    return _end(RunError(f"cannot be written: {error.strerror}", where, hint))


def main() -> None:
    """Run the command line; every error ends here, as text and an exit code."""
    try:
        app()
    except LoraCliError as error:
        sys.exit(_end(error))
    except OSError as error:
        sys.exit(_end_of_disk(error))
    except Exception as error:  # the boundary: anything unforeseen leaves a log, not a traceback
        from lora_cli.console.errors import show_unexpected

        show_unexpected(error)
        sys.exit(3)
