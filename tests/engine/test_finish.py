"""A run directory with a result file is complete; without one, its end can be done again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lora_cli.engine import finish as module
from lora_cli.events import StepDone
from tests.engine.conftest import EVERYTHING, Finished
from tests.helpers.runs import of_kind, plan_of, train, write_recipe

TinyModel = Callable[[str], Path]
PARTS = [
    "write_adapter",
    "compare_answers",
    "write_loss_curve",
    "write_rank_curve",
    "write_model_card",
    "write_report",
]


@pytest.mark.parametrize("part", PARTS)
def test_the_result_file_comes_last_and_the_end_can_be_repeated(
    tmp_path: Path,
    tiny_model: TinyModel,
    finished: Finished,
    monkeypatch: pytest.MonkeyPatch,
    part: str,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no space left")

    plan = plan_of(write_recipe(tmp_path, tiny_model("llama"), **EVERYTHING))
    shutil.copytree(finished.folder / "checkpoints", tmp_path / "run" / "checkpoints")
    for name in ("plan.json", "recipe.yaml", "metrics.jsonl"):
        shutil.copy(finished.folder / name, tmp_path / "run" / name)
    with monkeypatch.context() as broken:
        broken.setattr(module, part, fail)
        with pytest.raises(OSError, match="no space left"):
            train(plan, resume=True)
    assert not (tmp_path / "run" / "result.json").exists()
    result, events = train(plan, resume=True)
    assert of_kind(events, StepDone) == []
    for name in ("steps", "final_loss", "tokens", "seconds", "best_step", "scores"):
        assert getattr(result, name) == getattr(finished.result, name)
    for name in ("adapter/adapter_model.safetensors", "answers.jsonl", "loss.png"):
        assert (tmp_path / "run" / name).read_bytes() == (finished.folder / name).read_bytes()
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        path.name for path in finished.folder.iterdir()
    }
