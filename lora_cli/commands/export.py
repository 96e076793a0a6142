"""`loracli export`: an adapter in the form that servers read."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from lora_cli.commands.arguments import AsJson


def _checked_rank(rank: int | None) -> int | None:
    if rank is not None and rank < 1:
        raise typer.BadParameter(f"{rank} is no rank; give a whole number from 1 on, such as 16")
    return rank


def _checked_error(error: float | None) -> float | None:
    if error is not None and not 0 < error < 1:
        raise typer.BadParameter(f"{error:g} is not between 0 and 1, such as 0.05 for 5 %")
    return error


def command(
    adapter: Annotated[
        Path,
        typer.Argument(metavar="RUN_OR_ADAPTER", help="A run directory, or an adapter's folder."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")],
    *,
    to: Annotated[  # noqa: ARG001  # there is one form so far
        Literal["lora"],
        typer.Option(help="The form: a plain LoRA of one rank, its scaling in B."),
    ] = "lora",
    rank: Annotated[
        int | None,
        typer.Option(callback=_checked_rank, help="The highest rank: what is beyond it is lost."),
    ] = None,
    error: Annotated[
        float | None,
        typer.Option(
            callback=_checked_error,
            help="The largest relative error of a weight's change; the rank follows from it.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write an adapter as the plain LoRA that peft, vLLM and llama.cpp read alike.

    Exact for LoRA and all that is saved as one, AdaLoRA, VeRA and MiSS. Any other change of
    weights needs --rank or --error.

    Example: loracli export runs/quickstart --output served/quickstart
    """
    if rank is not None and error is not None:
        raise typer.BadParameter("give --rank or --error, not both")

    from lora_cli.console.export import export

    export(adapter, output, rank=rank, error=error, as_json=as_json)
