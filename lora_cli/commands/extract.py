"""`loracli extract`: a LoRA out of a fully tuned checkpoint."""

from pathlib import Path
from typing import Annotated

import typer

from lora_cli.commands.arguments import AsJson, Overwrite


def _checked_rank(rank: int | None) -> int | None:
    if rank is not None and rank < 1:
        raise typer.BadParameter(f"{rank} is no rank; give a whole number from 1 on, such as 16")
    return rank


def _checked_energy(energy: float | None) -> float | None:
    if energy is not None and not 0 < energy <= 1:
        raise typer.BadParameter(f"{energy:g} is not over 0 and up to 1, such as 0.95")
    return energy


def command(  # noqa: PLR0913  # one a flag
    tuned: Annotated[
        str, typer.Argument(metavar="TUNED", help="The tuned model: hub id, folder or .gguf file.")
    ],
    base: Annotated[
        str, typer.Argument(metavar="BASE", help="The model that it was tuned from, named alike.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")],
    *,
    rank: Annotated[
        int | None,
        typer.Option(callback=_checked_rank, help="The highest rank: what is beyond it is lost."),
    ] = None,
    energy: Annotated[
        float | None,
        typer.Option(
            callback=_checked_energy,
            help="The share of each layer's squared singular values to keep; the rank follows.",
        ),
    ] = None,
    targets: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Linear layers, or the ends of their names: q_proj,v_proj. By default all.",
        ),
    ] = "",
    allow_rest: Annotated[
        bool,
        typer.Option(
            "--allow-rest",
            help="Leave out what changed and a LoRA cannot hold: embeddings, norms, biases, head.",
        ),
    ] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write what full tuning changed in a model's linear layers as a LoRA on its base.

    Needs --rank or --energy; with both, the rank is the most that the energy may take.

    Example: loracli extract my/tuned-model my/base-model --output extracted --rank 32
    """
    if rank is None and energy is None:
        raise typer.BadParameter("give --rank or --energy: how near the LoRA should come")

    from lora_cli.console.extract import extract
    from lora_cli.merge.extract.options import ExtractOptions

    named = tuple(name.strip() for name in targets.split(",") if name.strip())
    options = ExtractOptions(rank, energy, named, allow_rest)
    extract(tuned, base, output, options, overwrite=overwrite, as_json=as_json)
