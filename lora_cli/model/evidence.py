"""What the recipe's data says of a base's modules: their inputs, and their weights' gradients.

Both are gathered for as many modules at once as fit in EVIDENCE_BYTES: memory stays bounded, at the
cost of more passes over the batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lora_cli.adapters.variant import StartFrom
from lora_cli.errors import RunError
from lora_cli.model.layers import as_out_by_in, weight_of

if TYPE_CHECKING:
    import torch

EVIDENCE_BYTES = 2 << 30


@dataclass(frozen=True)
class Calibration:
    """Batches of the recipe's own data, and how the model is run on one of them."""

    batches: Sequence[Any]
    """Each with an `attention_mask` of shape (rows, tokens)."""
    loss: Callable[[Any, Any], torch.Tensor]
    """(model, batch) → the mean loss, a scalar with a graph."""


def cut_into_groups(
    model: Any, kind: StartFrom, modules: Sequence[str]
) -> Iterator[tuple[str, ...]]:
    """Cut the modules into groups whose evidence fits in EVIDENCE_BYTES."""
    group: list[str] = []
    held = 0
    for name in modules:
        size = _evidence_bytes(model.get_submodule(name), kind)
        if group and held + size > EVIDENCE_BYTES:
            yield tuple(group)
            group, held = [], 0
        group.append(name)
        held += size
    yield tuple(group)


def _evidence_bytes(module: Any, kind: StartFrom) -> int:
    rows, columns = weight_of(module, on_meta=True).shape
    return 4 * {"inputs": columns * columns, "gradients": rows * columns}.get(kind, 0)


def gather(
    model: Any, kind: StartFrom, modules: Sequence[str], calibration: Calibration | None
) -> Mapping[str, torch.Tensor]:
    """Return the evidence of a kind for each module; nothing for a kind that needs no data.

    Raises:
        RunError: no batch reaches a module, or what is found there is not finite.
    """
    if kind not in ("inputs", "gradients"):
        return {}
    assert calibration is not None, "a start from data has data"
    mean = mean_inputs if kind == "inputs" else mean_gradients
    with _in_evaluation_mode(model):
        found = mean(model, modules, calibration)
    for name in modules:
        if name not in found:
            hint = "raise adapter.calibration_rows, or leave the module out of the target modules"
            raise RunError(f"no calibration row reaches `{name}`", hint=hint)
        if not bool(found[name].isfinite().all()):
            hint = "load the model in float32 or bfloat16"
            raise RunError(f"the {kind} of `{name}` are not finite", hint=hint)
    return found


def mean_inputs(
    model: Any, modules: Sequence[str], calibration: Calibration
) -> dict[str, torch.Tensor]:
    """Return the mean of x·xᵀ over the inputs x of each module, padding left out."""
    import torch

    moments = _Moments()
    hooks = [
        model.get_submodule(name).register_forward_pre_hook(moments.hook(name)) for name in modules
    ]
    try:
        with torch.no_grad():
            for batch in calibration.batches:
                moments.begin(batch.attention_mask)
                calibration.loss(model, batch)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: total / count for name, (total, count) in moments.sums.items() if count}


class _Moments:
    """Sums of x·xᵀ and the number of inputs, by module.

    What goes into several modules one after the other, as into q, k and v, is multiplied once.
    """

    def __init__(self) -> None:
        self.sums: dict[str, tuple[torch.Tensor, int]] = {}
        self._mask: torch.Tensor | None = None
        self._last: tuple[torch.Tensor, int, tuple[torch.Tensor, int]] | None = None

    def begin(self, mask: torch.Tensor) -> None:
        """Begin with a batch whose real tokens are those of `mask`."""
        self._mask, self._last = mask, None

    def hook(self, name: str) -> Callable[[Any, tuple[Any, ...]], None]:
        """Return what notes the inputs of a module before it runs."""

        def note(_module: Any, arguments: tuple[Any, ...]) -> None:
            moment, count = self._moment(arguments[0])
            if name in self.sums:
                total, before = self.sums[name]
                moment, count = total + moment, before + count
            self.sums[name] = moment, count

        return note

    def _moment(self, inputs: torch.Tensor) -> tuple[torch.Tensor, int]:
        version = inputs._version  # noqa: SLF001  # counts changes in place
        if self._last is None or self._last[0] is not inputs or self._last[1] != version:
            real = inputs
            if self._mask is not None and inputs.shape[:-1] == self._mask.shape:
                real = inputs[self._mask.bool()]
            flat = real.reshape(-1, real.shape[-1]).float()
            self._last = inputs, version, (flat.T @ flat, len(flat))
        return self._last[2]


def mean_gradients(
    model: Any, modules: Sequence[str], calibration: Calibration
) -> dict[str, torch.Tensor]:
    """Return the mean over the batches of the loss's gradient for each weight, as (out, in)."""
    import torch

    totals: dict[str, torch.Tensor] = {}

    def note(name: str) -> Callable[[torch.Tensor], None]:
        def hook(parameter: torch.Tensor) -> None:
            assert parameter.grad is not None, "the hook runs once it is there"
            gradient = parameter.grad.float()
            totals[name] = totals[name] + gradient if name in totals else gradient
            parameter.grad = None

        return hook

    weights = {name: model.get_submodule(name).weight for name in modules}
    hooks = []
    for name, weight in weights.items():
        weight.requires_grad_(True)
        hooks.append(weight.register_post_accumulate_grad_hook(note(name)))
    try:
        for batch in calibration.batches:
            torch.autograd.backward(calibration.loss(model, batch))
    finally:
        for hook in hooks:
            hook.remove()
        for weight in weights.values():
            weight.requires_grad_(False)
    return {
        name: as_out_by_in(model.get_submodule(name), total) / len(calibration.batches)
        for name, total in totals.items()
    }


@contextmanager
def _in_evaluation_mode(model: Any) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
