"""What differs between a tuned checkpoint and its base: names, shapes, settings and values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lora_cli.errors import ExtractError, Problem, Where
from lora_cli.merge.extract.checkpoint import Checkpoint, rows_of_both
from lora_cli.merge.extract.layout import Layout
from lora_cli.merge.sketch import squared_norm

if TYPE_CHECKING:
    import torch

_NOT_THE_MODEL = frozenset(
    [
        "_model_name_or_path",
        "_name_or_path",
        "architectures",
        "bos_token_id",
        "chunk_size_feed_forward",
        "dtype",
        "eos_token_id",
        "id2label",
        "initializer_range",
        "label2id",
        "output_attentions",
        "output_hidden_states",
        "output_router_logits",
        "pad_token_id",
        "problem_type",
        "return_dict",
        "router_aux_loss_coef",
        "transformers_version",
        "unk_token_id",
        "use_cache",
    ]
)
"""Settings that no logit depends on once a model is trained; nor on those that end so:"""
_ONLY_WHILE_TRAINING = ("dropout", "pdrop", "drop")


@dataclass(frozen=True)
class Tensors:
    """Both checkpoints, and what each calls a tensor of the model."""

    tuned: Checkpoint
    base: Checkpoint
    tuned_names: Mapping[str, str]
    base_names: Mapping[str, str]
    whole_names: Mapping[str, str]
    """What the tuned one calls the tensors that an adapter holds as they are."""

    def whole(self) -> dict[str, torch.Tensor]:
        """Return the tuned model's tensors of the modules that are held as they are."""
        return {name: self.tuned.tensor(stored) for name, stored in self.whole_names.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """Return the model's names, in the order in which they lie in the base's files."""
        return tuple(self.base_names)

    def rows(self, name: str) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        """Yield rows of the tuned tensor and of the base's."""
        return rows_of_both(self.tuned, self.tuned_names[name], self.base, self.base_names[name])


@dataclass(frozen=True)
class Change:
    """A tensor that changed, and by how much."""

    name: str
    kind: str
    change: float
    """‖tuned − base‖ / ‖base‖, in the Frobenius norm; infinite where the base is 0."""
    squared: float
    """‖tuned − base‖²."""


def pair_up(tuned: Checkpoint, base: Checkpoint, layout: Layout, *, same_class: bool) -> Tensors:
    """Return both, of the same names and shapes; a base of another class has a head of its own.

    Raises:
        ExtractError: with a problem for each tensor that one of them lacks or has in another shape.
    """
    left, right = layout.stored(tuned.names), layout.stored(base.names)
    held = Tensors(
        tuned,
        base,
        {name: stored for name, stored in left.items() if not layout.is_whole(name)},
        {
            name: stored
            for name, stored in right.items()
            if not layout.is_whole(name) and (same_class or layout.has(name))
        },
        {name: stored for name, stored in left.items() if layout.is_whole(name)},
    )
    problems = list(_misfits(held))
    if problems:
        raise ExtractError.from_problems(problems)
    return held


def _misfits(held: Tensors) -> Iterator[Problem]:
    hint = "is this the base that it was tuned from?"
    for name in held.names:
        if name not in held.tuned_names:
            where = Where(str(held.tuned.folder))
            yield Problem(where, f"has no `{name}`, which the base has", hint)
    for name, stored in held.tuned_names.items():
        where = Where(str(held.tuned.file(stored)))
        if name not in held.base_names:
            yield Problem(where, f"`{name}` is not in the base", hint)
            continue
        shape, expected = held.tuned.shape(stored), held.base.shape(held.base_names[name])
        if shape != expected:
            yield Problem(where, f"`{name}` is {shape}, in the base {expected}", hint)


def check_whole(held: Tensors, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise unless the tuned model's files hold all of what an adapter holds as it is.

    Raises:
        ExtractError: with a problem for each parameter that is missing or of another shape.
    """
    hint = "save the tuned model with the head that its config names"
    problems = []
    for name, expected in shapes.items():
        stored = held.whole_names.get(name)
        if stored is None:
            where = Where(str(held.tuned.folder))
            problems.append(Problem(where, f"has no `{name}`, which its class has", hint))
        elif held.tuned.shape(stored) != expected:
            where = Where(str(held.tuned.file(stored)))
            message = f"`{name}` is {held.tuned.shape(stored)}, by its config {expected}"
            problems.append(Problem(where, message, hint))
    if problems:
        raise ExtractError.from_problems(problems)


def settings_changed(tuned: Any, base: Any) -> list[str]:
    """Return what differs between two models' configurations and what they compute, in words."""
    left, right = tuned.to_dict(), base.to_dict()
    return [
        f"`{key}` is {left.get(key)!r}, in the base {right.get(key)!r}"
        for key in sorted(left.keys() | right.keys())
        if key not in _NOT_THE_MODEL
        and not key.endswith(_ONLY_WHILE_TRAINING)
        and not _same(left.get(key), right.get(key))
    ]


def _same(left: Any, right: Any) -> bool:
    """Return whether two settings are the same number in float32, which GGUF holds, or the same."""
    if isinstance(left, float) and isinstance(right, float):
        return math.isclose(left, right, rel_tol=1e-7)
    return bool(left == right)


def change_of(held: Tensors, name: str, kind: str) -> Change | None:
    """Return how much a tensor changed; None where the tuned one is the base's, or its rounding.

    Raises:
        ExtractError: one of them holds what is no number.
    """
    same, squared, base_squared = True, 0.0, 0.0
    for _, tuned, base in held.rows(name):
        same = same and tuned.equal(base.to(tuned.dtype))
        squared += squared_norm(tuned.float() - base.float())
        base_squared += squared_norm(base.float())
    _check_finite(held, name, squared + base_squared)
    if same:
        return None
    relative = math.sqrt(squared / base_squared) if base_squared else math.inf
    return Change(name, kind, relative, squared)


@dataclass(frozen=True)
class WeightChange:
    """What tuning changed of a matrix."""

    delta: torch.Tensor
    """In float32, as the files hold it."""
    rounding: float
    """How much of it may be the rounding of the tuned weights to float32: its Frobenius norm."""


def weight_change(held: Tensors, name: str) -> WeightChange | None:
    """Return the change of a weight; None where the tuned one is the base's.

    Raises:
        ExtractError: one of them holds what is no number.
    """
    import torch

    delta, same, squared = torch.empty(held.base.shape(held.base_names[name])), True, 0.0
    for start, tuned, base in held.rows(name):
        same = same and tuned.equal(base.to(tuned.dtype))
        torch.sub(tuned.float(), base.float(), out=delta[start : start + len(tuned)])
        squared += squared_norm(tuned.float())
    _check_finite(held, name, squared_norm(delta))
    rounding = math.sqrt(squared) * torch.finfo(torch.float32).eps
    return None if same else WeightChange(delta, rounding)


def _check_finite(held: Tensors, name: str, squared: float) -> None:
    """Raise, naming the file, if a sum over both tensors is no number."""
    if math.isfinite(squared):
        return
    for _, tuned, _base in held.rows(name):
        if not bool(tuned.isfinite().all()):
            file = held.tuned.file(held.tuned_names[name])
            raise ExtractError(f"`{name}` holds values that are not finite", str(file))
    file = held.base.file(held.base_names[name])
    raise ExtractError(f"`{name}` holds values that are not finite", str(file))
