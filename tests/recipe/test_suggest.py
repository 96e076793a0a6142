"""Hints: every name they give is a real one, and none misleads."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import yaml

from lora_cli.errors import RecipeError
from lora_cli.recipe.fields import all_keys, all_sections, field_at, members, sections_at
from lora_cli.recipe.foreign_names import FOREIGN_NAMES, NOTE_PREFIXES, NOTES
from lora_cli.recipe.foreign_values import FOREIGN_VALUES, VALUE_NOTES
from lora_cli.recipe.load import load_recipe
from lora_cli.recipe.suggest import closest, value_hint

LAST_PARTS = {key.rpartition(".")[2] for key in all_keys()}


def path_of(key: str) -> tuple[str | int, ...]:
    return tuple(key.split("."))


def allowed_at(key: str) -> set[str]:
    """Return the words that the field at `key` takes, its shorthand's or its family's included."""
    sections = sections_at(path_of(key))
    if sections and key != "adapter.target_modules":
        return set(members(sections)) or allowed_at(f"{key}.{sections[0].main_field}")
    parents = sections_at(path_of(key)[:-1])
    fields = [section.model_fields.get(key.rpartition(".")[2]) for section in parents]
    return {word for info in fields if info for word in _words(info.annotation)}


def _words(annotation: Any) -> set[str]:
    if get_origin(annotation) is Literal:
        return set(get_args(annotation))
    return {word for argument in get_args(annotation) for word in _words(argument)}


def hint_for(key: str, folder: Path) -> str:
    """Return the hint for an unknown key, by its dotted path in an otherwise good recipe."""
    recipe: dict[str, Any] = {
        "model": {"name": "m"},
        "adapter": {"variant": "lora"},
        "dataset": {"path": "d"},
    }
    *parents, word = key.split(".")
    node = recipe
    for parent in parents:
        node = node.setdefault(parent, {})
    node[word] = 1
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), "utf-8")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    (problem,) = [each for each in caught.value.problems if each.where.key == key]
    return problem.hint


@pytest.mark.parametrize(("word", "target"), FOREIGN_NAMES.items())
def test_a_foreign_name_leads_to_a_real_key(word: str, target: str, tmp_path: Path) -> None:
    key, _, value = target.partition(": ")
    assert key in all_keys()
    path = tmp_path / "recipe.yaml"
    path.write_text("model: m\nadapter: lora\ndataset: rows.jsonl\n", "utf-8")
    load_recipe(path, [f"{key}={value}"] if value else [])
    assert word.rpartition(".")[0] in ("", *all_keys())


def test_a_foreign_name_is_none_of_ours() -> None:
    assert {word for word in FOREIGN_NAMES if "." not in word} & LAST_PARTS == set()
    assert set(FOREIGN_NAMES) & set(all_keys()) == set()
    assert set(NOTES) & (LAST_PARTS | set(FOREIGN_NAMES)) == set()


def test_notes_name_only_keys_that_exist() -> None:
    quoted = {word for note in NOTES.values() for word in note.split("`")[1::2]}
    keys = {word for word in quoted if "." in word}
    assert keys
    assert keys <= set(all_keys())
    assert set(NOTE_PREFIXES.values()) <= set(NOTES.values())


@pytest.mark.parametrize("key", FOREIGN_VALUES)
def test_a_foreign_value_leads_to_a_real_one(key: str) -> None:
    assert key in all_keys()
    assert set(FOREIGN_VALUES[key]) <= allowed_at(key)
    words = [word for words in FOREIGN_VALUES[key].values() for word in words.split()]
    notes = [word for words in VALUE_NOTES.get(key, {}).values() for word in words.split()]
    assert len(set(words + notes)) == len(words + notes), "one word, one meaning"
    assert not set(words + notes) & allowed_at(key)


def test_value_notes_are_about_real_keys() -> None:
    assert set(VALUE_NOTES) <= set(all_keys())


@pytest.mark.parametrize("word", [word for word in FOREIGN_NAMES if "." not in word])
def test_a_foreign_name_at_the_top_gets_its_hint(word: str, tmp_path: Path) -> None:
    ours = FOREIGN_NAMES[word]
    key = ours.partition(":")[0]
    taken = ours in ("model", "dataset")
    hint = hint_for(word, tmp_path)
    assert hint == (
        f"`{key}` is there already: remove this line" if taken else f"did you mean `{ours}`?"
    )


@pytest.mark.parametrize("word", NOTES)
def test_what_a_recipe_does_not_have_gets_its_note(word: str, tmp_path: Path) -> None:
    assert hint_for(word, tmp_path) == NOTES[word]
    if "." not in word:
        assert hint_for(f"training.{word}", tmp_path) == NOTES[word]


def test_the_hint_of_every_misspelt_field(tmp_path: Path) -> None:
    """One letter left out of a field's name still leads to it, unless it is three letters long."""
    wrong: list[str] = []
    for key in all_keys():
        section, _, name = key.rpartition(".")
        if len(name) > 4 and section not in ("quantization", "adapter.target_modules"):
            misspelt = f"{section}.{name[:2]}{name[3:]}" if section else f"{name[:2]}{name[3:]}"
            hint = hint_for(misspelt, tmp_path)
            if hint not in (
                f"did you mean `{key}`?",
                f"`{key}` is there already: remove this line",
            ):
                wrong.append(f"{misspelt}: {hint}")
    assert wrong == []


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("training.zebra", "`training` has: epochs, steps, batch_size"),
        ("zebra", "a recipe has: model, task, adapter, quantization"),
        ("training.optimizer.zebra", "`training.optimizer` has: name, weight_decay, beta1"),
        ("model.path", "`model.name` is there already: remove this line"),
        ("evaluation.steps", "did you mean `evaluation.every_steps`?"),
        ("evaluation.metric", "`evaluation.answers.metric` scores answers"),
        ("dataset.train", "`dataset.path` is there already"),
        ("dataset.validation", "did you mean `evaluation.path`?"),
        ("test", "stands in `evaluation`"),
        ("warmup_steps", "`training.warmup_ratio` is this as a share of all steps"),
        ("evaluation.file", "did you mean `evaluation.path`?"),
        ("training.max_steps", "did you mean `training.steps`?"),
        ("training.warmup", "`training.warmup_ratio` is this as a share of all steps"),
        ("training.warmup_fraction", "did you mean `training.warmup_ratio`?"),
        ("training.seed", "did you mean `seed`?"),
        ("training.wd", "did you mean `training.optimizer.weight_decay`?"),
        ("training.optimizer.lr", "did you mean `training.learning_rate`?"),
        ("batch_size", "did you mean `training.batch_size` or `evaluation.batch_size`"),
        ("adapter.lora", "did you mean `adapter: {variant: lora, rank: 8}`?"),
        ("lora_parameters", "did you mean `adapter: {variant: lora, rank: 8}`?"),
        ("dataset.data", "`dataset.path` is there already"),
        ("adapter.use_rslora", "did you mean `adapter.variant: rslora`?"),
        ("dataset.rows", "did you mean `dataset.max_rows`?"),
        ("output.path", "did you mean `output.dir`?"),
        ("wandb_run_name", "metrics.jsonl"),
        ("Learning-Rate", "did you mean `training.learning_rate`?"),
        ("LORA_R", "did you mean `adapter.rank`?"),
        ("gradient_acumulation", "did you mean `training.gradient_accumulation_steps`?"),
        ("eval_sample_packin", "evaluation rows are padded and sorted by length"),
    ],
)
def test_hints(key: str, hint: str, tmp_path: Path) -> None:
    assert hint in hint_for(key, tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "hint"),
    [
        ("model.dtype", "bf16", "did you mean `bfloat16`? allowed: "),
        ("model.dtype", "FP16", "did you mean `float16`? allowed: "),
        ("model.dtype", "int4", "allowed: "),
        ("training.optimizer.name", "paged_adamw_32bit", "did you mean `paged_adamw`? "),
        ("training.optimizer.name", "adamw_bnb_8bit", "did you mean `adamw_8bit`? "),
        ("adapter.variant", "Lora", "did you mean `lora`? allowed: "),
        ("quantization.method", 8, "did you mean `int8`? allowed: "),
        ("quantization.method", False, "did you mean `none`? allowed: "),
        ("evaluation.answers.metric", "loss", "every evaluation measures it: leave the line out; "),
        ("evaluation.answers.metric", False, "leave the line out for none; allowed: "),
        ("quantization.method", "awq", "not part of this version; allowed: "),
        ("training.scheduler", "cosin", "did you mean `cosine`? allowed: "),
        ("training.scheduler", "", "allowed: "),
        ("training.scheduler", "x" * 100_000, "allowed: "),
    ],
)
def test_hints_for_values(key: str, value: object, hint: str) -> None:
    assert value_hint(key, value, sorted(allowed_at(key))).startswith(hint)


def test_closest() -> None:
    assert closest("lerning_rate", ["learning_rate", "seed"]) == "learning_rate"
    assert closest("learningRate", ["learning_rate"]) == "learning_rate"
    assert closest("st\u200beps", ["steps"]) == "steps"
    assert closest("zebra", ["learning_rate", "seed"]) is None
    assert closest("", ["seed"]) is None
    assert closest("k" * 100_000, ["seed"]) is None


def test_every_key_leads_to_a_field() -> None:
    assert all(field_at(path_of(key)) is not None for key in all_keys())
    assert field_at(()) is None
    assert field_at(("training", "zebra")) is None
    assert len(all_sections()) == len(set(all_sections())) > 10


def test_a_flag_beside_the_right_key_is_to_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("model: m\nadapter: lora\ndataset: rows.jsonl\n", "utf-8")
    flags = ["training.lerning_rate=3", "training.learning_rat=3"]
    for flag_there, hint in (
        ([], "did you mean `training.learning_rate`?"),
        (["training.learning_rate=1"], "`training.learning_rate` is there already: leave this out"),
    ):
        with pytest.raises(RecipeError) as caught:
            load_recipe(path, [*flags, *flag_there])
        assert [problem.hint.startswith(hint) for problem in caught.value.problems] == [True, True]
