"""What the rows show of a recipe's columns and template is said at the recipe's own lines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lora_cli.errors import PlanError
from lora_cli.plan.make import make_plan
from lora_cli.plan.run_plan import RunPlan
from lora_cli.recipe.load import load_recipe
from tests.helpers.tiny_models import write_rows

ROWS = [{"question": f"{n}?", "answer": f"{n}!", "note": ""} for n in range(6)]


@pytest.fixture
def planned(tmp_path: Path, tiny_model: Callable[[str], Path]) -> Callable[[str], RunPlan]:
    def plan(dataset: str) -> RunPlan:
        write_rows(tmp_path / "rows.jsonl", ROWS)
        text = f"model: {tiny_model('llama')}\nadapter: lora\ntraining: {{steps: 1}}\n"
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(f"{text}output: {tmp_path}/run\ndataset:\n{dataset}", "utf-8")
        return make_plan(load_recipe(recipe))

    return plan


@pytest.mark.parametrize(
    ("dataset", "problems"),
    [
        (
            "  path: rows.jsonl\n  columns:\n    prompt: qestion\n    completion: anwser\n",
            [
                ("8:13 dataset.columns.prompt", "no row has a column `qestion`", "`question`?"),
                ("9:17 dataset.columns.completion", "no row has a column `anwser`", "`answer`?"),
            ],
        ),
        (
            (
                '  - path: rows.jsonl\n    template:\n      prompt: "{{ qestion }}"\n'
                '      completion: "{{ answer }}"\n'
            ),
            [
                (
                    "8:15 dataset[0].template.prompt",
                    "the template reads `qestion`, and no row has such a column",
                    "did you mean `question`?",
                )
            ],
        ),
        (
            (
                "  path: rows.jsonl\n  format: labelled_text\n"
                "  columns: {text: question, label: note}\n"
            ),
            [
                (
                    "7:11 dataset.format",
                    "the task cannot learn from rows of the format labelled_text",
                    "formats that it takes: messages",
                )
            ],
        ),
        (
            "  path: rows.jsonl\n  format: alpaca\n",
            [
                (
                    "7:11 dataset.format",
                    "no row has the columns `instruction`, `output` of the format alpaca",
                    "say which is which with `dataset.columns: {instruction: …, output: …}`",
                )
            ],
        ),
    ],
)
def test_a_problem_stands_where_the_recipe_says_it(
    planned: Callable[[str], Any], dataset: str, problems: list[tuple[str, str, str]]
) -> None:
    with pytest.raises(PlanError) as caught:
        planned(dataset)
    found = caught.value.problems
    assert len(found) == len(problems)
    for problem, (place, message, hint) in zip(found, problems, strict=True):
        assert str(problem.where).partition("recipe.yaml:")[2] == place
        assert message in problem.message
        assert hint in problem.hint


def test_the_plan_holds_columns_and_template_and_says_why(
    planned: Callable[[str], RunPlan],
) -> None:
    plan = planned(
        "  path: rows.jsonl\n  columns: {q: question}\n"
        '  template: {prompt: "{{ q }}", completion: "{{ answer }}"}\n'
    )
    (source,) = plan.data.sources
    assert (source.format, source.columns) == ("template", {"q": "question"})
    assert source.template == {"prompt": "{{ q }}", "completion": "{{ answer }}"}
    decisions = {each.field: (each.value, each.reason) for each in plan.decisions}
    assert decisions["dataset[0].format"] == ("template", "`dataset.template` is given")
    assert decisions["dataset[0].columns"] == ("q = question", "recipe.yaml:7")
    assert decisions["dataset[0].template.prompt"] == ("{{ q }}", "recipe.yaml:8")
    assert RunPlan.model_validate_json(plan.model_dump_json()) == plan
    assert any("`note`" in warning for warning in plan.warnings)
