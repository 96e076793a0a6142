"""Layers of a choice that peft would not adapt on this base, whoever names them: what to leave out.

The plan refuses them; where nobody has named a module, the recipe that is printed leaves them out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lora_cli.adapters import AdapterSpec
from lora_cli.adapters.low_rank import LowRankSpec
from lora_cli.adapters.randlora import RandLora
from lora_cli.facts.base_model import BaseModelFacts
from lora_cli.targets.names import last_names


@dataclass(frozen=True, slots=True)
class Barred:
    """Layers that stand in a choice for one reason."""

    names: tuple[str, ...]
    """The last names of all of them, which mean these layers alone."""
    why: str


def barred(spec: AdapterSpec, modules: Iterable[str], base: BaseModelFacts) -> Iterator[Barred]:
    """Yield those of `modules` that peft would not adapt with `spec`, by the reason."""
    modules = tuple(modules)
    reasons = (
        (LowRankSpec, base.taken_for_experts, "peft takes `{}` for a part of the experts"),
        (
            (LowRankSpec, RandLora),
            base.refused_by_peft,
            "peft refuses `{}`: Mamba's kernels read its weight, and would pass an adapter by",
        ),
    )
    for variants, names, why in reasons:
        found = [name for name in modules if name.rpartition(".")[2] in names]
        if found and isinstance(spec, variants):
            yield Barred(last_names(found), why.format(found[0]))


def advice(spec: AdapterSpec, found: Barred) -> str:
    """Return what to write where a choice has such layers."""
    if isinstance(getattr(spec, "target_modules", ""), tuple):
        return f"take {', '.join(f'`{name}`' for name in found.names)} out of `target_modules`"
    return f"leave such layers out: `exclude_modules: [{', '.join(found.names)}]`"
