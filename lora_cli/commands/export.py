"""`loracli export`: an adapter, or a merged model, in the form that servers read."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from lora_cli.commands.arguments import AsJson, Overwrite


def _checked_rank(rank: int | None) -> int | None:
    if rank is not None and rank < 1:
        raise typer.BadParameter(f"{rank} is no rank; give a whole number from 1 on, such as 16")
    return rank


def _checked_error(error: float | None) -> float | None:
    if error is not None and not 0 < error < 1:
        raise typer.BadParameter(f"{error:g} is not between 0 and 1, such as 0.05 for 5 %")
    return error


def command(  # noqa: PLR0913  # one for each option
    source: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_OR_ADAPTER_OR_MODEL",
            help="A run directory, an adapter's folder, or, for gguf, a merged model's.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")],
    *,
    to: Annotated[
        Literal["lora", "gguf"],
        typer.Option(help="The form: a plain LoRA of one rank, or llama.cpp's and Ollama's file."),
    ] = "lora",
    precision: Annotated[
        Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"] | None,
        typer.Option("--type", help="How a GGUF file holds its numbers; as they lie by default."),
    ] = None,
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
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write an adapter as the plain LoRA that peft, vLLM and llama.cpp read alike, or as GGUF.

    Exact for LoRA and all that is saved as one, AdaLoRA, VeRA and MiSS. Any other change of
    weights needs --rank or --error. --to gguf also takes a merged model.

    Example: loracli export runs/quickstart --output served/quickstart

    Example: loracli export merged/quickstart --to gguf --type q8_0 --output served/quickstart
    """
    if rank is not None and error is not None:
        raise typer.BadParameter("give --rank or --error, not both")
    if precision is not None and to != "gguf":
        raise typer.BadParameter("--type is for --to gguf: a plain LoRA is in float32")

    from lora_cli.console.export import export, export_to_gguf
    from lora_cli.merge.truncate import Limit

    limit = Limit(rank, error)
    if to == "gguf":
        export_to_gguf(source, output, precision, limit, overwrite=overwrite, as_json=as_json)
    else:
        export(source, output, limit, overwrite=overwrite, as_json=as_json)
