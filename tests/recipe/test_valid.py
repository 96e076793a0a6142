"""What a recipe may look like: shorthands, numbers, texts, encodings and defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lora_cli.adapters.targeted import TargetRegex
from lora_cli.errors import RecipeError
from lora_cli.recipe.load import load_recipe
from lora_cli.recipe.schema import Recipe
from lora_cli.recipe.yaml_tree import read_tree

BASE = "model: base-model\nadapter: lora\ndataset: rows.jsonl\n"


def load(folder: Path, content: str | bytes) -> Recipe:
    path = folder / "recipe.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return load_recipe(path).recipe


def value_of(scalar: str) -> Any:
    tree = read_tree(f"key: {scalar}\n", "recipe.yaml")
    assert tree.problems == []
    return tree.value["key"]


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("1e-4", 1e-4),
        ("2E-4", 2e-4),
        ("1.", 1.0),
        (".5", 0.5),
        ("-0", 0),
        ("-0.0", -0.0),
        ("+3", 3),
        ("1.5e3", 1500.0),
        ("1E+2", 100.0),
        ("0", 0),
        ("0.10", 0.1),
        ("true", True),
        ("False", False),
        ("TRUE", True),
        ("123456789012345678901234", 123456789012345678901234),
    ],
)
def test_numbers_and_booleans(scalar: str, value: object) -> None:
    read = value_of(scalar)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    "scalar",
    [
        "2024-01-31",
        "2024-01-31T10:00:00Z",
        "1.2.3",
        "v1.10",
        "1e",
        "e5",
        ".",
        "--",
        "1-2",
        "0.1.0",
        "12:75",
        "a_1_000",
        "yesterday",
        "nope",
        "tru",
        "none",
        "inf",
        "nan",
        "=",
        "C:/models/base",
        "package://module/file.gguf",
        "the user’s “own” words",
        "10\u00a0000 rows:\u00a0all",
        "a b  c",
        "naïve",
        "-1x",
        "1,000",
        "10%",
        "<<",
    ],
)
def test_bare_text_stays_text(scalar: str) -> None:
    assert value_of(f"  {scalar}") == scalar.strip()


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "y", "n", "true", "null", "~", "1e-4"])
@pytest.mark.parametrize("quote", ["'", '"'])
def test_words_in_quotes_are_text(word: str, quote: str) -> None:
    assert value_of(f"{quote}{word}{quote}") == word


def test_an_empty_text_in_quotes_is_text() -> None:
    assert value_of("''") == ""


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("model: base-model", "model: {name: base-model}"),
        ("adapter: rslora", "adapter: {variant: rslora}"),
        ("quantization: nf4", "quantization: {method: nf4}"),
        ("quantization: none", "quantization: {method: none}"),
        ("dataset: a.jsonl", "dataset: {path: a.jsonl}"),
        ("dataset: a.jsonl", "dataset: [a.jsonl]"),
        ("dataset: [a.jsonl, b.jsonl]", "dataset: [{path: a.jsonl}, b.jsonl]"),
        ("evaluation: 0.1", "evaluation: {split: 0.1}"),
        (
            "evaluation: {path: x, answers: json_fields}",
            "evaluation: {path: x, answers: {metric: json_fields}}",
        ),
        ("output: runs/one", "output: {dir: runs/one}"),
        ("training: {optimizer: adamw}", "training: {optimizer: {name: adamw}}"),
        ("training: {optimizer: {beta1: 0.5}}", "training: {optimizer: {name: adamw, beta1: 0.5}}"),
        ("training: {epochs: 2}", "training: {epochs: 2.0}"),
        ("training: {}", "seed: 0"),
    ],
)  # fmt: skip
def test_a_shorthand_is_its_section(short: str, long: str, tmp_path: Path) -> None:
    assert load(tmp_path, with_line(short)) == load(tmp_path, with_line(long))


def with_line(line: str) -> str:
    """Return the smallest recipe with this line, in place of its own if that has one."""
    key = line.partition(":")[0]
    return "".join(own for own in BASE.splitlines(True) if not own.startswith(key)) + line + "\n"


@pytest.mark.parametrize(
    ("form", "value"),
    [
        ("all-linear", "all-linear"),
        ("attention", "attention"),
        ("mlp", "mlp"),
        ("[q_proj]", ("q_proj",)),
        ("[q_proj, 'on']", ("q_proj", "on")),
        ("{regex: '.*q_proj'}", TargetRegex(regex=".*q_proj")),
    ],
)
def test_forms_of_target_modules(form: str, value: object, tmp_path: Path) -> None:
    recipe = load(tmp_path, with_line(f"adapter: {{variant: lora, target_modules: {form}}}"))
    assert recipe.adapter.target_modules == value


@pytest.mark.parametrize(
    "content",
    [
        "\ufeff" + BASE,
        BASE.replace("\n", "\r\n"),
        BASE.replace("\n", "\r"),
        "---\n" + BASE + "...\n",
        "# comment\n\n" + BASE.replace("\n", "   # comment\n"),
        "{model: base-model, adapter: lora, dataset: rows.jsonl}",
        '{"model": "base-model", "adapter": "lora", "dataset": "rows.jsonl"}',
        BASE.rstrip("\n"),
        BASE.replace(": ", ":   \t"),
        BASE.replace("lora", '"lo\\x72a"'),
    ],
)
def test_the_same_recipe_in_other_clothes(content: str, tmp_path: Path) -> None:
    assert load(tmp_path, content) == load(tmp_path, BASE)


def test_small_aliases_are_followed(tmp_path: Path) -> None:
    training = "training: {steps: &few 5, save_steps: *few}\n"
    content = BASE + training + "evaluation: {split: 0.1, every_steps: *few}\n"
    recipe = load(tmp_path, content)
    assert (recipe.training.steps, recipe.training.save_steps) == (5, 5)
    assert recipe.evaluation is not None
    assert recipe.evaluation.every_steps == 5


def test_an_aliased_section_is_a_copy(tmp_path: Path) -> None:
    content = "model: m\nadapter: lora\ndataset: [&rows {path: a, max_rows: 1}, *rows]\n"
    path = tmp_path / "recipe.yaml"
    path.write_text(content, "utf-8")
    recipe = load_recipe(path, ["dataset[1].max_rows=9"]).recipe
    assert [dataset.max_rows for dataset in recipe.dataset] == [1, 9]


def test_long_text_over_several_lines(tmp_path: Path) -> None:
    content = (
        "model: m\nadapter: lora\ndataset:\n  path: rows\n  system_prompt: >-\n    Be\n    brief.\n"
    )
    assert load(tmp_path, content).dataset[0].system_prompt == "Be brief."


def test_defaults(tmp_path: Path) -> None:
    recipe = load(tmp_path, BASE)
    assert recipe.model.dtype == "auto"
    assert recipe.model.attention == "auto"
    assert not recipe.model.trust_remote_code
    assert not recipe.model.allow_pickle
    assert (recipe.adapter.rank, recipe.adapter.dropout) == (16, 0.0)
    assert recipe.adapter.alpha is None
    assert recipe.adapter.target_modules == "all-linear"
    assert recipe.quantization is None, "the variant decides"
    assert recipe.dataset[0].format == "auto"
    assert recipe.dataset[0].on_bad_row == "error"
    assert (recipe.training.epochs, recipe.training.steps) == (None, None)
    assert (recipe.training.batch_size, recipe.training.max_length) == (8, 1024)
    assert (recipe.training.learning_rate, recipe.training.scheduler) == (None, "cosine")
    assert recipe.training.optimizer is None
    assert recipe.evaluation is None
    assert recipe.output.dir is None
    assert recipe.seed == 0


def test_double_quantization_is_on_where_there_is_one(tmp_path: Path) -> None:
    recipe = load(tmp_path, BASE + "quantization: nf4\n")
    assert recipe.quantization.model_dump()["double_quantization"] is True


def test_the_places_of_what_was_read(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(BASE + "training:\n  steps: 5\n", "utf-8")
    source = load_recipe(path).source
    assert str(source.of_key(("training", "steps"))) == f"{path}:5:3 training.steps"
    assert str(source.of_value(("training", "steps"))) == f"{path}:5:10 training.steps"
    assert str(source.of_value(("training", "epochs"))) == f"{path}:5:3 training.epochs"
    assert str(source.of_value(("model", "name"))) == f"{path}:1:8 model.name"
    assert str(source.of_value(("seed",))) == f"{path}:1:1 seed"
    assert source.wrote(("training", "steps"))
    assert not source.wrote(("training", "epochs"))


def test_the_largest_file_that_is_read(tmp_path: Path) -> None:
    padding = "#" * (256 * 1024 - len(BASE))
    assert load(tmp_path, BASE + padding) == load(tmp_path, BASE)
    with pytest.raises(RecipeError, match="larger than"):
        load(tmp_path, BASE + padding + "#")
