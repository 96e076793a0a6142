"""A run that can only waste time is stopped, and nothing bad has been written by then."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from lora_cli import cli
from lora_cli.engine.checkpoint import newest_checkpoint
from lora_cli.engine.run import run
from lora_cli.errors import GuardTrippedError
from lora_cli.events import Event, StepDone
from lora_cli.step.guards import (
    check_evaluation_loss,
    check_gradient_norm,
    check_gradients_reach,
    check_loss,
)
from lora_cli.tasks.causal_lm import CausalLm, Scored
from lora_cli.tasks.task import Measured
from tests.helpers.runs import metrics_of, plan_of, train, write_recipe

TinyModel = Callable[[str], Path]
BAD = [math.nan, math.inf, -math.inf]


@pytest.mark.parametrize("value", BAD)
def test_values_that_are_not_finite_trip_their_guard(value: float) -> None:
    with pytest.raises(GuardTrippedError, match=f"^the loss of step 3 is {value}.*learning_rate"):
        check_loss(3, value)
    with pytest.raises(GuardTrippedError, match=f"^the gradient norm of step 3 is {value}"):
        check_gradient_norm(3, value)
    with pytest.raises(GuardTrippedError, match=f"^the evaluation loss after step 3 is {value}"):
        check_evaluation_loss(3, value)


@pytest.mark.parametrize("value", [0.0, 1e30])
def test_finite_values_pass(value: float) -> None:
    check_loss(1, value)
    check_gradient_norm(1, value)
    check_evaluation_loss(1, value)


def parameter(gradient: float | None, *, trained: bool = True) -> nn.Parameter:
    made = nn.Parameter(torch.zeros(2), requires_grad=trained)
    if gradient is not None:
        made.grad = torch.tensor([0.0, gradient])
    return made


def test_every_trained_tensor_needs_a_gradient() -> None:
    named = [
        ("frozen", parameter(None, trained=False)),
        ("reached", parameter(1.0)),
        ("first", parameter(None)),
        ("second", parameter(None)),
    ]
    with pytest.raises(GuardTrippedError, match=r"2 of 3 adapter tensors get no gr.*`first`"):
        check_gradients_reach(named)
    check_gradients_reach(named[:2])


def test_some_gradient_must_not_be_zero() -> None:
    """A starts with zero gradients, since B is zero; but B's are not."""
    check_gradients_reach([("A", parameter(0.0)), ("B", parameter(0.5))])
    with pytest.raises(GuardTrippedError, match="every gradient of the first step is zero"):
        check_gradients_reach([("A", parameter(0.0)), ("B", parameter(0.0))])


def spoil_losses(monkeypatch: pytest.MonkeyPatch, *, after: int, factor: float) -> None:
    """Multiply the loss of every micro batch after the first `after` ones."""
    count = 0
    true_score = CausalLm.score

    def score(task: CausalLm, model: Any, batch: Any) -> Scored:
        nonlocal count
        count += 1
        scored = true_score(task, model, batch)
        return Scored(
            scored.loss_sum * (factor if count > after else 1), scored.count, scored.correct
        )

    monkeypatch.setattr(CausalLm, "score", score)


@pytest.mark.parametrize("accumulation", [1, 3])
def test_a_loss_that_is_not_a_number_changes_no_weight(
    tmp_path: Path, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch, accumulation: int
) -> None:
    """The last micro batch of step 3 is bad: two good steps are done, and a checkpoint of each."""
    training = {"save_steps": 1, "batch_size": 1, "gradient_accumulation_steps": accumulation}
    plan = plan_of(write_recipe(tmp_path, tiny_model("llama"), training=training))
    spoil_losses(monkeypatch, after=3 * accumulation - 1, factor=math.nan)
    live: list[torch.Tensor] = []
    watch_weights(monkeypatch, live)
    with pytest.raises(GuardTrippedError, match="the loss of step 3 is nan"):
        run(plan, lambda _event: None)
    newest, damaged = newest_checkpoint(tmp_path / "run" / "checkpoints")
    assert newest is not None
    assert (newest.name, damaged) == ("step-000002", [])
    saved = load_file(newest / "adapter.safetensors")
    assert len(saved) == len(live) > 0
    assert all(any(tensor.equal(good) for good in saved.values()) for tensor in live)
    assert [line["step"] for line in metrics_of(tmp_path / "run")] == [1, 2]
    assert not (tmp_path / "run" / "adapter").exists()


def watch_weights(monkeypatch: pytest.MonkeyPatch, live: list[torch.Tensor]) -> None:
    """Note the parameters that the run trains."""
    from lora_cli.engine import run as module

    build = module.build_trainables

    def note(*arguments: Any, **options: Any) -> Any:
        trained = build(*arguments, **options)
        live.extend(trained.parameters())
        return trained

    monkeypatch.setattr(module, "build_trainables", note)


def test_an_infinite_gradient_stops_the_run(
    tmp_path: Path, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(write_recipe(tmp_path, tiny_model("llama")))
    spoil_losses(monkeypatch, after=1, factor=1e38)
    with pytest.raises(GuardTrippedError, match=r"the (loss|gradient norm) of step 2 is (inf|nan)"):
        run(plan, lambda _event: None)


def test_an_evaluation_that_is_not_a_number_stops_the_run(
    tmp_path: Path, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = write_recipe(tmp_path, tiny_model("llama"), evaluation={"split": 0.2})
    monkeypatch.setattr("lora_cli.engine.loop.evaluate", lambda *_, **__: (math.nan, Measured({})))
    with pytest.raises(GuardTrippedError, match="the evaluation loss after step 4 is nan"):
        train(plan_of(recipe))
    assert metrics_of(tmp_path / "run", "evaluation") == []


def test_a_tripped_guard_is_exit_code_4(
    tmp_path: Path,
    tiny_model: TinyModel,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe = write_recipe(tmp_path, tiny_model("llama"))
    spoil_losses(monkeypatch, after=0, factor=math.nan)
    monkeypatch.setattr(sys, "argv", ["loracli", "train", str(recipe)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 4
    errors = capsys.readouterr().err
    assert "a guard stopped the run" in errors
    assert "the loss of step 1 is nan" in errors


@pytest.mark.parametrize("tensor", ["model.layers.1.mlp.up_proj.weight", ""])
def test_a_base_that_gives_no_loss_is_to_blame_and_not_the_learning_rate(
    tmp_path: Path, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch, tensor: str
) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_model("llama"), base)
    if tensor:
        tensors = load_file(base / "model.safetensors")
        tensors[tensor][0, 0] = math.nan
        save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    else:
        spoil_losses(monkeypatch, after=0, factor=math.nan)
    with pytest.raises(GuardTrippedError) as caught:
        run(plan_of(write_recipe(tmp_path, base)), lambda _event: None)
    (problem,) = caught.value.problems
    assert problem.message.startswith("the loss of step 1 is nan before anything is learnt: ")
    assert "learning_rate" not in problem.hint
    if tensor:
        assert f"the base's `{tensor}` is not finite" in problem.message
        assert "fetch the weights again" in problem.hint
    else:
        assert problem.where.file == str(tmp_path / "rows.jsonl")
        assert 1 <= problem.where.line <= 24
        assert "model.dtype: float32" in problem.hint


def test_an_adapter_that_nothing_uses_is_found_at_the_first_step(
    tmp_path: Path, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.models.llama.modeling_llama import LlamaMLP

    plan = plan_of(write_recipe(tmp_path, tiny_model("llama")))
    monkeypatch.setattr(LlamaMLP, "forward", lambda self, x: self.down_proj(self.up_proj(x)))
    steps: list[Event] = []
    with pytest.raises(GuardTrippedError, match=r"4 of 28 adapter tensors .*gate_proj\.lora_A"):
        run(plan, lambda event: steps.append(event) if isinstance(event, StepDone) else None)
    assert steps == []
