"""What can be changed of a recipe to need less memory: only what a recipe can really say.

Ordered by what they cost: first what leaves the training as it is, then what changes how numbers
are held, last what changes what is learnt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lora_cli.adapters.low_rank import LowRankSpec
from lora_cli.errors import LoraCliError
from lora_cli.memory.estimate import Estimate, estimate
from lora_cli.memory.subject import Subject
from lora_cli.plan.run_plan import RunPlan
from lora_cli.quantization.bitsandbytes import FourBit

SHORTEST = 64
"""No shorter length is offered."""


@dataclass(frozen=True, slots=True)
class Lever:
    """A change of the recipe."""

    name: str
    settings: tuple[str, ...]
    """`key=value`, as `--set` takes them."""
    cost: str
    """What it costs, in a few words."""


@dataclass(frozen=True)
class Effect:
    """A lever, and what is needed with it."""

    lever: Lever
    estimate: Estimate
    saved: int
    """Bytes of the need's high end."""


def levers_of(subject: Subject) -> tuple[Lever, ...]:
    """Return what could be changed in a recipe, the mildest first; not all of it may be planned."""
    return tuple(lever for offer in _OFFERS for lever in offer(subject.plan))


def effects(subject: Subject, before: Estimate) -> list[Effect]:
    """Return each lever that saves anything, estimated again, the largest saving first."""
    found = []
    for lever in levers_of(subject):
        result = estimate_with(subject, lever.settings, before.capacity)
        if result is not None:
            found.append(Effect(lever, result, before.needed.high - result.needed.high))
    return sorted((each for each in found if each.saved > 0), key=lambda each: -each.saved)


def estimate_with(subject: Subject, settings: tuple[str, ...], capacity: int) -> Estimate | None:
    """Return the estimate of a subject with other settings; None where no run could have them."""
    try:
        return estimate(subject.with_settings(settings), capacity)
    except LoraCliError:
        return None


def _batch(plan: RunPlan) -> Iterator[Lever]:
    rows, accumulation = plan.schedule.batch_size, plan.schedule.gradient_accumulation_steps
    if rows > 1:
        yield Lever(
            f"one {'pack' if plan.schedule.batching == 'packed' else 'row'} at a time",
            (
                "training.batch_size=1",
                f"training.gradient_accumulation_steps={rows * accumulation}",
            ),
            "the same steps, more passes",
        )


def _checkpointing(plan: RunPlan) -> Iterator[Lever]:
    if not plan.schedule.gradient_checkpointing:
        settings = ("training.gradient_checkpointing=true",)
        yield Lever("checkpointing", settings, "about a third more time")


def _attention(plan: RunPlan) -> Iterator[Lever]:
    if plan.model.attention == "eager":
        yield Lever("fused attention", ("model.attention=sdpa",), "none")


def _evaluation(plan: RunPlan) -> Iterator[Lever]:
    if plan.evaluation is not None and plan.evaluation.batch_size > plan.schedule.batch_size:
        settings = (f"evaluation.batch_size={plan.schedule.batch_size}",)
        yield Lever("smaller evaluation batches", settings, "a slower evaluation")


def _optimizer(plan: RunPlan) -> Iterator[Lever]:
    smaller = {"adamw": "adamw_8bit", "paged_adamw": "paged_adamw_8bit"}.get(plan.optimizer.name)
    if smaller is not None:
        settings = (f"training.optimizer={smaller}",)
        yield Lever("optimizer state in 8 bits", settings, "coarser steps")


def _adapter_dtype(plan: RunPlan) -> Iterator[Lever]:
    spec = plan.adapter.spec
    if not isinstance(spec, LowRankSpec) or spec.capability.bfloat16:
        return
    if plan.model.dtype == "bfloat16" and spec.dtype == "float32":
        yield Lever("adapter in bfloat16", ("adapter.dtype=bfloat16",), "coarser steps")


def _dtype(plan: RunPlan) -> Iterator[Lever]:
    if plan.model.dtype == "float32":
        yield Lever("base in bfloat16", ("model.dtype=bfloat16",), "a rounded base")


def _quantization(plan: RunPlan) -> Iterator[Lever]:
    if not isinstance(plan.quantization, FourBit):
        yield Lever("base in 4 bits", ("quantization=nf4",), "a quantized base, slower steps")


def _length(plan: RunPlan) -> Iterator[Lever]:
    longest = min(plan.data.train.longest, plan.data.max_length)
    shorter = 1 << (longest - 1).bit_length() - 1  # the power of two below
    if shorter >= SHORTEST:
        settings = (f"training.max_length={shorter}",)
        yield Lever(f"rows of {shorter:,} tokens", settings, "longer rows are cut")


def _rank(plan: RunPlan) -> Iterator[Lever]:
    spec = plan.adapter.spec
    if isinstance(spec, LowRankSpec) and spec.rank > 1:
        yield Lever(
            f"rank {spec.rank // 2}", (f"adapter.rank={spec.rank // 2}",), "less to learn with"
        )


_OFFERS: tuple[Callable[[RunPlan], Iterator[Lever]], ...] = (
    _attention,
    _batch,
    _evaluation,
    _checkpointing,
    _optimizer,
    _adapter_dtype,
    _dtype,
    _quantization,
    _rank,
    _length,
)
