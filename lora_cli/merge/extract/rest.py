"""What changed and a LoRA cannot hold: embeddings, norms, biases, output heads, experts."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from lora_cli.errors import ExtractError, Problem, Where
from lora_cli.merge.extract.compare import Change, change_of
from lora_cli.merge.extract.layout import OUTSIDE
from lora_cli.merge.extract.models import Models
from lora_cli.words import counted

_HINTS = {
    OUTSIDE: "a LoRA can hold it: name it in --targets too",
    "experts": "experts in one tensor need peft's `target_parameters`, which is not extracted",
    "output head": "servers do not read a LoRA on the head alike, so it is not extracted",
}


def changes_outside(models: Models, layers: Collection[str]) -> tuple[list[Change], list[str]]:
    """Return the tensors beside the `layers` to extract that changed, and those that did not.

    Raises:
        ExtractError: one of them holds what is no number.
    """
    changed, unchanged = [], []
    for name in models.tensors.names:
        if name in layers:
            continue
        change = change_of(models.tensors, name, models.layout.kind(name))
        if change is None:
            unchanged.append(name)
        else:
            changed.append(change)
    return changed, unchanged


def by_kind(rest: Sequence[Change]) -> dict[str, str]:
    """Return how much changed of each kind, in words; what a LoRA could hold comes first."""
    kinds = sorted({each.kind: None for each in rest}, key=lambda kind: kind != OUTSIDE)
    return {kind: _described([each for each in rest if each.kind == kind]) for kind in kinds}


def _described(changes: Sequence[Change]) -> str:
    most = max(changes, key=lambda each: each.change)
    if most.change == math.inf:
        return f"{counted(len(changes), 'tensor')}, some from 0 (`{most.name}`)"
    if len(changes) == 1:
        return f"`{most.name}` by {most.change:.2%}"
    return f"{counted(len(changes), 'tensor')}, at most by {most.change:.2%} (`{most.name}`)"


def refuse_rest(rest: Sequence[Change], settings: Sequence[str], tuned: str) -> None:
    """Raise if anything changed that the LoRA will not hold.

    Raises:
        ExtractError: with a problem for each kind of tensor and each setting.
    """
    where = Where(tuned)
    problems = [
        Problem(where, f"{kind} changed: {what}", _HINTS.get(kind, ""))
        for kind, what in by_kind(rest).items()
    ]
    problems += [Problem(where, f"setting changed: {what}") for what in settings]
    if problems:
        last = problems[-1]
        hint = "--allow-rest leaves all such as in the base"
        if settings or any(each.kind != OUTSIDE for each in rest):
            hint = f"a LoRA on linear layers cannot hold it; {hint}"
        hint = f"{last.hint}; {hint}" if last.hint else hint
        problems[-1] = Problem(last.where, last.message, hint)
        raise ExtractError.from_problems(problems)
