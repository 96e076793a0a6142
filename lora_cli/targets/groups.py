"""A model's weights by what they are for: one group for all layers that have the same.

This module does not know which of them an adapter takes, or what that costs.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lora_cli.facts.base_model import BaseModelFacts
from lora_cli.facts.inventory import Kind, WeightFacts
from lora_cli.targets.layers import pattern_of, ranges, stack_of
from lora_cli.targets.parts import Tower, part_of, tower_of
from lora_cli.targets.roles import layer_of, role_of

ORDER = ("embedding", "attention", "mlp", "router", "experts", "convolution", "other", "head")
"""Of roles, in a table."""
NORMS = "norms and other vectors"
_PARTS = ("q", "qkv", "kv", "k", "v", "o", "gate", "gate_up", "up", "down")


@dataclass(frozen=True, slots=True)
class ShapeFacts:
    """A shape, how many have it and in which layers."""

    shape: tuple[int, ...]
    count: int
    layers: str


@dataclass(frozen=True, slots=True)
class Group:
    """Weights that have the same name but for the number of their layer, and the same use."""

    tower: Tower
    role: str
    """One of `ORDER`, or `NORMS`."""
    part: str
    """What it does in its block: `q`, `down`, …; else its last name."""
    pattern: str
    kind: Kind
    names: tuple[str, ...]
    layers: str
    """Numbers of the layers that have it, such as `0-31`; empty outside of layers."""
    of_layers: int
    """How many layers there are beside them, these included."""
    missing: str
    """Numbers of those that have it not."""
    shapes: tuple[ShapeFacts, ...]
    """The most frequent first."""
    parameters: int
    tied_to: str
    shared: int
    """How many of them are the weight of another one here; their parameters count once."""
    never_quantized: str

    @property
    def count(self) -> int:
        """Return how many there are."""
        return len(self.names)


def grouped(weights: Sequence[WeightFacts], base: BaseModelFacts) -> tuple[Group, ...]:
    """Return the groups of a model's weights by tower, use and place; none is left out."""
    members: dict[tuple[str, ...], list[WeightFacts]] = defaultdict(list)
    stacks: dict[str, set[int]] = defaultdict(set)
    for each in weights:
        role = role_in(each, base)
        members[tower_of(each.name), role, pattern_of(each.name), each.kind].append(each)
        if (layer := layer_of(each.name)) is not None:
            stacks[stack_of(each.name)].add(layer)
    groups = [_group(role, found, stacks) for (_, role, _, _), found in members.items()]
    towers = list(dict.fromkeys(group.tower for group in groups))
    return tuple(sorted(groups, key=lambda group: _place(group, towers)))


def role_in(weight: WeightFacts, base: BaseModelFacts) -> str:
    """Return what a weight of this model is for: one of `ORDER`, or `NORMS`."""
    name, head = weight.name, base.output_head.name if base.output_head else ""
    if weight.kind == "Vector":
        return NORMS
    if name == head or name in base.heads:
        return "head"
    if weight.kind == "Embedding":
        return "embedding"
    if weight.kind == "Conv":
        return "convolution"
    if any(each.name == name and each.experts for each in base.bare_parameters):
        return "experts"
    role = role_of(name.rpartition(".")[0] if weight.kind == "Parameter" else name)
    return role if weight.kind != "Parameter" or role == "router" else "other"


def _group(role: str, members: Sequence[WeightFacts], stacks: dict[str, set[int]]) -> Group:
    first, names = members[0], {each.name for each in members}
    layers = set(_layers(members))
    beside = stacks.get(stack_of(first.name), set()) if layers else set()
    return Group(
        tower=tower_of(first.name),
        role=role,
        part=_part(first, role),
        pattern=pattern_of(first.name),
        kind=first.kind,
        names=tuple(each.name for each in members),
        layers=ranges(layers),
        of_layers=len(beside),
        missing=ranges(beside - layers),
        shapes=_shapes(members),
        parameters=sum(each.parameters for each in members),
        tied_to=first.tied_to,
        shared=sum(each.tied_to in names for each in members),
        never_quantized=first.never_quantized,
    )


def _part(weight: WeightFacts, role: str) -> str:
    return part_of(weight.name) if role in ("attention", "mlp") else _last(weight)


def _last(weight: WeightFacts) -> str:
    parts = [part for part in weight.name.split(".") if not part.isdecimal()] or [weight.name]
    bare = weight.kind == "Parameter" and parts[-1] == "weight" and len(parts) > 1
    return parts[-2] if bare else parts[-1]


def _layers(members: Iterable[WeightFacts]) -> list[int]:
    return [layer for each in members if (layer := layer_of(each.name)) is not None]


def _shapes(members: Sequence[WeightFacts]) -> tuple[ShapeFacts, ...]:
    counts = Counter(each.shape for each in members)
    return tuple(
        ShapeFacts(shape, count, ranges(_layers(m for m in members if m.shape == shape)))
        for shape, count in counts.most_common()
    )


def _place(group: Group, towers: Sequence[str]) -> tuple[int, int, int]:
    """Return where a group stands in a table: by tower, role and part, else as in the model."""
    role = ORDER.index(group.role) if group.role in ORDER else len(ORDER)
    part = _PARTS.index(group.part) if group.part in _PARTS else len(_PARTS)
    return towers.index(group.tower), role, part
