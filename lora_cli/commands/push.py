"""`loracli push`: a finished folder to the hub, shown first."""

from pathlib import Path
from typing import Annotated

import typer

from lora_cli.commands.arguments import AsJson


def command(
    folder: Annotated[
        Path,
        typer.Argument(help="A run directory, an adapter, a merged model, or an export."),
    ],
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Where to on the hub.")],
    *,
    private: Annotated[
        bool, typer.Option("--private", help="Make the repository private, if it is made.")
    ] = False,
    revision: Annotated[str, typer.Option(help="The branch; made if it is not there.")] = "main",
    yes: Annotated[
        bool, typer.Option("--yes", help="Send it; without this it is only shown.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what would be uploaded to the Hugging Face hub, with its model card; --yes sends it.

    Example: loracli push served/quickstart me/quickstart --private --yes
    """
    from lora_cli.console.push import push

    push(folder, repository, private=private, revision=revision, yes=yes, as_json=as_json)
