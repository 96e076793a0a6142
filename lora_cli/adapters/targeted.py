"""Fields of the variants that adapt modules: which of them, and which are trained as a whole.

This module does not know which modules a name matches (`targets`).
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from lora_cli.adapters.variant import VariantSpec
from lora_cli.section import Section

TargetPreset = Literal["all-linear", "attention", "mlp"]


class TargetRegex(Section):
    """Modules whose full name matches a regular expression."""

    regex: str = Field(min_length=1)
    """Matched against the whole module name, e.g. `.*layers\\.[0-9]+\\.self_attn\\..*`."""


def _target_form(value: Any) -> str:
    if isinstance(value, dict | TargetRegex):
        return "regex"
    return "names" if isinstance(value, list | tuple) else "preset"


def _as_range(text: str) -> str:
    ends = re.fullmatch("([0-9]{1,6})-([0-9]{1,6})", text)
    if not ends:
        raise PydanticCustomError(
            "range", "a range of layers is written as 0-7, both ends included"
        )
    if int(ends[1]) > int(ends[2]):
        raise PydanticCustomError("range", f"{text} runs backwards, write {ends[2]}-{ends[1]}")
    return text


ModuleNames = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(strict=False)]
TargetModules = Annotated[
    Annotated[TargetPreset, Tag("preset")]
    | Annotated[ModuleNames, Field(min_length=1), Tag("names")]
    | Annotated[TargetRegex, Tag("regex")],
    Discriminator(_target_form),
]


ExcludedModules = Annotated[
    Annotated[ModuleNames, Tag("names")] | Annotated[TargetRegex, Tag("regex")],
    Discriminator(lambda value: "regex" if isinstance(value, dict | TargetRegex) else "names"),
]
Layer = Annotated[
    Annotated[int, Field(ge=0), Tag("layer")]
    | Annotated[str, AfterValidator(_as_range), Tag("range")],
    Discriminator(lambda value: "range" if isinstance(value, str) else "layer"),
]


class TargetedSpec(VariantSpec):
    """Fields shared by the variants that adapt modules."""

    target_modules: TargetModules = "all-linear"
    """Modules to adapt: `all-linear`, `attention`, `mlp`, a list of names, or `{regex: …}`."""
    exclude_modules: ExcludedModules = ()
    """Modules to leave out of those: a list of names, or `{regex: …}`."""
    layers: Annotated[tuple[Layer, ...], Field(strict=False)] = ()
    """Adapt these layers only: a list of numbers, from 0, and of ranges such as `0-7`."""
    modules_to_save: ModuleNames = ()
    """Names of modules to train as a whole beside the adapter, and to save with it: embeddings,
    the output head, norms."""

    ties_modules_to_save: ClassVar[bool] = False
    """Whether embedding and output head stay one weight when they are trained as a whole."""
