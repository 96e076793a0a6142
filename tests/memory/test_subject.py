"""What is estimated: recipes with their rows, settings alone, and changes of both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lora_cli.errors import LoraCliError, PlanError, RecipeError
from lora_cli.memory.batch_shape import BatchShape
from lora_cli.memory.estimate import estimate
from lora_cli.memory.subject import Subject, subject_of_recipe, subject_of_settings
from lora_cli.plan.make import make_plan
from lora_cli.recipe.load import load_recipe
from tests.helpers.model_folders import CONFIGS, config_folder

MakeSubject = Callable[..., Subject]


def test_a_recipe_with_rows_is_planned_as_it_runs(recipe_file: Callable[..., Path]) -> None:
    loaded = load_recipe(recipe_file())
    found = subject_of_recipe(loaded)
    assert found.plan == make_plan(loaded)
    assert not found.full_length


def test_the_largest_batch_is_of_the_longest_row(subject: MakeSubject) -> None:
    found = subject()
    longest = found.plan.data.train.longest
    assert longest < found.plan.data.max_length
    assert found.batch == BatchShape(rows=4, tokens=longest, padded=True)
    assert subject("training.batch_size=1").batch == BatchShape(rows=1, tokens=longest)


def test_a_batch_of_packs_is_one_row_of_the_fullest(subject: MakeSubject) -> None:
    found = subject("training.batching=packed", "training.max_length=128", "training.batch_size=2")
    two = sorted(found.facts.units.tokens.tolist())[-2:]
    assert found.batch == BatchShape(rows=1, tokens=sum(two))


def test_settings_alone_have_rows_of_the_full_length(bare: MakeSubject) -> None:
    found = bare("training.batch_size=3", "training.max_length=640", "adapter.rank=8")
    assert found.full_length
    assert found.batch.rows == 3
    assert found.batch.tokens == 640
    assert found.plan.adapter.spec.summary().startswith("lora, rank 8")
    packed = bare("training.batching=packed", "training.batch_size=3", "training.max_length=640")
    assert packed.batch == BatchShape(rows=1, tokens=3 * 640)


def test_settings_alone_need_no_weights_and_no_tokenizer(llama: Path, bare: MakeSubject) -> None:
    assert [entry.name for entry in llama.iterdir()] == ["config.json"]
    assert bare().plan.model.parameters > 10**8


def test_a_changed_recipe_is_planned_by_the_same_rules(subject: MakeSubject) -> None:
    found = subject()
    changed = found.with_settings(["quantization=nf4", "adapter.target_modules=[q_proj]"])
    assert changed.plan.quantization.method == "nf4"
    assert {name.rpartition(".")[2] for name in changed.plan.adapter.modules} == {"q_proj"}
    assert changed.facts.dataset == found.facts.dataset
    with pytest.raises(RecipeError, match=r"adapter\.rank"):
        found.with_settings(["adapter.rank=0"])
    with pytest.raises(PlanError, match="matches no"):
        found.with_settings(["adapter.target_modules=[q_pro]"])


def test_shorter_rows_are_cut_and_longer_ones_are_as_they_are(subject: MakeSubject) -> None:
    found = subject()
    longest = found.plan.data.train.longest
    assert found.with_settings(["training.max_length=16"]).batch.tokens == 16
    assert found.with_settings(["training.max_length=250"]).batch.tokens == longest
    full = found.with_full_rows().with_settings(["training.max_length=250"])
    assert full.batch.tokens == 250


def test_a_device_decides_what_the_recipe_leaves_open(bare: MakeSubject) -> None:
    dtypes = {
        device: bare(device=device).plan.model.dtype for device in ("L4", "T4", "M-series 16GB")
    }
    assert dtypes == {"L4": "bfloat16", "T4": "float16", "M-series 16GB": "float32"}


def test_a_recipe_whose_rows_are_elsewhere_is_taken_at_its_full_length(
    recipe_file: Callable[..., Path],
) -> None:
    path = recipe_file(dataset="s3://somewhere/rows.jsonl", training={"max_length": 200})
    found = subject_of_recipe(load_recipe(path))
    assert found.full_length
    assert found.batch.tokens == 200


def test_rows_that_should_be_here_are_missed(recipe_file: Callable[..., Path]) -> None:
    with pytest.raises(PlanError, match="there is no file"):
        subject_of_recipe(load_recipe(recipe_file(dataset="row.jsonl")))


def test_a_problem_stands_at_the_option_that_made_it(llama: Path) -> None:
    def problem(*settings: str) -> str:
        options = {
            each: f"--{each.partition('=')[0].rpartition('.')[2]} typed" for each in settings
        }
        with pytest.raises(LoraCliError) as error:
            # what the plan refuses stands there too
            _ = subject_of_settings([*settings, "adapter.alpha=3"], options).plan
        return str(error.value)

    assert problem(f"model={llama}", "adapter.variant=lora", "adapter.rank=0").startswith(
        "--rank typed adapter.rank: "
    )
    assert problem("model=./nowhere", "adapter.variant=lora").startswith(
        "--model typed model.name: there is no model"
    )
    assert problem(f"model={llama}", "adapter.variant=loar").startswith("--variant typed ")
    found = problem(f"model={llama}", "adapter.variant=pissa", "adapter.rank=2000")
    assert found.startswith("--rank typed adapter.rank: pissa starts ")


def test_what_peft_would_not_adapt_is_left_out_where_nobody_says_what_to_take(
    tmp_path: Path,
) -> None:
    config_class, values = CONFIGS["qwen3_moe"]
    folder = config_folder(tmp_path, config_class, **values)
    names = ["gate_proj", "up_proj", "down_proj"]
    found = subject_of_settings([f"model={folder}", "adapter=lora"], {})
    assert not {name.rpartition(".")[2] for name in found.plan.adapter.modules} & set(names)
    (said,) = found.left_out
    assert said.startswith(f"taken with `--set adapter.exclude_modules=[{', '.join(names)}]`: peft")
    assert estimate(found, simulated=False).notes == (said,)
    changed = found.with_settings(["adapter.rank=2"])
    assert changed.plan.adapter.modules == found.plan.adapter.modules
    preset = ("adapter=lora", "adapter.target_modules=all-linear")
    named = subject_of_settings([f"model={folder}", *preset], {})
    assert named.left_out == ()
    with pytest.raises(PlanError, match="for a part of the experts"):
        _ = named.plan


def test_labels_in_rows_that_are_not_here_are_asked_for(recipe_file: Callable[..., Path]) -> None:
    path = recipe_file(
        task={"name": "sequence_classification"}, dataset="s3://somewhere/rows.jsonl"
    )
    with pytest.raises(PlanError, match=r"name them in `task\.labels`"):
        subject_of_recipe(load_recipe(path))
