"""`loracli merge`: an adapter folded into its base."""

from pathlib import Path
from typing import Annotated

import typer

from lora_cli.commands.arguments import AsJson


def command(
    adapter: Annotated[
        Path,
        typer.Argument(metavar="RUN_OR_ADAPTER", help="A run directory, or an adapter's folder."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")],
    as_json: AsJson = False,
) -> None:
    """Fold an adapter into its base model and write a checkpoint that needs no adapter.

    Example: loracli merge runs/quickstart --output merged/quickstart
    """
    from lora_cli.merge.merge import merge_adapter

    merged = merge_adapter(adapter, output)

    from lora_cli.console.merge import show_merge

    show_merge(merged, as_json=as_json)
