"""The data sets of a recipe become files, and how each is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_cli.errors import PlanError
from lora_cli.plan import find_rows
from lora_cli.plan.paths import row_sources
from lora_cli.recipe.load import LoadedRecipe, load_recipe


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    for name in ("rows.jsonl", "data/train.jsonl", "data/test.jsonl", "data/notes.txt"):
        (tmp_path / name).touch()
    return tmp_path


def loaded(folder: Path, text: str) -> LoadedRecipe:
    path = folder / "my-recipe.yaml"
    path.write_text(f"model: owner/name\nadapter: lora\n{text}\n")
    return load_recipe(path)


def test_the_sources_of_a_recipe(folder: Path) -> None:
    text = (
        "dataset:\n  - rows.jsonl\n"
        "  - {path: data, split: test, format: messages, max_rows: 2, system_prompt: Be.}\n"
        "evaluation: {path: data/train.jsonl}"
    )
    sources = row_sources(loaded(folder, text))
    first, second = sources.train
    assert (first.files, first.format, first.max_rows) == ((folder / "rows.jsonl",), "auto", None)
    assert (second.files, second.format) == ((folder / "data/test.jsonl",), "messages")
    assert (second.max_rows, second.system_prompt, second.on_bad_row) == (2, "Be.", "error")
    assert sources.evaluation is not None
    assert sources.evaluation.files == (folder / "data/train.jsonl",)


def test_an_evaluation_file_is_read_as_the_training_rows_are_but_whole(folder: Path) -> None:
    text = (
        "dataset: {path: data, split: test, format: messages, max_rows: 2, system_prompt: Be., "
        "on_bad_row: skip}\nevaluation: {path: rows.jsonl}"
    )
    evaluation = row_sources(loaded(folder, text)).evaluation
    assert evaluation is not None
    assert (evaluation.files, evaluation.max_rows) == ((folder / "rows.jsonl",), None)
    assert (evaluation.format, evaluation.system_prompt) == ("messages", "Be.")
    assert evaluation.on_bad_row == "skip"


def test_without_an_evaluation_file_there_is_none(folder: Path) -> None:
    assert row_sources(loaded(folder, "dataset: rows.jsonl")).evaluation is None
    split = row_sources(loaded(folder, "dataset: rows.jsonl\nevaluation: 0.1"))
    assert split.evaluation is None


def test_every_missing_file_is_told(folder: Path) -> None:
    text = "dataset: [a.jsonl, rows.jsonl, b.jsonl]\nevaluation: {path: c.jsonl}"
    with pytest.raises(PlanError) as caught:
        row_sources(loaded(folder, text))
    where = [(p.where.key, p.where.line, p.where.column) for p in caught.value.problems]
    assert where == [
        ("dataset[0].path", 3, 11),
        ("dataset[2].path", 3, 32),
        ("evaluation.path", 4, 20),
    ]


def test_a_source_can_be_several_files(folder: Path) -> None:
    text = "dataset:\n  path: [rows.jsonl, 'data/t*.jsonl']\n  columns: [text, label]"
    (source,) = row_sources(loaded(folder, text)).train
    names = ["rows.jsonl", "data/test.jsonl", "data/train.jsonl"]
    assert source.files == tuple(folder / name for name in names)
    assert (source.names, source.columns) == (("text", "label"), {})


def test_each_name_of_a_list_has_its_own_place(folder: Path) -> None:
    text = "dataset:\n  - path:\n      - a.jsonl\n      - rows.jsonl\n      - b.jsonl"
    with pytest.raises(PlanError) as caught:
        row_sources(loaded(folder, text))
    where = [(p.where.key, p.where.line) for p in caught.value.problems]
    assert where == [("dataset[0].path[0]", 5), ("dataset[0].path[2]", 7)]


def test_a_file_counts_once(folder: Path) -> None:
    text = "dataset: {path: [data/test.jsonl, data/*.jsonl]}"
    with pytest.raises(PlanError, match=r"`test\.jsonl` is named twice") as caught:
        row_sources(loaded(folder, text))
    assert caught.value.problems[0].where.key == "dataset.path"


def test_a_file_is_in_one_source_alone(folder: Path) -> None:
    text = "dataset:\n- rows.jsonl\n- data/test.jsonl\n- {path: ./rows.jsonl, max_rows: 2}"
    with pytest.raises(PlanError) as caught:
        row_sources(loaded(folder, text))
    (problem,) = caught.value.problems
    assert problem.message == "`rows.jsonl` is named twice: its rows would count double"
    assert (problem.where.key, problem.where.line) == ("dataset[2].path", 6)
    assert "`weight: 2`" in problem.hint


def test_a_file_may_be_read_in_two_ways(folder: Path) -> None:
    text = "dataset:\n- rows.jsonl\n- {path: rows.jsonl, system_prompt: Be brief.}"
    assert len(row_sources(loaded(folder, text)).train) == 2


@pytest.mark.parametrize(
    ("text", "key", "column", "field"),
    [
        ("dataset: {path: data, split: dev}", "dataset.split", 30, "split"),
        ("dataset: [{path: data, split: dev}]", "dataset[0].split", 31, "split"),
        (
            "dataset: data\nevaluation: {path: data, split_name: dev}",
            "evaluation.split_name",
            38,
            "split_name",
        ),
        (
            "dataset: data\nevaluation: {split_name: dev}",
            "evaluation.split_name",
            26,
            "split_name",
        ),
    ],
)
def test_an_unknown_split_is_told_where_it_is_named(
    folder: Path, text: str, key: str, column: int, field: str
) -> None:
    with pytest.raises(PlanError) as caught:
        row_sources(loaded(folder, text))
    (problem,) = caught.value.problems
    assert (problem.where.key, problem.where.column) == (key, column)
    assert "split `dev`" in problem.message
    assert f"`{field}`" in problem.hint


@pytest.mark.parametrize(
    "evaluation",
    ["{split_name: test}", "{path: data, split_name: test}", "{path: data/test.jsonl}"],
)
def test_the_rows_to_evaluate_on_are_a_split(folder: Path, evaluation: str) -> None:
    sources = row_sources(loaded(folder, f"dataset: data\nevaluation: {evaluation}"))
    assert sources.train[0].files == (folder / "data/train.jsonl",)
    assert sources.evaluation is not None
    assert sources.evaluation.files == (folder / "data/test.jsonl",)


def test_a_file_by_its_name_may_be_both(folder: Path) -> None:
    sources = row_sources(loaded(folder, "dataset: rows.jsonl\nevaluation: {path: rows.jsonl}"))
    assert sources.evaluation is not None
    assert sources.evaluation.files == sources.train[0].files


@pytest.mark.parametrize(
    "evaluation", ["{path: data}", "{split_name: train}", "{path: 'data/tr*.jsonl'}"]
)
def test_what_is_trained_on_is_no_evaluation(folder: Path, evaluation: str) -> None:
    with pytest.raises(PlanError, match="are those that are trained on: train") as caught:
        row_sources(loaded(folder, f"dataset: data\nevaluation: {evaluation}"))
    (problem,) = caught.value.problems
    assert problem.where.key in {"evaluation.path", "evaluation.split_name"}
    assert problem.hint == "name another split, with `evaluation.split_name`"


def test_a_subset_is_kept_for_another_split_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def prepared(_data: object, subset: str | None, split: str) -> tuple[Path, ...]:
        asked.append((subset, split))
        return (folder / f"{split}.arrow",)

    monkeypatch.setattr(find_rows, "prepared_files", prepared)
    text = "dataset: {path: owner/name, subset: main}\nevaluation: "
    row_sources(loaded(folder, text + "{split_name: test}"))
    row_sources(loaded(folder, text + "{path: owner/other, split_name: test}"))
    assert asked == [("main", "train"), ("main", "test"), ("main", "train"), (None, "test")]
