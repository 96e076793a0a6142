"""What a plan names is loaded, or the run ends before it begins."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from lora_cli.data.encoding.tokenize import Tokenizer
from lora_cli.engine.prepare import (
    build_trainables,
    planned_dataset,
    planned_tokenizer,
    planned_weights,
)
from lora_cli.engine.runtime import Runtime
from lora_cli.errors import RunError
from lora_cli.events import Event, Notice
from lora_cli.facts.tokenizer import padding_id
from lora_cli.plan.run_plan import RunPlan
from lora_cli.step.update import Trainables
from tests.helpers.runs import plan_of, write_recipe
from tests.helpers.tiny_models import (
    chat_row,
    make_tiny_model,
    make_tokenizer,
    sum_rows,
    write_rows,
)

TinyModel = Callable[[str], Path]


def build(plan: RunPlan, heard: list[Event] | None = None) -> Trainables:
    runtime = Runtime(device="cpu", processes=1)
    report = heard.append if heard is not None else (lambda _event: None)
    return build_trainables(plan, planned_weights(plan), runtime, report)


def test_the_rows_are_the_planned_ones(tmp_path: Path, tiny_model: TinyModel) -> None:
    recipe = write_recipe(tmp_path, tiny_model("llama"), evaluation={"path": "apart.jsonl"})
    write_rows(tmp_path / "apart.jsonl", sum_rows(5))
    plan = plan_of(recipe)
    dataset = planned_dataset(plan, planned_tokenizer(plan))
    assert (len(dataset.train), len(dataset.evaluation)) == (24, 5)
    assert plan.evaluation is not None
    assert dataset.facts.train.total == plan.data.train.total
    assert dataset.facts.evaluation is not None
    assert dataset.facts.evaluation.supervised == plan.evaluation.tokens.supervised


def test_expected_answers_are_there_though_the_file_changes_meanwhile(
    tmp_path: Path, tiny_model: TinyModel
) -> None:
    evaluation = {"path": "apart.jsonl", "answers": "exact_match"}
    recipe = write_recipe(tmp_path, tiny_model("llama"), evaluation=evaluation)
    write_rows(tmp_path / "apart.jsonl", [chat_row("Hello?", "Hello.")])
    plan = plan_of(recipe)
    dataset = planned_dataset(plan, planned_tokenizer(plan))
    (tmp_path / "apart.jsonl").unlink()
    assert [example.answer for example in dataset.evaluation.examples()] == ["Hello."]


def test_a_run_tokenizes_nothing_that_its_plan_has_tokenized(
    tmp_path: Path, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORACLI_CACHE", str(tmp_path / "cache"))
    encoded: list[Any] = []

    def counting(self: Tokenizer, example: Any, system_prompt: str | None = None) -> Any:
        encoded.append(example)
        return encode_all(self, example, system_prompt)

    encode_all = Tokenizer.encode_all
    monkeypatch.setattr(Tokenizer, "encode_all", counting)
    recipe = write_recipe(tmp_path, tiny_model("llama"), evaluation={"path": "apart.jsonl"})
    write_rows(tmp_path / "apart.jsonl", [chat_row("Hello?", "Hello."), *sum_rows(4)])
    plan = plan_of(recipe)
    assert len(encoded) == 24 + 5
    dataset = planned_dataset(plan, planned_tokenizer(plan))
    again = plan_of(recipe)
    assert len(encoded) == 24 + 5
    assert (len(dataset.train), len(dataset.evaluation)) == (24, 5)
    assert again.digest == plan.digest
    plan_of(recipe, "training.max_length=100")
    assert len(encoded) == 2 * (24 + 5), "other tokens"


@pytest.mark.parametrize("file", ["rows.jsonl", "apart.jsonl"])
@pytest.mark.parametrize("change", ["changed after the plan", "has gone since the plan"])
def test_a_file_that_is_not_the_planned_one_is_named(
    tmp_path: Path, tiny_model: TinyModel, file: str, change: str
) -> None:
    recipe = write_recipe(tmp_path, tiny_model("llama"), evaluation={"path": "apart.jsonl"})
    write_rows(tmp_path / "apart.jsonl", sum_rows(5))
    plan = plan_of(recipe)
    if "changed" in change:
        (tmp_path / file).write_text("not even JSON\n")
    else:
        (tmp_path / file).unlink()
    with pytest.raises(RunError, match=f"{file}: {change}.*plan again"):
        planned_dataset(plan, planned_tokenizer(plan))


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("chat_template.jinja", ("assistant", "helper")),
        ("tokenizer.json", ('"!": 0,\n      "\\"": 1', '"!": 1,\n      "\\"": 0')),
    ],
)
def test_a_changed_tokenizer_is_found_out(
    tmp_path: Path, tiny_model: TinyModel, file: str, change: tuple[str, str]
) -> None:
    base = shutil.copytree(tiny_model("llama"), tmp_path / "base")
    plan = plan_of(write_recipe(tmp_path, base))
    planned_tokenizer(plan)
    changed = base / file
    changed.write_text(changed.read_text("utf-8").replace(*change), "utf-8")
    with pytest.raises(RunError, match=r"base: the tokenizer or its chat template changed after"):
        planned_tokenizer(plan)


def test_padding_is_the_tokenizers_or_its_end_token() -> None:
    tokenizer = make_tokenizer()
    assert padding_id(tokenizer) == 257
    tokenizer.pad_token = "!"
    assert padding_id(tokenizer) == tokenizer.convert_tokens_to_ids("!") != 257
    tokenizer.pad_token = None
    assert padding_id(tokenizer) == 257


def test_only_the_adapter_is_trained(tmp_path: Path, tiny_model: TinyModel) -> None:
    plan = plan_of(write_recipe(tmp_path, tiny_model("llama")))
    trained = build(plan)
    names = [name for name, p in trained.model.named_parameters() if p.requires_grad]
    assert all(".lora_" in name for name in names)
    assert sum(p.numel() for p in trained.parameters()) == plan.adapter.trainable_parameters
    held = {id(p) for group in trained.optimizer.param_groups for p in group["params"]}
    assert held == {id(parameter) for parameter in trained.parameters()}


def test_the_optimizer_is_the_planned_one(tmp_path: Path, tiny_model: TinyModel) -> None:
    optimizer = {"name": "adamw", "weight_decay": 0.1, "beta1": 0.8, "beta2": 0.95, "epsilon": 1e-6}
    training = {"optimizer": optimizer, "warmup_ratio": 0.0}
    plan = plan_of(write_recipe(tmp_path, tiny_model("llama"), training=training))
    (group,) = build(plan).optimizer.param_groups
    found = {key: group[key] for key in ("lr", "weight_decay", "betas", "eps")}
    assert found == {"lr": 0.01, "weight_decay": 0.1, "betas": (0.8, 0.95), "eps": 1e-6}


@pytest.mark.parametrize(("dtype", "scaled"), [("float16", True), ("bfloat16", False)])
def test_losses_are_scaled_in_float16_alone(
    tmp_path: Path, tiny_model: TinyModel, dtype: str, scaled: bool
) -> None:
    """A plan refuses float16 on a CPU for its speed; the engine can."""
    plan = plan_of(write_recipe(tmp_path, tiny_model("llama"), model={"dtype": "bfloat16"}))
    plan = plan.model_copy(update={"model": plan.model.model_copy(update={"dtype": dtype})})
    trained = build(plan)
    assert trained.scaler.is_enabled() is scaled
    base = trained.model.get_base_model().model.layers[0].self_attn.q_proj.base_layer
    assert base.weight.dtype == getattr(torch, dtype)
    assert {parameter.dtype for parameter in trained.parameters()} == {torch.float32}


@pytest.mark.parametrize("wanted", [True, False])
def test_gradient_checkpointing_is_as_planned(
    tmp_path: Path, tiny_model: TinyModel, wanted: bool
) -> None:
    training = {"gradient_checkpointing": wanted}
    plan = plan_of(write_recipe(tmp_path, tiny_model("llama"), training=training))
    layers = build(plan).model.get_base_model().model.layers
    assert [layer.gradient_checkpointing for layer in layers] == [wanted, wanted]


def test_another_number_of_trainable_parameters_is_refused(
    tmp_path: Path, tiny_model: TinyModel
) -> None:
    plan = plan_of(write_recipe(tmp_path, tiny_model("llama")))
    adapter = plan.adapter.model_copy(update={"trainable_parameters": 5})
    with pytest.raises(RunError, match=r"parameters would be trained; the plan says 5$"):
        build(plan.model_copy(update={"adapter": adapter}))


def test_tensors_without_a_place_are_told_of(tmp_path: Path) -> None:
    base = make_tiny_model(tmp_path / "base")
    file = base / "model.safetensors"
    more = {"value_head.weight": torch.zeros(1), "value_head.bias": torch.zeros(1)}
    save_file({**load_file(file), **more}, file, metadata={"format": "pt"})
    heard: list[Event] = []
    build(plan_of(write_recipe(tmp_path, base)), heard)
    (notice,) = heard
    assert isinstance(notice, Notice)
    assert notice.text == (
        "the base's files hold tensors that LlamaForCausalLM has no place for: "
        "2 in all, the first `value_head.bias`"
    )


def test_missing_tensors_end_the_run(tmp_path: Path) -> None:
    base = make_tiny_model(tmp_path / "base")
    tensors = load_file(base / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RunError, match=r"are missing in its files: `model\.norm\.weight`"):
        build(plan_of(write_recipe(tmp_path, base)))


def test_the_seed_decides_the_adapters_start(tmp_path: Path, tiny_model: TinyModel) -> None:
    def start(seed: int) -> Any:
        trained = build(plan_of(write_recipe(tmp_path, tiny_model("llama"), seed=seed)))
        return nn.utils.parameters_to_vector(trained.parameters()).detach()

    assert start(1).equal(start(1))
    assert not start(1).equal(start(2))


def test_weights_of_a_folder_are_where_the_plan_found_them(
    tmp_path: Path, tiny_model: TinyModel
) -> None:
    plan = plan_of(write_recipe(tmp_path, tiny_model("llama")))
    assert planned_weights(plan) == tiny_model("llama").resolve()
    assert json.loads((planned_weights(plan) / "config.json").read_text())["model_type"] == "llama"
