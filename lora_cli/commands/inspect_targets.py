"""`loracli inspect-targets`: what there is to adapt in a model, and what it costs."""

from typing import Annotated

import typer

from lora_cli.commands.arguments import AsJson, Overrides


def command(  # noqa: PLR0913  # one for each option
    model_or_recipe: Annotated[
        str,
        typer.Argument(
            metavar="MODEL_OR_RECIPE",
            help="A recipe (.yaml), or a model: hub id, folder, .gguf file, package://module/file.",
            show_default=False,
        ),
    ],
    *,
    rank: Annotated[
        int | None,
        typer.Option(help="The rank to count at. By default the recipe's, or the variant's own."),
    ] = None,
    targets: Annotated[
        list[str] | None,
        typer.Option(
            "--targets",
            metavar="PATTERNS",
            help="A preset, names, patterns with * or regular expressions; commas, or repeated.",
        ),
    ] = None,
    variant: Annotated[str | None, typer.Option(help="The adapter variant; lora.")] = None,
    quantization: Annotated[
        str | None, typer.Option(help="How the base is held: none, nf4, fp4 or int8.")
    ] = None,
    overrides: Overrides = None,
    tree: Annotated[bool, typer.Option("--tree", help="Show the module tree too.")] = False,
    as_json: AsJson = False,
    as_yaml: Annotated[
        bool, typer.Option("--yaml", help="Print only the lines to paste into a recipe.")
    ] = False,
) -> None:
    """Show a model's parts, what adapting them costs, and which of them a choice takes.

    From its config alone: no weights are read, and a model of any size takes seconds.

    Example: loracli inspect-targets recipes/quickstart.yaml --rank 32 --targets "*.self_attn.*"
    """
    if as_json and as_yaml:
        raise typer.BadParameter("give --json or --yaml, not both")

    from lora_cli.console.inspect_targets import inspect_and_show
    from lora_cli.targets.asked import Asked

    asked = Asked(
        model_or_recipe,
        targets=tuple(targets or ()),
        rank=rank,
        variant=variant,
        quantization=quantization,
        overrides=tuple(overrides or ()),
    )
    inspect_and_show(asked, tree=tree, as_json=as_json, as_yaml=as_yaml)
