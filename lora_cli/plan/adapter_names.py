"""What a recipe names loosely, by full names and ids, and what it comes to."""

from __future__ import annotations

from typing import Any

from lora_cli.adapters import AdapterSpec
from lora_cli.adapters.low_rank import LowRankSpec
from lora_cli.adapters.targeted import TargetedSpec
from lora_cli.plan.inputs import Facts
from lora_cli.targets.match import parameters_in
from lora_cli.targets.names import listing


def exact_names(asked: AdapterSpec, facts: Facts) -> dict[str, Any]:
    """Return the fields of the specification that the base's own names and ids belong in."""
    exact: dict[str, Any] = {}
    if isinstance(asked, TargetedSpec):
        exact["modules_to_save"] = facts.matched.saved_modules
    if isinstance(asked, LowRankSpec):
        exact["target_parameters"] = tuple(each.name for each in facts.matched.parameters)
        exact["trainable_tokens"] = facts.token_ids
    return exact


def trained_beside(facts: Facts) -> int:
    """Return how many numbers are trained beside the adapter: whole modules, and single tokens."""
    tokens = len(facts.token_ids) * facts.base.embedding.out_features
    return parameters_in(facts.matched.saved_modules, facts.base) + tokens


def as_written(field: str, value: Any) -> Any:
    """Return the value of an adapter's field as a recipe would have it."""
    if isinstance(value, dict):
        return ", ".join(f"{key}: {item}" for key, item in value.items()) or None
    if field in ("modules_to_save", "target_parameters"):
        return listing(value)
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or None
    return value
