"""Checkpoints are whole or not there, and give back exactly what was put in."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, get_scheduler

from lora_cli.adapters.lora import Lora
from lora_cli.engine import checkpoint as module
from lora_cli.engine.checkpoint import (
    State,
    checkpoints,
    is_whole,
    load_checkpoint,
    newest_checkpoint,
    prune_checkpoints,
    save_checkpoint,
)
from lora_cli.engine.progress import Progress
from lora_cli.errors import RunError
from lora_cli.model.adapter import AttachedAdapter
from lora_cli.step.update import Trainables
from lora_cli.tasks.causal_lm import CausalLm
from tests.helpers.runs import PLAIN_PEFT

pytestmark = PLAIN_PEFT
TinyModel = Callable[[str], Path]
Make = Callable[..., Trainables]


@pytest.fixture
def make(tiny_model: TinyModel) -> Make:
    """Return a function that makes what is trained, with an adapter of `rank`."""

    def trainables(rank: int = 2, targets: tuple[str, ...] = ("q_proj",)) -> Trainables:
        base = AutoModelForCausalLM.from_pretrained(tiny_model("llama"), dtype=torch.float32)
        model = get_peft_model(base, LoraConfig(r=rank, target_modules=list(targets)))
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=0.1)
        scheduler = get_scheduler("cosine", optimizer, 2, 10)
        adapter = AttachedAdapter(model, Lora(rank=rank))
        scaler = torch.amp.GradScaler("cpu")
        return Trainables(CausalLm(), model, adapter, optimizer, scheduler, scaler)

    return trainables


def learn(trained: Trainables, steps: int) -> None:
    """Change every part of the state, with random gradients."""
    for _ in range(steps):
        for parameter in trained.parameters():
            parameter.grad = torch.randn_like(parameter)
        trained.optimizer.step()
        trained.scheduler.step()
    trained.scaler.scale(torch.ones(()))
    trained.scaler.update(1024.0)


def flat(state: Any) -> list[Any]:
    """Return every number and tensor of a nested state, tensors as lists."""
    if isinstance(state, dict):
        return [item for key in sorted(state, key=str) for item in [key, *flat(state[key])]]
    if isinstance(state, list | tuple):
        return [item for value in state for item in flat(value)]
    return [state.tolist()] if isinstance(state, torch.Tensor) else [state]


def everything(trained: Trainables) -> list[Any]:
    parts = (trained.optimizer, trained.scheduler, trained.scaler)
    return flat([trained.adapter.state(), *(part.state_dict() for part in parts)])


def draws() -> list[float]:
    """Return the next random numbers of every generator, and leave the generators as they were."""
    python, own = random.getstate(), torch.get_rng_state()
    numbers = [random.random(), random.gauss(), float(torch.rand(())), float(torch.randn(()))]
    random.setstate(python)
    torch.set_rng_state(own)
    return numbers


def test_what_is_saved_comes_back(tmp_path: Path, make: Make) -> None:
    trained = make()
    learn(trained, 3)
    random.gauss()  # leaves a second value waiting
    best = {name: tensor + 1 for name, tensor in trained.adapter.state().items()}
    progress = Progress(step=3, loss=0.1 + 0.2, best_loss=1 / 3, best_step=2, tokens=7, seconds=0.3)
    before, numbers = everything(trained), draws()
    saved = save_checkpoint(tmp_path, trained, State(progress, best), digest="d")
    assert saved == tmp_path / "step-000003"

    fresh = make()
    learn(fresh, 1)
    assert everything(fresh) != before
    state = load_checkpoint(saved, fresh, digest="d")
    assert everything(fresh) == before
    assert draws() == numbers
    assert state.progress == progress
    assert state.best is not None
    assert all(state.best[name].equal(best[name]) for name in best)


def test_a_run_without_evaluation_has_no_best_adapter(tmp_path: Path, make: Make) -> None:
    saved = save_checkpoint(tmp_path, make(), State(Progress(step=1)), digest="d")
    assert load_checkpoint(saved, make(), digest="d").best is None
    assert sorted(path.name for path in saved.iterdir()) == [
        "adapter.safetensors",
        "manifest.json",
        "optimizer.pt",
        "random.pt",
        "state.json",
    ]


def test_the_manifest_covers_every_other_file(tmp_path: Path, make: Make) -> None:
    saved = save_checkpoint(tmp_path, make(), State(Progress(step=1)), digest="d")
    manifest = json.loads((saved / "manifest.json").read_text("utf-8"))
    assert manifest.keys() == {path.name for path in saved.iterdir()} - {"manifest.json"}
    for name in manifest:
        content = (saved / name).read_bytes()
        (saved / name).write_bytes(content + b" ")
        assert not is_whole(saved), name
        (saved / name).write_bytes(content)
    assert is_whole(saved)


@pytest.mark.parametrize("moment", ["torch.save", "lora_cli.engine.checkpoint.write_text"])
def test_an_exception_while_saving_leaves_no_checkpoint(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    trained = make()
    older = save_checkpoint(tmp_path, trained, State(Progress(step=1)), digest="d")

    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(moment, fail)
    with pytest.raises(OSError, match="no space left"):
        save_checkpoint(tmp_path, trained, State(Progress(step=2)), digest="d")
    assert list(tmp_path.iterdir()) == [older]
    assert newest_checkpoint(tmp_path) == (older, [])


def test_another_plans_checkpoint_is_refused(tmp_path: Path, make: Make) -> None:
    saved = save_checkpoint(tmp_path, make(), State(Progress(step=1)), digest="one")
    with pytest.raises(RunError, match=r"step-000001: belongs to another plan"):
        load_checkpoint(saved, make(), digest="two")


@pytest.mark.parametrize("other", [{"rank": 3}, {"targets": ("q_proj", "v_proj")}])
def test_tensors_that_do_not_fit_are_refused(
    tmp_path: Path, make: Make, other: dict[str, Any]
) -> None:
    saved = save_checkpoint(tmp_path, make(), State(Progress(step=1)), digest="d")
    with pytest.raises(
        RunError, match=r"adapter tensors do not fit: . in all, the first `base_model"
    ):
        load_checkpoint(saved, make(**other), digest="d")


def test_nothing_is_unpickled_that_could_run_code(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = save_checkpoint(tmp_path, make(), State(Progress(step=1)), digest="d")
    asked: list[object] = []
    load = torch.load

    def note(file: Path, **options: Any) -> Any:
        asked.append(options.get("weights_only"))
        return load(file, **options)

    monkeypatch.setattr(torch, "load", note)
    load_checkpoint(saved, make(), digest="d")
    assert asked == [True, True]


def test_checkpoints_are_ordered_by_number_not_by_name(tmp_path: Path) -> None:
    for name in ("step-1000000", "step-999999", "step-000002", "step-x", "other"):
        (tmp_path / name).mkdir()
    names = [path.name for path in checkpoints(tmp_path)]
    assert names == ["step-000002", "step-999999", "step-1000000"]
    prune_checkpoints(tmp_path, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "step-1000000", "step-x"]


@pytest.mark.parametrize(("keep", "left"), [(1, ["3"]), (2, ["2", "3"]), (9, ["1", "2", "3"])])
def test_pruning_keeps_the_newest(tmp_path: Path, keep: int, left: list[str]) -> None:
    for number in (1, 2, 3):
        (tmp_path / f"step-00000{number}").mkdir()
    prune_checkpoints(tmp_path, keep)
    assert [path.name[-1] for path in checkpoints(tmp_path)] == left


def test_the_newest_whole_one_is_found_and_the_damaged_ones_named(
    tmp_path: Path, make: Make
) -> None:
    trained = make()
    saved = [
        save_checkpoint(tmp_path, trained, State(Progress(step=step)), digest="d")
        for step in (1, 2, 3, 4)
    ]
    (saved[0] / "random.pt").unlink()
    (saved[2] / module.MANIFEST).write_text("not JSON")
    (saved[3] / "optimizer.pt").unlink()
    assert newest_checkpoint(tmp_path) == (saved[1], [saved[3], saved[2]])
    assert newest_checkpoint(tmp_path / "absent") == (None, [])
