"""`loracli merge`: an adapter folded into its base, or several made one."""

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from lora_cli.commands.arguments import AsJson, Overwrite, told_together, unread
from lora_cli.errors import Problem, UsageError, Where
from lora_cli.merge.combine.choices import Into, MajoritySign, Method

SEVERAL = "Several adapters"
OF_SEVERAL = ("method", "weight", "density", "rank", "energy", "majority_sign", "seed", "into")
OF_A_MODEL = ("dtype", "max_shard_size", "base", "any_base", "onto", "verify")
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def _size(text: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?", text.strip(), re.IGNORECASE)
    size = round(float(found[1]) * UNITS[found[2].lower()]) if found else 0
    if size < 1:
        raise typer.BadParameter(f"{text!r} is no size, such as 5GB or 500MB")
    return size


def command(  # noqa: PLR0913  # a command's options
    context: typer.Context,
    adapters: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN_OR_ADAPTER...", help="A run directory, or an adapter's folder; or several."
        ),
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
    any_base: Annotated[
        bool,
        typer.Option("--any-base", help="Take a base that is not the one of the training."),
    ] = False,
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
    method: Annotated[
        Method | None,
        typer.Option(help="How several adapters are made one.", rich_help_panel=SEVERAL),
    ] = None,
    weight: Annotated[
        list[float] | None,
        typer.Option(
            help="How much of an adapter: one for each, in their order. By default 1.",
            rich_help_panel=SEVERAL,
        ),
    ] = None,
    density: Annotated[
        float | None,
        typer.Option(
            help="The share of entries that ties, dare and magnitude_prune keep.",
            rich_help_panel=SEVERAL,
        ),
    ] = None,
    rank: Annotated[
        int | None,
        typer.Option(
            help="The highest rank of the result. By default that of the adapters; any in a model.",
            rich_help_panel=SEVERAL,
        ),
    ] = None,
    energy: Annotated[
        float | None,
        typer.Option(
            help="The share of squared singular values to keep; the rank follows.",
            rich_help_panel=SEVERAL,
        ),
    ] = None,
    majority_sign: Annotated[
        MajoritySign | None,
        typer.Option(help="Which sign most have, for ties.", rich_help_panel=SEVERAL),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Of what dare drops. By default 0.", rich_help_panel=SEVERAL),
    ] = None,
    into: Annotated[
        Into,
        typer.Option(help="Write one adapter, or fold it into the base.", rich_help_panel=SEVERAL),
    ] = "adapter",
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Fold an adapter into its base model and write a checkpoint that needs no adapter.

    It is written tensor by tensor, so that a model of any size fits in memory, and then compared
    with base and adapter: a checkpoint that answers differently is not left behind.

    Several adapters of one base become one adapter, for which no weight of the base is read.

    Example: loracli merge runs/quickstart --output merged/quickstart
    Example: loracli merge runs/polite runs/json --method linear --weight 1 --weight 0.5 -o both
    """
    from lora_cli.merge.prepare import MergeOptions

    options = MergeOptions(
        output=output,
        dtype=dtype,
        max_shard_bytes=max_shard_size,
        base=base,
        any_base=any_base,
        onto=onto,
        verify=verify,
        overwrite=overwrite,
    )
    if len(adapters) == 1:
        if needless := unread(context, OF_SEVERAL, "is for several adapters; one is given"):
            raise UsageError.from_problems(needless)
        from lora_cli.console.merge import merge  # without what several adapters need

        merge(adapters[0], options, as_json=as_json)
        return
    of_a_model = "is for a merged model; without --into model, several adapters become one adapter"
    needless = unread(context, OF_A_MODEL, of_a_model) if into == "adapter" else []
    if method is None or output is None:
        missing = Problem(Where(), "several adapters need --method and --output")
        raise UsageError.from_problems([missing, *needless])
    from lora_cli.console.combine import merge_several
    from lora_cli.merge.combine.options import CombineOptions

    with told_together(needless):
        combining = CombineOptions(
            method=method,
            weights=tuple(weight or ()),
            density=density,
            majority_sign_method=majority_sign,
            rank=rank,
            energy=energy,
            seed=seed,
            into=into,
        )
    merge_several(adapters, combining, options, as_json=as_json)
