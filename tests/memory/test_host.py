"""The machine's own memory, from the headers of the weight files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lora_cli.facts.weight_files import stored_sizes
from lora_cli.memory.host import KEPT_AT_LEAST, LIBRARIES, host_memory, kept_on_cpu
from lora_cli.memory.interval import Interval
from lora_cli.memory.subject import Subject

MakeSubject = Callable[..., Subject]


def test_sizes_are_those_of_the_files(subject: MakeSubject) -> None:
    import math

    from safetensors import safe_open

    base = subject().facts.base
    with safe_open(base.source.folder / "model.safetensors", "np") as file:
        numbers = [math.prod(file.get_slice(name).get_shape()) for name in file.keys()]  # noqa: SIM118
    sizes = stored_sizes(base.source)
    assert sorted(size.numbers for size in sizes) == sorted(numbers)
    assert all(size.stored_bytes == 4 * size.numbers for size in sizes)


def test_a_gpu_leaves_one_tensor_at_a_time_to_the_host(subject: MakeSubject) -> None:
    found = subject()
    host = host_memory(found.plan, found.facts.base)
    assert host.from_headers
    assert host.stored == 4 * found.plan.model.parameters
    largest = host.largest_tensor
    assert host.loading == LIBRARIES["cuda"] + Interval(largest, 2 * largest)
    assert host.merging == LIBRARIES["cpu"] + Interval(largest, 3 * largest)


def test_a_cpu_holds_the_base_itself(subject: MakeSubject) -> None:
    found = subject(device="M-series 16GB")
    on_gpu = subject()
    here = host_memory(found.plan, found.facts.base).loading.low - LIBRARIES["cpu"].low
    there = host_memory(on_gpu.plan, on_gpu.facts.base).loading.low - LIBRARIES["cuda"].low
    assert here - there == 4 * found.plan.model.parameters


def test_a_cpu_keeps_what_steps_and_loading_give_back(bare: MakeSubject) -> None:
    plan, quantized = bare().plan, bare("quantization=nf4").plan
    assert kept_on_cpu(plan, 1 << 20) == Interval(0, KEPT_AT_LEAST)
    large = 2 * KEPT_AT_LEAST
    assert kept_on_cpu(plan, large) == Interval(0, large)
    in_full = 2 * plan.model.parameters
    assert kept_on_cpu(quantized, large) == Interval(0, large + in_full), "read before quantized"


@pytest.mark.parametrize(("variant", "held"), [("loftq", True), ("lora", False)])
def test_a_start_from_weights_before_quantizing_needs_them_on_the_host(
    bare: MakeSubject, variant: str, held: bool
) -> None:
    found = bare(f"adapter={{variant: {variant}, rank: 8}}", "quantization=nf4")
    host = host_memory(found.plan, found.facts.base)
    in_full = 2 * found.plan.model.parameters
    beside = LIBRARIES["cuda"].low + host.largest_tensor
    assert host.loading.low - beside == (in_full if held else 0)


def test_without_files_the_config_tells_the_sizes(bare: MakeSubject) -> None:
    found = bare()
    host = host_memory(found.plan, found.facts.base)
    assert not host.from_headers
    assert host.largest_tensor == 2 * 32000 * 1024


def test_a_file_that_is_no_safetensors_tells_nothing(tmp_path: Path, bare: MakeSubject) -> None:
    from dataclasses import replace

    (tmp_path / "model.safetensors").write_bytes(b"not this")
    base = bare().facts.base
    source = replace(base.source, folder=tmp_path, weights="safetensors")
    assert stored_sizes(source) == ()
    assert stored_sizes(replace(source, folder=tmp_path / "nowhere")) == ()
