"""What a choice costs is what the variant counts, in all and in every part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lora_cli.adapters.lora import Lora
from lora_cli.adapters.targeted import TargetedSpec
from lora_cli.facts.base_model import BaseModelFacts
from lora_cli.recipe.source import Source
from lora_cli.targets.cost import choose
from lora_cli.targets.support import VARIANTS, as_variant

BaseOf = Callable[[str], BaseModelFacts]
TARGETED = [each for each in VARIANTS if issubclass(each, TargetedSpec)]


@pytest.mark.parametrize("variant", TARGETED, ids=lambda each: each.names()[0])
def test_the_parts_add_up_to_the_whole(base_of: BaseOf, variant: type[Any]) -> None:
    choice = choose(as_variant(variant, Lora(rank=4)), base_of("llama"), Source(""))
    parts = [choice.trainable_in({name}) for name in choice.taken]
    assert all(part > 0 for part in parts)
    assert sum(parts) == choice.trainable


def test_what_is_trained_beside_counts(base_of: BaseOf) -> None:
    base = base_of("llama")
    plain = choose(Lora(rank=4), base, Source(""))
    more = choose(
        Lora(rank=4, modules_to_save=("lm_head",), trainable_tokens=(5, 6)), base, Source("")
    )
    assert more.beside == 259 * 32 + 2 * 32
    assert more.trainable == plain.trainable + more.beside


def test_experts_are_a_part_too(base_of: BaseOf) -> None:
    spec = Lora(rank=4, target_modules="attention", target_parameters="experts")
    choice = choose(spec, base_of("mixtral"), Source(""))
    experts = {each.name for each in choice.matched.parameters}
    rows_and_columns = (128 + 32) + (32 + 64)
    assert choice.trainable_in(experts) == 2 * 4 * 4 * rows_and_columns
    assert choice.trainable_in({"lm_head"}) == 0
