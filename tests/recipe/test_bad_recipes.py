"""Every bad recipe: each problem at its place, in words, and not one more."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lora_cli.errors import RecipeError
from lora_cli.recipe.fields import all_keys
from lora_cli.recipe.load import load_recipe
from lora_cli.recipe.scalars import DISPUTED_BOOLEANS
from tests.recipe.bad_recipes import MADE, MANY, Made, bad_files, expectations


def problems_of(path: Path) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    return caught.value


def test_there_are_enough_of_them() -> None:
    assert len(bad_files()) >= 70


@pytest.mark.parametrize("path", bad_files(), ids=lambda path: path.stem)
def test_each_problem_of_a_bad_recipe(path: Path) -> None:
    expected = expectations(path)
    problems = problems_of(path).problems
    places = [f"{problem.where.line}:{problem.where.column}" for problem in problems]
    assert places == [f"{each.line}:{each.column}" for each in expected]
    assert places, "a bad recipe expects at least one problem"
    for problem, each in zip(problems, expected, strict=True):
        assert problem.where.file == str(path)
        assert problem.where.key == each.key
        assert each.message in problem.message
        assert each.hint in problem.hint


@pytest.mark.parametrize("path", bad_files(), ids=lambda path: path.stem)
def test_problems_stand_in_the_order_of_the_file(path: Path) -> None:
    places = [(problem.where.line, problem.where.column) for problem in problems_of(path).problems]
    assert places == sorted(places)


@pytest.mark.parametrize("path", bad_files(), ids=lambda path: path.stem)
def test_every_place_is_in_the_file(path: Path) -> None:
    lines = path.read_bytes().decode("utf-8-sig").splitlines()
    for problem in problems_of(path).problems:
        assert 1 <= problem.where.line <= len(lines)
        assert 1 <= problem.where.column <= len(lines[problem.where.line - 1]) + 1


@pytest.mark.parametrize("made", MADE, ids=lambda made: made.name)
def test_recipes_that_no_text_file_can_be(made: Made, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(made.content)
    (problem,) = problems_of(path).problems
    assert problem.where.position == f"{path}{made.position}"
    assert made.message in problem.message
    assert made.hint in problem.hint


@pytest.mark.parametrize("name", MANY)
def test_thousands_of_problems_are_all_found(name: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(MANY[name])
    problems = problems_of(path).problems
    assert len(problems) >= 1_800
    assert all(problem.where.line for problem in problems)


TEXTS = {
    **{path.stem: path.read_bytes() for path in bad_files()},
    **{made.name: made.content for made in MADE},
    **MANY,
}


@pytest.mark.parametrize("name", TEXTS)
def test_messages_stay_short_and_printable(name: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(TEXTS[name])
    for problem in problems_of(path).problems:
        assert problem.message.isprintable()
        assert len(problem.message) < 200
        assert len(problem.hint) < 300


@pytest.mark.parametrize("key", all_keys())
def test_no_key_takes_what_only_some_yaml_readers_take_for_a_boolean(
    key: str, tmp_path: Path
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("model: m\nadapter: lora\ndataset: rows.jsonl\n", "utf-8")
    for word in DISPUTED_BOOLEANS:
        with pytest.raises(RecipeError) as caught:
            load_recipe(path, [f"{key}={word}"])
        assert key in [problem.where.key for problem in caught.value.problems]


def test_a_folder_is_no_recipe(tmp_path: Path) -> None:
    (tmp_path / "inside.yaml").write_text("model: x\n", "utf-8")
    (problem,) = problems_of(tmp_path).problems
    assert problem.where.file == str(tmp_path)
    assert problem.message == "is a folder"
    assert "inside.yaml" in problem.hint


def test_a_missing_file_names_the_one_that_was_meant(tmp_path: Path) -> None:
    (tmp_path / "quickstart.yaml").write_text("model: x\n", "utf-8")
    (problem,) = problems_of(tmp_path / "quickstrat.yaml").problems
    assert problem.message == "does not exist"
    assert "quickstart.yaml" in problem.hint


@pytest.mark.parametrize("name", ["missing/recipe.yaml", "file/recipe.yaml", "n" * 5000, "a\0b"])
def test_a_path_that_leads_nowhere(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text", "utf-8")
    (problem,) = problems_of(tmp_path / name).problems
    assert re.match("does not exist|cannot be read: ", problem.message)
    assert problem.hint
