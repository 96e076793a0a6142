"""`loracli merge`: an adapter folded into its base."""

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from lora_cli.commands.arguments import AsJson

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def _size(text: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?", text.strip(), re.IGNORECASE)
    size = round(float(found[1]) * UNITS[found[2].lower()]) if found else 0
    if size < 1:
        raise typer.BadParameter(f"{text!r} is no size, such as 5GB or 500MB")
    return size


def command(  # noqa: PLR0913  # a command's options
    adapter: Annotated[
        Path,
        typer.Argument(metavar="RUN_OR_ADAPTER", help="A run directory, or an adapter's folder."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The folder to write. By default RUN/merged, or ADAPTER-merged beside an adapter.",
        ),
    ] = None,
    *,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        typer.Option(help="What to write the weights in. By default what the base has them in."),
    ] = None,
    max_shard_size: Annotated[
        int | None,
        typer.Option(
            parser=_size,
            metavar="SIZE",
            help="The largest file, such as 5GB. By default the base's own files.",
        ),
    ] = None,
    base: Annotated[
        str, typer.Option(help="Where the base is now, if not where the adapter says.")
    ] = "",
    onto: Annotated[
        Literal["dequantised", "original"],
        typer.Option(
            help="After training on a quantized base: fold into what that base held, or into the "
            "original weights, which is another model."
        ),
    ] = "dequantised",
    verify: Annotated[
        bool,
        typer.Option(help="Load what was written and compare it with base and adapter."),
    ] = True,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a checkpoint that is there already.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Fold an adapter into its base model and write a checkpoint that needs no adapter.

    It is written tensor by tensor, so that a model of any size fits in memory, and then compared
    with base and adapter: a checkpoint that answers differently is not left behind.

    Example: loracli merge runs/quickstart --output merged/quickstart
    """
    from lora_cli.console.merge import merge
    from lora_cli.merge.prepare import MergeOptions

    options = MergeOptions(
        output=output,
        dtype=dtype,
        max_shard_bytes=max_shard_size,
        base=base,
        onto=onto,
        verify=verify,
        overwrite=overwrite,
    )
    merge(adapter, options, as_json=as_json)
