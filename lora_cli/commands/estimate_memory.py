"""`loracli estimate-memory`: what a run needs of a device, before any weight is read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from lora_cli.commands.arguments import AsJson, Overrides

NO_RECIPE = "Without a recipe"


def command(  # noqa: PLR0913  # a command's options
    recipes: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RECIPE", help="The recipe, a YAML file.", show_default=False),
    ] = None,
    *,
    device: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="For a device of the table, such as `RTX 4090` or L4."),
    ] = None,
    fit: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Find what fits on a GPU of this size, such as 24GB."),
    ] = None,
    all_devices: Annotated[
        bool, typer.Option("--all-devices", help="For every device of the table.")
    ] = False,
    levers: Annotated[
        bool | None,
        typer.Option(
            "--levers/--no-levers",
            help="What each change would save, simulated one by one. By default if it may not fit.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The base, as in a recipe.", rich_help_panel=NO_RECIPE)
    ] = None,
    variant: Annotated[
        str | None,
        typer.Option(help="The adapter's variant; lora.", rich_help_panel=NO_RECIPE),
    ] = None,
    rank: Annotated[
        int | None, typer.Option(help="The adapter's rank.", rich_help_panel=NO_RECIPE)
    ] = None,
    quantization: Annotated[
        str | None,
        typer.Option(
            help="How the base is held: none, nf4, fp4 or int8.", rich_help_panel=NO_RECIPE
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Rows in one forward pass.", rich_help_panel=NO_RECIPE)
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(help="Tokens of a row; all are this long.", rich_help_panel=NO_RECIPE),
    ] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Estimate the memory of a run: of training, evaluation, loading and merging.

    One step of the recipe is simulated without weights and replayed through a model of the GPU's
    allocator. Shows what the peak is made of, whether it fits, and what to change.

    Example: loracli estimate-memory recipes/quickstart.yaml --device L4
    Example: loracli estimate-memory recipes/quickstart.yaml --fit 24GB
    Example: loracli estimate-memory --model Qwen/Qwen3-8B --variant qlora --max-length 4096
    """
    from lora_cli.console.estimate import Asked, make_and_show_estimate

    if fit is not None:
        _check_size(fit, recipes or ())
    recipe = recipes[0] if recipes else None
    if recipes and len(recipes) > 1:
        raise typer.BadParameter(f"unexpected extra argument ({recipes[1]}): one recipe at a time")
    if sum([device is not None, fit is not None, all_devices]) > 1:
        raise typer.BadParameter("--device, --fit and --all-devices: give one of them")
    named = {
        "model": model,
        "adapter.variant": variant,
        "adapter.rank": rank,
        "quantization": quantization,
        "training.batch_size": batch_size,
        "training.max_length": max_length,
    }
    settings = {key: value for key, value in named.items() if value is not None}
    if recipe is not None and settings:
        raise typer.BadParameter("--model and the like are for no recipe; use --set with one")
    if recipe is None and model is None:
        raise typer.BadParameter("name a recipe, or a base with --model")
    make_and_show_estimate(
        Asked(
            recipe=recipe,
            settings=settings,
            overrides=tuple(overrides or ()),
            device=device,
            fit=fit,
            all_devices=all_devices,
            levers=levers,
            as_json=as_json,
        )
    )


def _check_size(fit: str, others: Sequence[Path]) -> None:
    """Refuse what is no size, with the words that a shell has parted from it: `--fit 24 GB`."""
    from lora_cli.errors import EstimateError
    from lora_cli.memory.devices import read_size

    parted = [str(each) for each in others if not each.suffix and not each.exists()]
    if not parted:
        return
    try:
        read_size(fit, "--fit")
    except EstimateError:
        whole = " ".join([fit, *parted])
        read_size(whole, "--fit")
    else:
        return  # they are a recipe's name, and wrong as such
    hint = f"write it as one: --fit {whole.replace(' ', '')}"
    raise EstimateError(f"`{whole}` is {len(parted) + 1} words", f"--fit {fit}", hint)
