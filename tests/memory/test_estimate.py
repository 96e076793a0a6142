"""An estimate: the need as an interval, the verdict, and what it says of itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lora_cli.memory import estimate as estimating
from lora_cli.memory.allocator import minimum_capacity, replay
from lora_cli.memory.estimate import CONTEXT, WORKSPACE, estimate, verdict_of
from lora_cli.memory.host import KEPT_AT_LEAST, LIBRARIES
from lora_cli.memory.interval import Interval, exactly
from lora_cli.memory.simulate import CannotSimulate
from lora_cli.memory.subject import Subject
from lora_cli.memory.trace import Trace
from lora_cli.plan.run_plan import RunPlan
from tests.memory.traces import MIB, storage, trace_of

Bare = Callable[..., Subject]


@pytest.mark.parametrize(
    ("need", "capacity", "verdict"),
    [
        (Interval(10, 20), 20, "fits"),
        (Interval(10, 20), 19, "tight"),
        (Interval(10, 20), 10, "tight"),
        (Interval(10, 20), 9, "does not fit"),
    ],
)
def test_the_verdict_is_sure_or_says_that_it_is_not(
    need: Interval, capacity: int, verdict: str
) -> None:
    assert verdict_of(need, capacity) == verdict


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> Trace:
    """Let every plan have the same trace: fragmented, so that reserved is more than the need."""
    sizes = [30 * MIB, 31 * MIB, 32 * MIB, 4 * MIB]
    trace = trace_of(sizes, [3, 0, ~0, 1, ~1, 2])
    monkeypatch.setattr(estimating, "simulate", lambda _plan, _batches: trace)
    return trace


def test_a_gpu_needs_what_the_allocator_can_do_with_and_the_context(
    bare: Bare, by_hand: Trace
) -> None:
    found = estimate(bare())
    assert found.method == "simulated"
    assert found.allocated == by_hand.peak_bytes() == 36 * MIB
    assert found.minimum == minimum_capacity(by_hand, workspace=WORKSPACE)
    assert found.reserved == replay(by_hand, workspace=WORKSPACE).reserved
    assert found.allocated < found.minimum < found.reserved
    assert found.needed == exactly(found.minimum).widened(0.005) + CONTEXT
    assert found.overhead + found.workspace + found.allocated == found.minimum


def test_what_is_held_from_the_start_is_known_to_the_byte(
    bare: Bare, monkeypatch: pytest.MonkeyPatch
) -> None:
    storages = (storage(100 * MIB, "base weights", "w", "loading"), storage(10 * MIB))
    trace = Trace(storages, (0, 1, ~1), ((0, "loading"), (1, "forward")))
    monkeypatch.setattr(estimating, "simulate", lambda _plan, _batches: trace)
    found = estimate(bare("quantization=nf4"))
    unsure = found.minimum - 100 * MIB
    assert found.needed.low == 100 * MIB + int(0.95 * unsure) + CONTEXT.low
    assert found.needed.high == 100 * MIB + int(1.05 * unsure) + CONTEXT.high


def test_a_cpu_has_no_caching_allocator_and_its_process_keeps_memory(
    bare: Bare, by_hand: Trace
) -> None:
    found = estimate(bare(device="M-series 16GB"))
    assert found.minimum == found.reserved == found.allocated == by_hand.peak_bytes()
    kept = Interval(0, KEPT_AT_LEAST)  # the step is smaller
    assert found.needed == exactly(36 * MIB).widened(0.005) + LIBRARIES["cpu"] + kept
    assert found.workspace == found.overhead == 0


@pytest.mark.parametrize(
    ("settings", "unsure"),
    [((), 0.005), (("quantization=nf4",), 0.05), (("training.gradient_checkpointing=true",), 0.05)],
)
def test_what_no_gpu_was_compared_with_is_less_sure(
    bare: Bare, by_hand: Trace, settings: tuple[str, ...], unsure: float
) -> None:
    assert estimate(bare(*settings)).unsure == unsure


def test_what_cannot_be_simulated_is_worked_out_and_said_so(
    bare: Bare, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_plan: RunPlan, _batches: object) -> Trace:
        raise CannotSimulate("`topk` asks for a value of the weights")

    monkeypatch.setattr(estimating, "simulate", refuse)
    found = estimate(bare())
    assert (found.method, found.unsure) == ("closed form", 0.15)
    assert found.reason == "`topk` asks for a value of the weights"
    narrow = exactly(found.minimum).widened(0.005)
    wide = exactly(found.minimum).widened(0.15)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_the_closed_form_can_be_had_at_once(bare: Bare, by_hand: Trace) -> None:
    found = estimate(bare(), simulated=False)
    assert found.method == "closed form"
    assert found.allocated != by_hand.peak_bytes()


def test_two_steps_are_simulated_of_two_micro_batches_where_there_are_more(
    bare: Bare, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []

    def count(_plan: RunPlan, batches: list[object]) -> Trace:
        counts.append(len(batches))
        return trace_of([MIB])

    monkeypatch.setattr(estimating, "simulate", count)
    for accumulation in (1, 2, 16):
        estimate(bare(f"training.gradient_accumulation_steps={accumulation}"))
    assert counts == [2, 4, 4]


def test_an_estimate_says_what_the_peak_is_made_of(
    bare: Bare, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = Trace(
        (storage(4 * MIB, "base weights", "model.layers.0.w", "loading"), storage(MIB)),
        (0, 1, ~1),
        ((0, "loading"), (1, "forward")),
    )
    monkeypatch.setattr(estimating, "simulate", lambda _plan, _batches: trace)
    found = estimate(bare())
    assert found.categories == {"base weights": 4 * MIB, "activations": MIB}
    assert sum(found.categories.values()) == found.allocated
    assert found.phases == {"loading": 4 * MIB, "forward": 5 * MIB}
    assert found.peak_phase == "forward"
    assert found.modules == [("model.layers.*.mlp", MIB)]
    assert {"torch", "transformers", "peft"} <= found.versions.keys()


def test_a_capacity_of_its_own_decides_the_verdict(bare: Bare, by_hand: Trace) -> None:
    need = estimate(bare()).needed
    verdicts = [estimate(bare(), room).verdict for room in (need.high, need.low, need.low - 1)]
    assert verdicts == ["fits", "tight", "does not fit"]


def test_what_lies_in_pages_and_a_rank_beyond_the_weights_are_said(
    bare: Bare, simulated: list[RunPlan]
) -> None:
    plain, paged = bare(), bare("training.optimizer=paged_adamw", "adapter.rank=2000")
    assert estimate(plain).notes == ()
    pages, rank = estimate(paged).notes
    size = 8 * paged.plan.adapter.trainable_parameters / (1 << 20)
    assert pages.startswith(f"{size:,.0f} MiB of the optimizer's state lie in pages")
    assert rank.startswith("rank 2,000 is more than `model.layers.0.self_attn.q_proj`")
    on_cpu = bare("training.optimizer=paged_adamw", device="M-series 16GB")
    assert estimate(on_cpu).notes == ()
