"""Every field a recipe can have is read: changing it changes the digest, and the plan says why."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from lora_cli.plan.make import make_plan
from lora_cli.plan.run_plan import RunPlan
from lora_cli.recipe.fields import all_keys
from lora_cli.recipe.load import load_recipe
from tests.helpers.tiny_models import chat_row, make_tiny_model, write_rows

EXPERTS = ["model.name=mixtral"]
NF4 = ["quantization.method=nf4"]
ADALORA = ["adapter.variant=adalora"]
NORA = ["adapter.variant=nora"]
PISSA = ["adapter.variant=pissa"]
LOFTQ = ["adapter.variant=loftq", "quantization.method=nf4"]
EVA = ["adapter.variant=eva"]
CORDA = ["adapter.variant=corda"]
LORA_GA = ["adapter.variant=lora_ga"]
VERA = ["adapter.variant=vera"]
LOKR = ["adapter.variant=lokr"]
IA3 = ["adapter={variant: ia3}"]
OFT = ["adapter={variant: oft}"]
BOFT = ["adapter={variant: boft}"]
FOURIERFT = ["adapter={variant: fourierft, frequencies: 100}"]
PROMPT = ["adapter={variant: prompt_tuning}"]
PREFIX = ["adapter={variant: prefix_tuning}"]
P_TUNING = ["adapter={variant: p_tuning}"]
BY_SPLIT = ["dataset.path=folder", "evaluation={split_name: other}"]
BY_FILE = ["evaluation={path: apart.jsonl}"]
PAIRS = ["dataset.format=prompt_completion"]
TEMPLATE = ["dataset.format=template"]
PAIR_TEMPLATE = [
    *TEMPLATE,
    'dataset.template={prompt: "{{ prompt }}", completion: "{{ completion }}"}',
]
TALK_TEMPLATE = [*TEMPLATE, 'dataset.template={user: "{{ prompt }}", assistant: "{{ prompt }}"}']
ANSWERS = ["evaluation.answers.metric=exact_match"]
LABEL_WORDS = ["evaluation.answers={metric: label_words, labels: [sum, other]}"]
TEXTS = [
    "task={name: sequence_classification}",
    "dataset={path: texts.jsonl, format: labelled_text}",
]

SEVERAL = ["dataset=[{path: rows.jsonl, format: messages}, {path: apart.jsonl, format: messages}]"]

CHANGES: dict[str, tuple[list[str], str]] = {
    # key: (flags on both sides, the value it is changed to)
    "model.dtype": ([], "bfloat16"),
    "model.attention": ([], "sdpa"),
    "model.chat_template": ([], "chatml"),
    "model.trust_remote_code": ([], "true"),
    "model.allow_pickle": ([], "true"),
    "task.labels": (TEXTS, "[good, bad]"),
    "task.problem": (TEXTS, "multi_label"),
    "adapter.variant": ([], "rslora"),
    "adapter.rank": ([], "5"),
    "adapter.alpha": ([], "9.5"),
    "adapter.dropout": ([], "0.1"),
    "adapter.dtype": (["model.dtype=bfloat16"], "bfloat16"),
    "adapter.target_modules": ([], "attention"),
    "adapter.target_modules.regex": ([], ".*q_proj"),
    "adapter.exclude_modules": ([], "[q_proj]"),
    "adapter.exclude_modules.regex": ([], ".*q_proj"),
    "adapter.layers": ([], "[0]"),
    "adapter.modules_to_save": ([], "[norm]"),
    "adapter.rank_pattern": ([], "{q_proj: 2}"),
    "adapter.alpha_pattern": ([], "{q_proj: 2.5}"),
    "adapter.target_parameters": (EXPERTS, "experts"),
    "adapter.trainable_tokens": ([], "[<|im_start|>]"),
    "adapter.initial_rank": (ADALORA, "9"),
    "adapter.allocation_start": (ADALORA, "1"),
    "adapter.allocation_end": (ADALORA, "3"),
    "adapter.allocation_interval": (ADALORA, "2"),
    "adapter.beta1": (ADALORA, "0.8"),
    "adapter.beta2": (ADALORA, "0.8"),
    "adapter.orthogonality_weight": (ADALORA, "0.1"),
    "adapter.outer_rank": (NORA, "9"),
    "adapter.svd": (NORA, "fast"),
    "adapter.svd_iterations": (PISSA, "5"),
    "adapter.iterations": (LOFTQ, "2"),
    "adapter.calibration_rows": (EVA, "9"),
    "adapter.mode": (CORDA, "knowledge_preserved"),
    "adapter.gamma": (LORA_GA, "9.5"),
    "adapter.d_initial": (VERA, "0.2"),
    "adapter.factor": (LOKR, "4"),
    "adapter.decompose_both": (LOKR, "true"),
    "adapter.feedforward_modules": (IA3, "[up_proj]"),
    "adapter.block_size": (OFT, "8"),
    "adapter.share_blocks": (OFT, "true"),
    "adapter.cayley": (OFT, "exact"),
    "adapter.butterfly_factors": (BOFT, "1"),
    "adapter.frequencies": (FOURIERFT, "99"),
    "adapter.scaling": (FOURIERFT, "150"),
    "adapter.virtual_tokens": (PROMPT, "5"),
    "adapter.text": (PROMPT, "Add up."),
    "adapter.projection_size": (PREFIX, "7"),
    "adapter.encoder": (P_TUNING, "lstm"),
    "adapter.encoder_size": (P_TUNING, "7"),
    "quantization.method": ([], "int8"),
    "quantization.double_quantization": (NF4, "false"),
    "quantization.compute_dtype": (NF4, "bfloat16"),
    "quantization.full_precision_modules": (NF4, "[o_proj]"),
    "dataset.split": (["dataset.path=folder"], "other"),
    "dataset.format": ([], "prompt_completion"),
    "dataset.columns": (PAIRS, "{prompt: completion, completion: prompt}"),
    "dataset.template.text": (
        [*TEMPLATE, 'dataset.template.text="{{ prompt }}"'],
        '"{{ prompt }}."',
    ),
    "dataset.template.prompt": (PAIR_TEMPLATE, '"Q: {{ prompt }}"'),
    "dataset.template.completion": (PAIR_TEMPLATE, '"{{ completion }}."'),
    "dataset.template.system": (TALK_TEMPLATE, "Be brief."),
    "dataset.template.user": (TALK_TEMPLATE, '"Q: {{ prompt }}"'),
    "dataset.template.assistant": (TALK_TEMPLATE, '"{{ completion }}."'),
    "dataset.max_rows": ([], "20"),
    "dataset.system_prompt": ([], "Be brief."),
    "dataset.on_bad_row": ([], "skip"),
    "training.epochs": ([], "2.5"),
    "training.steps": ([], "17"),
    "training.batch_size": ([], "3"),
    "training.gradient_accumulation_steps": ([], "2"),
    "training.learning_rate": ([], "1e-4"),
    "training.scheduler": ([], "linear"),
    "training.warmup_ratio": ([], "0.031"),
    "training.batching": ([], "length_grouped"),
    "training.sampling_temperature": (SEVERAL, "2"),
    "training.max_length": ([], "200"),
    "training.truncation": ([], "tokens"),
    "training.loss_on": ([], "last_turn"),
    "training.reasoning": ([], "drop"),
    "training.gradient_checkpointing": ([], "true"),
    "training.max_gradient_norm": ([], "0.5"),
    "training.optimizer.name": ([], "adamw_8bit"),
    "training.optimizer.lora_plus_ratio": ([], "16"),
    "training.optimizer.weight_decay": ([], "0.01"),
    "training.optimizer.beta1": ([], "0.8"),
    "training.optimizer.beta2": ([], "0.99"),
    "training.optimizer.epsilon": ([], "1e-7"),
    "training.save_steps": ([], "100"),
    "training.keep_checkpoints": ([], "3"),
    "evaluation.split": ([], "0.3"),
    "evaluation.path": (BY_FILE, "third.jsonl"),
    "evaluation.split_name": (BY_SPLIT, "third"),
    "evaluation.every_steps": ([], "5"),
    "evaluation.batch_size": ([], "7"),
    "evaluation.patience": ([], "2"),
    "evaluation.answers.metric": (ANSWERS, "json_fields"),
    "evaluation.answers.labels": (LABEL_WORDS, "[sum, third]"),
    "evaluation.answers.max_new_tokens": (ANSWERS, "9"),
    "evaluation.answers.batch_size": (ANSWERS, "3"),
    "seed": ([], "1"),
}
ELSEWHERE = {
    "task.name": "another task takes other rows: see test_task_part",
    "model.name": "a place: content decides, see the tests below",
    "model.revision": "for hub models: see the tests below",
    "dataset.path": "a place: content decides, see the tests below",
    "dataset.subset": "for data sets of the hub: tests/facts/test_hub_data.py",
    "dataset.weight": "of several sources: see test_batches",
    "output.dir": "a place: no digest covers it",
}


def leaves() -> set[str]:
    keys = set(all_keys())
    sections = {key for key in keys if any(other.startswith(f"{key}.") for other in keys)}
    # a list or a preset stands there as well as a mapping
    return (keys - sections) | {"adapter.target_modules", "adapter.exclude_modules"}


def write_files(folder: Path) -> None:
    rows = [
        {
            **chat_row(f"{n}?", json.dumps({"sum": n})),
            "prompt": f"{n}",
            "completion": f'{{"n":{n}}}',
        }
        for n in range(24)
    ]
    write_rows(folder / "rows.jsonl", rows)
    write_rows(folder / "apart.jsonl", rows[:5])
    texts = [{"text": f"{n} days", "label": ("good", "bad")[n % 2]} for n in range(24)]
    write_rows(folder / "texts.jsonl", texts)
    write_rows(folder / "third.jsonl", rows[:6])
    (folder / "folder").mkdir()
    write_rows(folder / "folder/train.jsonl", rows)
    write_rows(folder / "folder/other.jsonl", rows[3:])
    write_rows(folder / "folder/third.jsonl", rows[:6])


@pytest.fixture
def recipe(tmp_path: Path, tiny_model: Callable[[str], Path]) -> Path:
    write_files(tmp_path)
    text = yaml.safe_dump(
        {
            "model": {"name": str(tiny_model("llama")), "dtype": "float32", "attention": "eager"},
            "adapter": {"variant": "lora", "rank": 4},
            "dataset": {"path": "rows.jsonl", "format": "messages"},
            "training": {},
            "evaluation": {"split": 0.25},
            "output": {"dir": str(tmp_path / "run")},
        }
    )
    (tmp_path / "mixtral").symlink_to(tiny_model("mixtral"))
    path = tmp_path / "recipe.yaml"
    path.write_text(text.replace("training: {}\n", ""), "utf-8")
    return path


def plan_of(recipe: Path, *flags: str) -> RunPlan:
    return make_plan(load_recipe(recipe, flags))


def decisions_of(plan: RunPlan) -> dict[str, tuple[str, str]]:
    """Return (value, reason) by key, as if there were no list of data sets."""
    return {d.field.replace("[0]", ""): (d.value, d.reason) for d in plan.decisions}


def test_every_field_of_the_schema_is_tried() -> None:
    assert set(CHANGES) | set(ELSEWHERE) == leaves()
    assert not set(CHANGES) & set(ELSEWHERE)


@pytest.mark.parametrize("key", CHANGES)
def test_a_changed_field_changes_the_digest_and_has_a_reason(recipe: Path, key: str) -> None:
    given, value = CHANGES[key]
    before = plan_of(recipe, *given)
    after = plan_of(recipe, *given, f"{key}={value}")
    assert after.digest != before.digest
    field = key.removesuffix(".regex")
    assert field in decisions_of(before), "said also where it is left out"
    shown, reason = decisions_of(after)[field]
    assert reason == "--set"
    assert shown != decisions_of(before)[field][0]


@pytest.mark.parametrize("key", sorted(ELSEWHERE))
def test_the_other_fields_have_a_reason_too(recipe: Path, key: str) -> None:
    assert key in decisions_of(plan_of(recipe))


def test_planning_twice_gives_one_digest(recipe: Path) -> None:
    one, other = plan_of(recipe), plan_of(recipe)
    assert one == other
    assert one.digest == other.digest


def test_places_are_not_content(recipe: Path, tmp_path: Path) -> None:
    before = plan_of(recipe)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    shutil.copytree(Path(before.model.folder), moved / "base")
    shutil.copy(tmp_path / "rows.jsonl", moved / "renamed.jsonl")
    shutil.copy(recipe, moved / "other.yaml")
    flags = ["model.name=base", "dataset.path=renamed.jsonl", f"output.dir={moved}/run"]
    after = plan_of(moved / "other.yaml", *flags)
    assert after.digest == before.digest
    assert (after.run_dir, after.model.folder) == (f"{moved}/run", f"{moved}/base")
    assert after.data.sources[0].files[0].file == f"{moved}/renamed.jsonl"


def test_the_same_evaluation_rows_in_another_file_are_the_same(
    recipe: Path, tmp_path: Path
) -> None:
    shutil.copy(tmp_path / "apart.jsonl", tmp_path / "copy.jsonl")
    before = plan_of(recipe, *BY_FILE)
    assert plan_of(recipe, *BY_FILE, "evaluation.path=copy.jsonl").digest == before.digest


@pytest.mark.parametrize("file", ["rows.jsonl", "apart.jsonl"])
def test_other_rows_in_the_same_file_are_another_run(
    recipe: Path, tmp_path: Path, file: str
) -> None:
    before = plan_of(recipe, *BY_FILE)
    text = (tmp_path / file).read_text()
    (tmp_path / file).write_text(text.replace("3?", "4?", 1))
    assert plan_of(recipe, *BY_FILE).digest != before.digest


def test_other_weights_of_the_same_shapes_are_another_run(recipe: Path, tmp_path: Path) -> None:
    before = plan_of(recipe)
    make_tiny_model(tmp_path / "base", seed=1)
    assert plan_of(recipe, "model.name=base").digest != before.digest


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("config.json", '"rms_norm_eps": 1e-06', '"rms_norm_eps": 1e-05'),
        ("chat_template.jinja", "<|im_end|>'", "<|im_end|> '"),
        ("tokenizer_config.json", '"pad_token": "<|im_end|>"', '"pad_token": "<|endoftext|>"'),
    ],
)
def test_another_config_template_or_tokenizer_is_another_run(
    recipe: Path, tmp_path: Path, file: str, old: str, new: str
) -> None:
    before = plan_of(recipe)
    shutil.copytree(Path(before.model.folder), tmp_path / "base")
    text = (tmp_path / "base" / file).read_text()
    assert old in text
    (tmp_path / "base" / file).write_text(text.replace(old, new))
    assert plan_of(recipe, "model.name=base").digest != before.digest


def test_a_revision_is_its_commit(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub/models--owner--name"
    base = Path(plan_of(recipe).model.folder)
    for branch, commit in {"main": "1" * 40, "dev": "2" * 40, "same": "1" * 40}.items():
        shutil.copytree(base, repository / "snapshots" / commit, dirs_exist_ok=True)
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / branch).write_text(commit)

    def plan(*flags: str) -> RunPlan:
        return plan_of(recipe, "model.name=owner/name", *flags)

    main = plan()
    assert decisions_of(main)["model.revision"] == (
        "1" * 40,
        "the commit of `main` in the local cache",
    )
    assert plan("model.revision=dev").digest != main.digest
    assert plan("model.revision=same").digest == main.digest


def test_what_the_plan_leaves_out_it_does_not_decide(recipe: Path) -> None:
    without: dict[str, Any] = yaml.safe_load(recipe.read_text())
    del without["evaluation"]
    recipe.write_text(yaml.safe_dump(without))
    plan = plan_of(recipe)
    assert plan.evaluation is None
    assert not any(field.startswith("evaluation") for field in decisions_of(plan))
