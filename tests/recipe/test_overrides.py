"""`--set`: values through the same validation, errors that name the flag."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lora_cli.errors import Problem, RecipeError
from lora_cli.recipe.load import LoadedRecipe, load_recipe

BASE = "model: base-model\nadapter: lora\ndataset: rows.jsonl\n"
LISTED = "model: base-model\nadapter: lora\ndataset:\n  - a.jsonl\n  - path: b.jsonl\n"


def load(folder: Path, content: str, *overrides: str) -> LoadedRecipe:
    path = folder / "recipe.yaml"
    path.write_text(content, "utf-8")
    return load_recipe(path, overrides)


def problems(folder: Path, content: str, *overrides: str) -> list[Problem]:
    with pytest.raises(RecipeError) as caught:
        load(folder, content, *overrides)
    return list(caught.value.problems)


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("seed=7", "seed", 7),
        ("training.learning_rate=1e-4", "training.learning_rate", 1e-4),
        ("training.optimizer.beta1=0.5", "training.optimizer.beta1", 0.5),
        ("training.optimizer=adamw", "training.optimizer.name", "adamw"),
        ("model.dtype=float32", "model.dtype", "float32"),
        ("model.dtype=float32", "model.name", "base-model"),
        ("model=other-model", "model.name", "other-model"),
        ("adapter.rank=32", "adapter.rank", 32),
        ("adapter.rank=32", "adapter.variant", "lora"),
        ("adapter={variant: rslora, rank: 4}", "adapter.variant", "rslora"),
        ("adapter.target_modules=[q_proj, v_proj]", "adapter.target_modules", ("q_proj", "v_proj")),
        ("evaluation.split=0.1", "evaluation.split", 0.1),
        ("evaluation=0.1", "evaluation.split", 0.1),
        ("output.dir=runs/a=b", "output.dir", "runs/a=b"),
        ("output.dir= runs/one", "output.dir", "runs/one"),
        ("output.dir='007'", "output.dir", "007"),
        (" seed =7", "seed", 7),
        ("model.revision='1.10'", "model.revision", "1.10"),
    ],
)
def test_a_value_is_set(override: str, key: str, value: object, tmp_path: Path) -> None:
    read: object = load(tmp_path, BASE, override).recipe
    for part in key.split("."):
        read = getattr(read, part)
    assert read == value


WRITTEN_OUT = """model: {name: base-model, dtype: float32}
adapter: {variant: lora, rank: 32, alpha: 64}
dataset: {path: rows.jsonl, max_rows: 10}
training: {optimizer: {name: adamw, weight_decay: 0.1}}
evaluation: {split: 0.2, patience: 3}
"""


@pytest.mark.parametrize(
    ("override", "key", "given", "other", "value"),
    [
        ("adapter=rslora", "adapter.variant", "rslora", "adapter.rank", 32),
        ("model=other", "model.name", "other", "model.dtype", "float32"),
        ("dataset=b.jsonl", "dataset.0.path", ("b.jsonl",), "dataset.0.max_rows", 10),
        ("evaluation=0.3", "evaluation.split", 0.3, "evaluation.patience", 3),
        (
            "training.optimizer=adamw_8bit",
            "training.optimizer.name",
            "adamw_8bit",
            "training.optimizer.weight_decay",
            0.1,
        ),
    ],
)
def test_a_scalar_sets_the_main_field_of_a_section_and_leaves_the_rest(
    override: str, key: str, given: object, other: str, value: object, tmp_path: Path
) -> None:
    recipe = load(tmp_path, WRITTEN_OUT, override).recipe.model_dump()

    def at(path: str) -> object:
        node: Any = recipe
        for part in path.split("."):
            node = node[int(part) if part.isdigit() else part]
        return node

    assert at(key) == given
    assert at(other) == value


def test_every_value_of_a_mapping_is_the_flags(tmp_path: Path) -> None:
    flag = "adapter={variant: rslora, rank_pattern: {q_proj: 8}}"
    source = load(tmp_path, WRITTEN_OUT, flag).source
    for key in ("variant", "rank_pattern"):
        assert source.of_value(("adapter", key)).file == f"--set {flag}"
    assert not source.wrote(("adapter", "rank"))


def test_dataset_values_over_a_shorthand(tmp_path: Path) -> None:
    (dataset,) = load(tmp_path, BASE, "dataset.max_rows=5").recipe.dataset
    assert (dataset.path, dataset.max_rows) == (("rows.jsonl",), 5)


def test_an_item_of_a_list(tmp_path: Path) -> None:
    loaded = load(tmp_path, LISTED, "dataset[0].max_rows=5", "dataset[1].path=c.jsonl")
    assert [(each.path, each.max_rows) for each in loaded.recipe.dataset] == [
        (("a.jsonl",), 5),
        (("c.jsonl",), None),
    ]


@pytest.mark.parametrize(
    "dataset", ["rows.jsonl", "{path: rows.jsonl, max_rows: 0}", "[rows.jsonl]"]
)
def test_the_first_of_one_is_there_in_any_form(dataset: str, tmp_path: Path) -> None:
    content = BASE.replace("rows.jsonl", dataset)
    loaded = load(tmp_path, content, "dataset[0].max_rows=5", "dataset[0].format=messages")
    (read,) = loaded.recipe.dataset
    assert (read.path, read.max_rows, read.format) == (("rows.jsonl",), 5, "messages")


def test_one_data_set_from_flags_alone(tmp_path: Path) -> None:
    content = "model: base-model\nadapter: lora\n"
    (read,) = load(tmp_path, content, "dataset[0]=a.jsonl", "dataset[0].max_rows=5").recipe.dataset
    assert (read.path, read.max_rows) == (("a.jsonl",), 5)


def test_a_whole_item_of_a_list(tmp_path: Path) -> None:
    loaded = load(tmp_path, LISTED, "dataset[1]=c.jsonl")
    assert [each.path for each in loaded.recipe.dataset] == [("a.jsonl",), ("c.jsonl",)]


def test_the_last_of_two_flags_counts(tmp_path: Path) -> None:
    assert load(tmp_path, BASE, "seed=1", "seed=2").recipe.seed == 2


def test_a_required_section_can_come_from_a_flag(tmp_path: Path) -> None:
    content = "model: base-model\ndataset: rows.jsonl\n"
    assert load(tmp_path, content, "adapter=rslora").recipe.adapter.variant == "rslora"


def test_the_flag_is_the_place_of_its_value(tmp_path: Path) -> None:
    source = load(tmp_path, BASE, "training.steps=5").source
    assert str(source.of_value(("training", "steps"))) == "--set training.steps=5 training.steps"
    assert source.wrote(("training", "steps"))


def test_the_flags_are_kept(tmp_path: Path) -> None:
    loaded = load(tmp_path, BASE, "seed=1")
    assert loaded.overrides == ("seed=1",)
    assert loaded.text == BASE


@pytest.mark.parametrize(
    ("override", "message", "hint"),
    [
        ("seed", "is not `key=value`", "--set training.learning_rate=1e-4"),
        ("=5", "is not `key=value`", "--set section.key=value"),
        ("training..steps=5", "is not `key=value`", "section.key=value"),
        ("dataset[x]=5", "is not `key=value`", "section.key=value"),
        ("dataset[-1]=5", "is not `key=value`", "section.key=value"),
        (".".join("a" * 40) + "=5", "is not `key=value`", "section.key=value"),
        ("seed=", "`seed` has no value", "leave the flag out"),
        ("seed=   ", "`seed` has no value", "leave the flag out"),
        ("seed=~", "`seed` has no value", "leave the flag out"),
        ("output.dir=#1", "`output.dir` has no value", "leave the flag out"),
        ("seed=0x10", "YAML readers disagree on the number `0x10`", "plain decimal digits"),
        ("seed=" + "1" * 5000, "too large a number: `1111", "write a smaller one"),
        ("model.trust_remote_code=yes", "must be true or false, not `yes`", "write true"),
        ("quantization=no", "`quantization` cannot be `no`", "did you mean `none`?"),
        ("evaluation=false", "a number for its `split`, not false", "leave the line out"),
        ("training={learning_rate: 2,5e-4}", "the key `5e-4` is not a word", "write 2.5 for 2,5"),
        (
            "training.steps=\u00a05",
            "a space that YAML takes for a letter",
            "no-break space (U+00A0)",
        ),
        ("output=“runs/one”", "curly quotes are no quotes in YAML", "plain quotes"),
        ("model=!!str x", "tags are not supported", "remove the tag"),
        ("output.dir=[a", "this `[` is not closed", "close it with `]`"),
        ("dataset.system_prompt=Answer: now: this", "a second `: ` in one line", "in quotes"),
        ("seed=\x1b", "holds the character U+001B", "remove it"),
        ("output.dir=\udcff", "holds the character U+DCFF", "remove it"),
        ("seed=1.5", "`seed` must be a whole number, not the number 1.5", "without point"),
        ("seed=1\n---\n2", "a second document begins here", "one recipe a file"),
        ("training.steps=0", "`training.steps` must be at least 1, not 0", "leave it out"),
        ("model.revision=1.10", "must be text, not the number 1.10", 'in quotes: "1.10"'),
        ("model.dtype=bf16", '`model.dtype` cannot be the text "bf16"', "did you mean `bfloat16`?"),
        ("training.stepps=5", "unknown key `training.stepps`", "did you mean `training.steps`?"),
        ("trainng.steps=5", "unknown key `trainng`", "did you mean `training`?"),
        ("lora_r=5", "unknown key `lora_r`", "did you mean `adapter.rank`?"),
        ("zebra.stripes=5", "unknown key `zebra`", "a recipe has: model"),
        ("seed.value=5", "`seed` is one value: it has no `value`", "set `seed` itself"),
        ("model.name.value=5", "`model.name` is one value", "set `model.name` itself"),
        ("adapter.rank.x.y=5", "`adapter.rank` is one value", "set `adapter.rank` itself"),
        ("dataset[0].max_rows=0", "`dataset.max_rows` must be at least 1, not 0", "leave it out"),
        ("dataset[0][0]=5", "`dataset` is not a list in the recipe", "leave out the [0]"),
        ("dataset[1].max_rows=5", "`dataset` is not a list in the recipe", "leave out the [1]"),
        ("training[0]=5", "`training` is not a list in the recipe", "leave out the [0]"),
        ("quantization.compute_dtype=auto", "`quantization.method` is missing", "allowed: none"),
        ("evaluation.patience=5", "`evaluation` does not say on which rows", "split: 0.1"),
        ("evaluation.answers.max_new_tokens=5", "`evaluation.answers.metric` is missing", "add"),
    ],
)
def test_what_is_wrong_with_a_flag(override: str, message: str, hint: str, tmp_path: Path) -> None:
    found = problems(tmp_path, BASE, override)
    (problem,) = [each for each in found if message in each.message]
    assert hint in problem.hint
    assert problem.where.file.startswith("--set ")
    assert problem.where.file.isprintable()
    assert problem.where.line == 0


def test_regex_over_a_preset_says_how(tmp_path: Path) -> None:
    content = BASE.replace("lora", "{variant: lora, target_modules: attention}")
    (problem,) = problems(tmp_path, content, "adapter.target_modules.regex=q_proj")
    assert problem.message == "`adapter.target_modules` is one value: it has no `regex`"
    assert problem.hint == "`adapter.target_modules={regex: …}` would replace it"
    replaced = load(tmp_path, content, "adapter.target_modules={regex: q_proj}")
    assert "q_proj" in str(replaced.recipe.adapter.target_modules)


@pytest.mark.parametrize(
    ("override", "message", "hint"),
    [
        ("dataset[2].max_rows=5", "`dataset[2]` is not there", "the list has 2 items"),
        ("dataset[2]=c.jsonl", "`dataset[2]` is not there", "the list has 2 items"),
        ("dataset.max_rows=5", "`dataset` is a list in the recipe", "`dataset[0].max_rows=…`"),
        ("dataset[0][0]=5", "`dataset[0]` is not a list in the recipe", "leave out the [0]"),
    ],
)
def test_what_is_wrong_with_a_flag_for_a_list(
    override: str, message: str, hint: str, tmp_path: Path
) -> None:
    (problem,) = problems(tmp_path, LISTED, override)
    assert (problem.where.file, problem.message) == (f"--set {override}", message)
    assert hint in problem.hint


@pytest.mark.parametrize(
    ("content", "override"),
    [
        (BASE + "seed: yes\n", "seed=1"),
        (BASE + "seed: -1\n", "seed=1"),
        (BASE + "seed:\n", "seed=1"),
        (BASE + "seed: 1\nseed: 2\n", "seed=3"),
        (BASE + "training:\n  steps: 0x5\n", "training.steps=5"),
        (BASE + "training:\n  steps: 0x5\n  sneps: 3\n", "training={steps: 5}"),
        (BASE + "evaluation:\n  patience: 2\n", "evaluation.split=0.1"),
        (LISTED.replace("b.jsonl", "!!str b.jsonl"), "dataset[1].path=b.jsonl"),
        (LISTED.replace("a.jsonl", ""), "dataset[0]=a.jsonl"),
        (LISTED.replace("a.jsonl", "7"), "dataset=[a.jsonl]"),
        ("model: base-model\ndataset: rows.jsonl\n", "adapter=lora"),
        (BASE.replace("lora", "lroa"), "adapter=lora"),
        (BASE.replace("lora", "{variant: lroa, rank: 3}"), "adapter.variant=lora"),
    ],
)
def test_a_flag_mends_what_is_bad_in_the_file(content: str, override: str, tmp_path: Path) -> None:
    assert problems(tmp_path, content)
    load(tmp_path, content, override)


def test_flags_and_file_are_shown_at_once(tmp_path: Path) -> None:
    content = BASE + "seed: yes\nsede: 3\ntraining:\n  steps: 0\n"
    flags = ("output", "training.batch_size=0", "model.dtyp=auto", "quantization=nf5")
    found = [str(each.where) for each in problems(tmp_path, content, *flags)]
    path = tmp_path / "recipe.yaml"
    assert found == [
        "--set output",
        "--set model.dtyp=auto model.dtyp",
        "--set quantization=nf5 quantization",
        "--set training.batch_size=0 training.batch_size",
        f"{path}:4:7 seed",
        f"{path}:5:1 sede",
        f"{path}:7:10 training.steps",
    ]


def test_a_flag_is_checked_though_the_file_is_not_yaml(tmp_path: Path) -> None:
    found = problems(tmp_path, "model: [\n", "seed", "seed=0x1", "seed=2")
    assert [each.where.position for each in found] == [
        "--set seed",
        "--set seed=0x1",
        f"{tmp_path / 'recipe.yaml'}:1:8",
    ]


def test_a_flag_is_checked_though_the_file_is_empty(tmp_path: Path) -> None:
    found = problems(tmp_path, "", "seed")
    assert [each.message for each in found] == ["is not `key=value`", "the recipe is empty"]


def test_nothing_is_set_in_what_could_not_be_read(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, BASE + "training: 0x1\n", "training.steps=5")
    assert "disagree on the number `0x1`" in problem.message


def test_a_long_flag_is_named_shortly(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, BASE, "seed=" + "x" * 5000)
    assert len(str(problem)) < 300


def test_many_flags_and_long_keys_take_no_time(tmp_path: Path) -> None:
    flags = [f"training.steps={count}" for count in range(1, 300)]
    assert load(tmp_path, BASE, *flags).recipe.training.steps == 299
    assert problems(tmp_path, BASE, "a." * 30_000 + "b=1")
    assert problems(tmp_path, BASE, "a[1]" * 30_000 + "=1")
