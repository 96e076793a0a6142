"""Names that are near, but not where a recipe looks for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_cli.errors import PlanError, Where
from lora_cli.facts.model_source import find_model
from lora_cli.plan.find_rows import RowsName, find_rows


@pytest.fixture
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of recipes beside the folder `m`, in the folder one works in."""
    (tmp_path / "m/llama").mkdir(parents=True)
    (tmp_path / "m/rows.jsonl").touch()
    (tmp_path / "recipes").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "recipes"


@pytest.mark.parametrize("name", ["m/llama", "./m/llama"])
def test_a_model_that_is_near(recipes: Path, name: str) -> None:
    with pytest.raises(PlanError) as caught:
        find_model(name, revision=None, base_dir=recipes)
    (problem,) = caught.value.problems
    assert problem.hint.endswith("it is there from this folder: write ../m/llama")


@pytest.mark.parametrize("name", ["m/rows.jsonl", "m/llama"])
def test_rows_that_are_near(recipes: Path, name: str) -> None:
    with pytest.raises(PlanError) as caught:
        find_rows(RowsName(name), recipes, Where("r.yaml", 3))
    (problem,) = caught.value.problems
    assert problem.where.line == 3
    assert problem.hint.endswith(f"it is there from this folder: write ../{name}")


def test_a_name_that_leads_nowhere_at_all(recipes: Path) -> None:
    with pytest.raises(PlanError) as caught:
        find_rows(RowsName("m/row.jsonl"), recipes, Where("r.yaml"))
    assert "from this folder" not in str(caught.value)
