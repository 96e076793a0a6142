"""What a choice of modules comes to: an adapter settled for a base, and what of it is trained.

Counting is the variant's own (`VariantSpec.trainable_parameters`), as in the plan.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from lora_cli.adapters import AdapterSpec
from lora_cli.adapters.low_rank import LowRankSpec
from lora_cli.adapters.variant import Setting
from lora_cli.facts.base_model import BaseModelFacts
from lora_cli.facts.linear_layers import LinearFacts
from lora_cli.recipe.source import Source
from lora_cli.targets.match import Matched, adapter_setting, match_targets, parameters_in

MANY_STEPS = 10_000
"""Of a run whose length is not known here; a method with a schedule finds room for it."""


@dataclass(frozen=True)
class Choice:
    """An adapter settled for a base, and what it takes there."""

    spec: AdapterSpec
    matched: Matched
    setting: Setting
    beside: int
    """Numbers trained beside the adapter: whole modules, and single tokens."""

    @property
    def trainable(self) -> int:
        """Return how many numbers are trained in all."""
        return self.spec.trainable_parameters(self.setting) + self.beside

    @property
    def taken(self) -> frozenset[str]:
        """Return the names of all modules and tensors that are adapted."""
        return self.matched.names

    def trainable_in(self, names: Collection[str]) -> int:
        """Return how many numbers the adapter trains in those modules and tensors."""
        part = replace(
            self.setting,
            modules=[each for each in self.setting.modules if each.name in names],
            parameters=[each for each in self.setting.parameters if each.name in names],
        )
        if not part.modules and not part.parameters:
            return 0
        return self.spec.trainable_parameters(part)


def choose(
    spec: AdapterSpec, base: BaseModelFacts, source: Source, steps: int = MANY_STEPS
) -> Choice:
    """Return what `spec` takes on `base`, settled.

    Raises:
        PlanError: it names what is not there, or leaves nothing to adapt.
    """
    return settle(spec, match_targets(spec, base, source), base, steps)


def settle(
    spec: AdapterSpec, matched: Matched, base: BaseModelFacts, steps: int = MANY_STEPS
) -> Choice:
    """Return `spec` settled for modules that are known already."""
    setting = adapter_setting(matched, base, steps)
    tokens = len(spec.trainable_tokens) if isinstance(spec, LowRankSpec) else 0
    beside = parameters_in(matched.saved_modules, base) + tokens * base.embedding.out_features
    return Choice(spec.settled(setting), matched, setting, beside)


def rank_over_weights(spec: AdapterSpec, modules: Iterable[LinearFacts]) -> Iterator[str]:
    """Yield that a rank is higher than a module's weight can have, of the first where one is."""
    if not isinstance(spec, LowRankSpec):
        return
    for each in modules:
        rank, whole = spec.rank_of(each.name), min(each.in_features, each.out_features)
        if rank > whole:
            shape = f"`{each.name}` ({each.out_features} × {each.in_features})"
            yield f"rank {rank:,} is more than {shape} can have: {whole} is all of it"
            return
