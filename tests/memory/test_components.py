"""What a peak is made of."""

from __future__ import annotations

from lora_cli.memory.components import by_category, by_module, by_phase, largest, patterned
from lora_cli.memory.trace import Storage, Trace
from tests.memory.traces import storage

STORAGES = (
    storage(1000, "base weights", "model.layers.0.mlp.weight", "loading"),
    storage(64, "activations", "model.layers.0.mlp: mul", "forward"),
    storage(64, "activations", "model.layers.1.mlp: mul", "forward"),
    storage(32, "activations", "model.layers.1.mlp.act: silu", "forward"),
    storage(500, "logits and loss", "lm_head: mm", "loss"),
    storage(900, "temporaries", "model.layers.1.mlp: mm", "backward"),
)
# the loss's storage is freed before the backward pass makes its own
TRACE = Trace(
    STORAGES,
    (0, 1, 2, 3, 4, ~4, 5, ~5, ~3, ~2, ~1),
    ((0, "loading"), (1, "forward"), (4, "loss"), (6, "backward")),
)


def test_kinds_are_summed_at_the_peak_alone_in_their_order() -> None:
    assert by_category(TRACE) == {"base weights": 1000, "activations": 160, "temporaries": 900}
    assert list(by_category(TRACE)) == ["base weights", "activations", "temporaries"]
    assert sum(by_category(TRACE).values()) == TRACE.peak_bytes()


def test_each_phase_has_its_own_peak() -> None:
    assert by_phase(TRACE) == {"loading": 1000, "forward": 1160, "loss": 1660, "backward": 2060}


def test_a_phase_that_comes_again_keeps_its_highest_peak() -> None:
    trace = Trace(
        (storage(10), storage(20)),
        (0, ~0, 1),
        ((0, "forward"), (1, "backward"), (2, "forward")),
    )
    assert by_phase(trace) == {"forward": 20, "backward": 10}


def test_modules_of_all_layers_are_taken_together() -> None:
    assert by_module(TRACE, 9) == [("model.layers.*.mlp", 128), ("model.layers.*.mlp.act", 32)]
    assert by_module(TRACE, 1) == [("model.layers.*.mlp", 128)]


def test_the_largest_are_counted_by_place_and_size() -> None:
    groups = largest(TRACE, 3)
    assert [(each.name, each.count, each.size) for each in groups] == [
        ("model.layers.*.mlp.weight", 1, 1000),
        ("model.layers.*.mlp: mm", 1, 900),
        ("model.layers.*.mlp: mul", 2, 128),
    ]


def test_numbers_inside_names_are_left() -> None:
    assert patterned("model.layers.12.fc1: mm") == "model.layers.*.fc1: mm"
    assert patterned("h.3") == "h.*"
    assert patterned("conv2d.0.w1") == "conv2d.*.w1"


def test_nothing_allocated_has_no_parts() -> None:
    empty = Trace((Storage(1, "buffers", "", "loading"),), (), ((0, "loading"),))
    assert by_category(empty) == {}
    assert largest(empty, 3) == []
