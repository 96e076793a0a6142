"""What the machine can do."""

from __future__ import annotations

import os

import pytest
import torch

from lora_cli.errors import PlanError
from lora_cli.facts.machine import MachineFacts, probe_machine, read_cpuinfo

CPUINFO = """processor\t: 0
model name\t: A Processor of 2024
flags\t\t: fpu avx512f avx512_bf16

processor\t: 1
model name\t: A Processor of 2024
flags\t\t: fpu avx512f avx512_bf16
"""


class Gpu:
    name = "A GPU"
    total_memory = 8 << 30


def test_the_processor_is_read_from_what_linux_says() -> None:
    assert read_cpuinfo(CPUINFO) == (
        "A Processor of 2024",
        frozenset({"fpu", "avx512f", "avx512_bf16"}),
    )
    assert read_cpuinfo("Features : fp asimd bf16\n") == ("CPU", frozenset({"fp", "asimd", "bf16"}))
    assert read_cpuinfo("") == ("CPU", frozenset())


@pytest.mark.parametrize(
    ("flags", "fast"), [("avx512_bf16", True), ("amx_bf16", True), ("bf16", True), ("avx2", False)]
)
def test_bfloat16_is_a_matter_of_the_flags(
    monkeypatch: pytest.MonkeyPatch, flags: str, fast: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("lora_cli.facts.machine._processor", lambda: ("CPU", frozenset({flags})))
    machine = probe_machine()
    assert machine.fast_bfloat16 is fast
    assert machine.device == "cpu"
    assert machine.name == f"CPU, {os.cpu_count()} cores"
    assert 1 << 28 < machine.memory_bytes < 1 << 45


def test_a_gpu_is_preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _index: Gpu())
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_options: True)
    assert probe_machine() == MachineFacts("cuda", "A GPU", True, 8 << 30, 1)


def test_the_launcher_says_how_many_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert probe_machine().processes == 4
    monkeypatch.delenv("WORLD_SIZE")
    assert probe_machine().processes == 1


@pytest.mark.parametrize("text", ["", "two", "0", "-1", "1.5", "²"])
def test_a_garbled_launcher_is_an_error(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("WORLD_SIZE", text)
    with pytest.raises(PlanError, match=f"WORLD_SIZE is `{text}`, not a number of processes"):
        probe_machine()
