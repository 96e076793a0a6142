"""A model's modules as a tree, in which neighbours that are alike are one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from lora_cli.targets.layers import ranges


@dataclass(frozen=True, slots=True)
class Branch:
    """A module, or several numbered ones that are alike."""

    name: str
    """Within the module around it: `self_attn`, or `0-31` for layers that are alike."""
    kind: str
    """Its class."""
    shape: tuple[int, ...]
    """Of its weight; empty for a module that has none."""
    parameters: int
    """Of all of them, with what is in them; what is tied counts once in the module around it."""
    count: int
    children: tuple[Branch, ...]

    @property
    def form(self) -> tuple[Any, ...]:
        """Return what two modules have in common that are alike: all but name and number."""
        return self.kind, self.shape, self.parameters, tuple(c.name_and_form for c in self.children)

    @property
    def name_and_form(self) -> tuple[Any, ...]:
        """Return the name and the form."""
        return self.name, self.form


def tree_of(model: Any) -> Branch:
    """Return the modules of a model, neighbours alike as one."""
    return _branch("", model)


def _branch(name: str, module: Any) -> Branch:
    children = tuple(_folded([_branch(name, child) for name, child in module.named_children()]))
    weight = getattr(module, "weight", None)
    return Branch(
        name=name,
        kind=type(module).__name__,
        shape=tuple(getattr(weight, "shape", ())),
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        count=1,
        children=children,
    )


def _folded(branches: list[Branch]) -> Iterator[Branch]:
    """Yield branches; numbered ones that are alike as one, where the first of them stood."""
    alike: dict[tuple[Any, ...], list[Branch]] = {}
    for branch in branches:
        key = branch.form if branch.name.isdecimal() else (branch.name,)
        alike.setdefault(key, []).append(branch)
    for members in alike.values():
        first = members[0]
        if len(members) == 1:
            yield first
            continue
        yield replace(
            first,
            name=ranges(int(each.name) for each in members),
            parameters=sum(each.parameters for each in members),
            count=len(members),
        )
