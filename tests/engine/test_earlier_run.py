"""What --overwrite replaces: never lost before the new run has come to something."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lora_cli.engine.earlier_run import drop_earlier_run, put_back, set_aside
from lora_cli.engine.run import run
from lora_cli.errors import GuardTrippedError, InterruptedRunError, PlanError
from lora_cli.events import CheckpointSaved, Event, Notice, RunStarted
from lora_cli.plan.run_folder import EARLIER, MOVING
from lora_cli.plan.run_plan import RunPlan
from tests.engine.test_guards import spoil_losses
from tests.helpers.runs import metrics_of, of_kind, plan_of, stop_at, train, write_recipe

TinyModel = Callable[[str], Path]
NAMES = ("plan.json", "adapter", "result.json", "answers.jsonl")


class KilledError(BaseException):
    """Ends a process here and now, as SIGKILL would."""


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an earlier run and a file of someone else."""
    (tmp_path / "adapter").mkdir()
    for name in ("plan.json", "result.json", "adapter/weights", "notes.txt"):
        (tmp_path / name).write_text(f"old {name}")
    return tmp_path


def test_aside_and_back_again(folder: Path) -> None:
    before = content(folder)
    set_aside(folder, NAMES)
    assert [path.name for path in sorted(folder.iterdir())] == [EARLIER, "notes.txt"]
    for name in ("plan.json", "answers.jsonl"):
        (folder / name).write_text("new")
    assert put_back(folder, NAMES)
    assert content(folder) == before
    assert not put_back(folder, NAMES)


def test_an_earlier_run_that_is_dropped_is_gone(folder: Path) -> None:
    set_aside(folder, NAMES)
    (folder / "plan.json").write_text("new")
    drop_earlier_run(folder)
    assert content(folder) == {"notes.txt": b"old notes.txt", "plan.json": b"new"}
    assert not put_back(folder, NAMES)


@pytest.mark.parametrize("renames", range(12))
def test_a_process_may_die_before_any_renaming(
    folder: Path, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    """Between setting aside and putting back, both counted: what is left is put back."""
    before, rename, left = content(folder), Path.rename, renames

    def rename_or_die(self: Path, target: Path) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise KilledError
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename_or_die)
        try:
            set_aside(folder, NAMES)
            (folder / "answers.jsonl").write_text("new")
            put_back(folder, NAMES)
        except KilledError:
            pass
    put_back(folder, NAMES)
    assert content(folder) == before
    assert not (folder / MOVING).exists()
    assert not (folder / EARLIER).exists()


@pytest.fixture
def plan(tmp_path: Path, tiny_model: TinyModel) -> RunPlan:
    """A plan whose run directory holds the finished run of another one."""
    train(plan_of(write_recipe(tmp_path, tiny_model("llama"), training={"steps": 1})))
    training = {"steps": 4, "save_steps": 2}
    return plan_of(write_recipe(tmp_path, tiny_model("llama"), training=training))


def test_a_run_that_fails_at_its_first_step_leaves_the_earlier_one(
    plan: RunPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(Path(plan.run_dir))
    spoil_losses(monkeypatch, after=0, factor=math.nan)
    events: list[Event] = []
    with pytest.raises(GuardTrippedError, match="the loss of step 1 is nan"):
        run(plan, events.append, overwrite=True)
    assert content(Path(plan.run_dir)) == before
    (notice,) = of_kind(events, Notice)
    assert notice.text.startswith("the earlier run is in its place again")


def test_ctrl_c_before_the_first_step_leaves_the_earlier_run(plan: RunPlan) -> None:
    def press(event: Event) -> None:
        if isinstance(event, RunStarted):
            signal.raise_signal(signal.SIGINT)

    before = content(Path(plan.run_dir))
    with pytest.raises(KeyboardInterrupt):
        run(plan, press, overwrite=True)
    assert content(Path(plan.run_dir)) == before


def test_the_first_checkpoint_takes_the_earlier_runs_place(plan: RunPlan) -> None:
    folder, aside = Path(plan.run_dir), list[bool]()

    def look(event: Event) -> None:
        if isinstance(event, RunStarted | CheckpointSaved):
            aside.append((folder / EARLIER / "result.json").is_file())

    run(plan, look, overwrite=True)
    assert aside == [True, False, False]
    assert len(metrics_of(folder)) == 4


def test_a_stopped_run_has_a_checkpoint_and_replaces_the_earlier_one(plan: RunPlan) -> None:
    with pytest.raises(InterruptedRunError):
        run(plan, stop_at(1, signal.SIGINT), overwrite=True)
    assert not (Path(plan.run_dir) / EARLIER).exists()
    result, _ = train(plan, resume=True)
    assert result.steps == 4


@pytest.mark.parametrize("checkpoint", [False, True])
def test_after_a_kill_the_next_start_settles_it(
    plan: RunPlan, monkeypatch: pytest.MonkeyPatch, checkpoint: bool
) -> None:
    """The old run is put back, unless the new one had its checkpoint by then."""
    folder = Path(plan.run_dir)
    before = content(folder)

    def die(event: Event) -> None:
        if isinstance(event, CheckpointSaved if checkpoint else RunStarted):
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr("lora_cli.engine.run_directory._settle_earlier", lambda *_: None)
        patch.setattr("lora_cli.engine.loop.drop_earlier_run", lambda _folder: None)
        with pytest.raises(KilledError):
            run(plan, die, overwrite=True)
    assert content(folder / EARLIER) == before, "nothing is lost"
    if checkpoint:
        result, _ = train(plan, resume=True)
        assert result.steps == 4
        assert not (folder / EARLIER).exists()
    else:
        with pytest.raises(PlanError, match="holds a finished run already"):
            train(plan)
        assert content(folder) == before
