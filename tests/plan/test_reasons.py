"""Where a value came from, however the recipe spells it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lora_cli.plan.reasons import Reasons
from lora_cli.recipe.load import load_recipe

RECIPE = """\
model: owner/name
adapter:
  variant: lora
  dropout: 0.1
quantization: "nf4"
dataset:
  - a.jsonl
  - path: b.jsonl
    max_rows: 3
training:
  optimizer:
    beta1: 0.8
evaluation:
  path: c.jsonl
  answers: exact_match
"""


@pytest.fixture
def reasons(tmp_path: Path) -> Reasons:
    path = tmp_path / "my.yaml"
    path.write_text(RECIPE)
    flags = ["training.epochs=2", "evaluation.patience=3"]
    return Reasons(load_recipe(path, flags).source)


def reason_of(reasons: Reasons, *path: Any, **options: str) -> str:
    reasons.take(*path, value=1, **options)
    return reasons.decisions[-1].reason


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        (("model", "name"), "my.yaml:1"),
        (("model", "dtype"), "default"),
        (("adapter", "variant"), "my.yaml:3"),
        (("adapter", "dropout"), "my.yaml:4"),
        (("adapter", "rank"), "default"),
        (("quantization", "method"), "my.yaml:5"),
        (("quantization", "double_quantization"), "default"),
        (("dataset", 0, "path"), "my.yaml:7"),
        (("dataset", 0, "max_rows"), "default"),
        (("dataset", 0, "split"), "default"),
        (("dataset", 1, "path"), "my.yaml:8"),
        (("dataset", 1, "max_rows"), "my.yaml:9"),
        (("training", "optimizer", "beta1"), "my.yaml:12"),
        (("training", "optimizer", "name"), "default"),
        (("training", "epochs"), "--set"),
        (("evaluation", "path"), "my.yaml:14"),
        (("evaluation", "split"), "default"),
        (("evaluation", "patience"), "--set"),
        (("evaluation", "answers", "metric"), "my.yaml:15"),
        (("evaluation", "answers", "batch_size"), "default"),
        (("output", "dir"), "default"),
        (("seed",), "default"),
    ],
)
def test_the_line_the_flag_or_the_default(
    reasons: Reasons, path: tuple[Any, ...], reason: str
) -> None:
    assert reason_of(reasons, *path) == reason


@pytest.mark.parametrize(
    ("dataset", "line"),
    [("dataset: a.jsonl", 3), ("dataset:\n  path: a.jsonl", 4), ("dataset: [a.jsonl]", 3)],
)
def test_one_data_set_is_spelt_in_three_ways(tmp_path: Path, dataset: str, line: int) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(f"model: owner/name\nadapter: lora\n{dataset}\n")
    reasons = Reasons(load_recipe(path).source)
    assert reason_of(reasons, "dataset", 0, "path") == f"my.yaml:{line}"
    assert reason_of(reasons, "dataset", 0, "format") == "default"
    assert reason_of(reasons, "dataset", 0, "split") == "default"


def test_a_measured_reason_outweighs_the_line(reasons: Reasons) -> None:
    assert reason_of(reasons, "model", "name", measured="found") == "found"
    assert reason_of(reasons, "model", "name", measured="") == "my.yaml:1"


def test_a_default_has_words_of_its_own(reasons: Reasons) -> None:
    assert reason_of(reasons, "adapter", "alpha", default="lora's default") == "lora's default"
    assert reason_of(reasons, "adapter", "dropout", default="unused") == "my.yaml:4"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (True, "true"),
        (False, "false"),
        (None, "none"),
        (1234567, "1,234,567"),
        (2e-4, "0.0002"),
        (1e-8, "1e-08"),
        (32.0, "32"),
        (0.1 + 0.2, "0.3"),
        ("text", "text"),
        ("two\nlines", "two\\nlines"),
        (Path("a/b"), "a/b"),
    ],
)
def test_values_as_people_write_them(reasons: Reasons, value: object, shown: str) -> None:
    reasons.note("some.key", value, "because")
    decision = reasons.decisions[-1]
    assert (decision.field, decision.value, decision.reason) == ("some.key", shown, "because")


def test_decisions_keep_their_order(reasons: Reasons) -> None:
    reasons.note("b", 1, "")
    reasons.take("dataset", 1, "path", value=2)
    reasons.note("a", 3, "")
    assert [d.field for d in reasons.decisions] == ["b", "dataset[1].path", "a"]
