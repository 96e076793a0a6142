"""What the engine asks of accelerate, in one process."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lora_cli.engine.runtime import Runtime
from lora_cli.errors import RunError


def test_one_process_on_a_cpu() -> None:
    runtime = Runtime(device="cpu", processes=1)
    assert runtime.device.type == "cpu"
    assert (runtime.rank, runtime.processes) == (0, 1)
    assert runtime.sum(torch.tensor([1.0, 2.0])).tolist() == [1.0, 2.0]
    assert 10**7 < runtime.memory_bytes() < 10**12, "bytes, not kilobytes"


def test_several_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RunError, match="3 processes; this version trains in one"):
        Runtime(device="cpu", processes=3)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RunError, match=r"2 processes; this version trains in one.*launcher"):
        Runtime(device="cpu", processes=1)


def test_a_device_that_is_not_the_planned_one_is_refused() -> None:
    if torch.cuda.is_available():
        planned, found = "mps", "cuda"
    else:
        planned, found = "cuda", "cpu"
    with pytest.raises(RunError, match=f"the plan is for {planned}; accelerate found {found}"):
        Runtime(device=planned, processes=1)


@pytest.mark.parametrize("setting", ["ACCELERATE_GRADIENT_ACCUMULATION_STEPS"])
def test_a_launchers_environment_scales_no_gradient(
    monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    monkeypatch.setenv(setting, "4")
    runtime = Runtime(device="cpu", processes=1)
    weight = nn.Parameter(torch.ones(2))
    runtime.backward((weight * torch.tensor([1.0, 2.0])).sum())
    assert weight.grad is not None
    assert weight.grad.tolist() == [1.0, 2.0]


def test_model_and_optimizer_come_back_usable() -> None:
    runtime = Runtime(device="cpu", processes=1)
    model = nn.Linear(2, 1)
    prepared, optimizer = runtime.prepare(model, torch.optim.SGD(model.parameters(), lr=1.0))
    assert prepared is model, "peft's functions are called on it"
    before = model.weight.detach().clone()
    runtime.backward(prepared(torch.ones(1, 2)).sum())
    optimizer.step()
    assert (before - model.weight.detach()).tolist() == [[1.0, 1.0]]
