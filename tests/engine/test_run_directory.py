"""Who may write into a run directory, and what is said to those who may not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lora_cli.engine.earlier_run import drop_earlier_run
from lora_cli.engine.run_directory import (
    OURS,
    begin_run,
    check_run_directory,
    run_directory_held,
)
from lora_cli.errors import PlanError
from lora_cli.plan.run_plan import RunPlan
from tests.engine.conftest import Finished
from tests.helpers.runs import plan_of, write_recipe

TinyModel = Callable[[str], Path]


@pytest.fixture
def plan(tmp_path: Path, tiny_model: TinyModel) -> RunPlan:
    return plan_of(write_recipe(tmp_path, tiny_model("llama")))


@pytest.fixture
def folder(plan: RunPlan) -> Path:
    return Path(plan.run_dir)


def refusal(plan: RunPlan, *, resume: bool = False, overwrite: bool = False) -> PlanError:
    with pytest.raises(PlanError) as caught:
        check_run_directory(plan, resume=resume, overwrite=overwrite)
    assert caught.value.exit_code == 2
    assert caught.value.problems[0].hint
    return caught.value


def test_an_absent_or_empty_place_is_free(plan: RunPlan, folder: Path) -> None:
    check_run_directory(plan, resume=False, overwrite=False)
    assert not folder.exists(), "a check changes nothing"
    folder.mkdir()
    check_run_directory(plan, resume=False, overwrite=False)


def test_one_process_at_a_time_writes_there(plan: RunPlan, folder: Path) -> None:
    held = {"resume": False, "overwrite": True}
    with run_directory_held(plan, **held):
        begin_run(plan)
        with (
            pytest.raises(PlanError, match="another process is training into it"),
            run_directory_held(plan, **held),
        ):
            pytest.fail("it is held already")
        assert (folder / "plan.json").is_file()
    with run_directory_held(plan, **held):
        pass


def test_a_directory_that_nothing_was_written_to_goes_again(plan: RunPlan, folder: Path) -> None:
    with run_directory_held(plan, resume=False, overwrite=False):
        assert folder.is_dir()
    assert not folder.exists()


def test_a_file_is_no_run_directory(plan: RunPlan, folder: Path) -> None:
    folder.write_text("")
    for overwrite in (False, True):
        assert f"{folder} is a file" in str(refusal(plan, overwrite=overwrite))


def test_a_foreign_folder_is_never_touched(plan: RunPlan, folder: Path) -> None:
    folder.mkdir()
    (folder / "thesis.tex").touch()
    for overwrite in (False, True):
        message = str(refusal(plan, overwrite=overwrite))
        assert f"{folder} cannot be a run directory: it is not empty" in message
    assert (folder / "thesis.tex").exists()


def test_a_run_is_only_replaced_on_demand(plan: RunPlan, folder: Path) -> None:
    begin_run(plan)
    message = str(refusal(plan))
    assert "holds a run already" in message
    assert "--resume goes on with it, --overwrite replaces it" in message
    check_run_directory(plan, resume=False, overwrite=True)
    assert (folder / "plan.json").is_file()


def test_going_on_and_beginning_again_exclude_each_other(plan: RunPlan, folder: Path) -> None:
    begin_run(plan)
    assert "which of the two?" in str(refusal(plan, resume=True, overwrite=True))
    assert (folder / "plan.json").is_file()


def test_a_run_begins_with_plan_and_recipe(plan: RunPlan, folder: Path) -> None:
    begin_run(plan)
    assert sorted(path.name for path in folder.iterdir()) == ["plan.json", "recipe.yaml"]
    assert RunPlan.from_json((folder / "plan.json").read_text("utf-8")) == plan
    assert (folder / "recipe.yaml").read_text("utf-8") == plan.recipe_text


def test_beginning_again_removes_a_runs_files_and_no_others(plan: RunPlan, folder: Path) -> None:
    begin_run(plan)
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").touch()
    for name in OURS:
        if name in ("adapter", "checkpoints"):
            (folder / name / "inner").mkdir(parents=True)
        else:
            (folder / name).write_text("old")
    (folder / "adapter" / "inner").rmdir()
    (folder / "adapter").rmdir()
    (folder / "adapter").symlink_to(elsewhere)
    (folder / ".adapter-0123456789abcdef").mkdir()
    (folder / "merged").mkdir()
    begin_run(plan)
    drop_earlier_run(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["merged", "plan.json", "recipe.yaml"]
    assert (elsewhere / "precious").exists(), "a link is removed, not what it points to"


def test_a_run_writes_only_names_that_overwrite_knows(finished: Finished) -> None:
    assert {path.name for path in finished.folder.iterdir()} <= set(OURS)


def test_a_place_that_cannot_be_written_is_an_error_with_a_way_out(
    plan: RunPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(PlanError, match=r"cannot be written: Permission denied.*output\.dir"):
        begin_run(plan)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "Expecting property name"),
        ("[]", "not a plan"),
        ("{}", "validation errors for RunPlan"),
    ],
)
def test_a_broken_plan_file_cannot_be_resumed(
    plan: RunPlan, folder: Path, text: str, reason: str
) -> None:
    begin_run(plan)
    (folder / "plan.json").write_text(text)
    message = str(refusal(plan, resume=True))
    assert "plan.json: cannot be read: " in message
    assert reason in message
    assert "\n" not in message


def test_a_plan_file_that_was_edited_cannot_be_resumed(plan: RunPlan, folder: Path) -> None:
    begin_run(plan)
    text = (folder / "plan.json").read_text("utf-8")
    (folder / "plan.json").write_text(text.replace('"steps": 4,', '"steps": 5,'))
    assert "was changed after its digest was taken" in str(refusal(plan, resume=True))


def test_resuming_elsewhere_than_begun_is_allowed(plan: RunPlan, folder: Path) -> None:
    """A digest covers choices, not places: a run directory may be moved."""
    begin_run(plan)
    moved = folder.rename(folder.parent / "moved")
    check_run_directory(
        plan.model_copy(update={"run_dir": str(moved)}), resume=True, overwrite=False
    )
