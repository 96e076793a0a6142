"""The adapter a run leaves: whole, loadable by plain peft, and the same each time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from lora_cli import __version__
from lora_cli.engine.artifacts import RunResult, base_name, write_adapter, write_loss_curve
from lora_cli.engine.prepare import build_trainables, planned_tokenizer, planned_weights
from lora_cli.engine.runtime import Runtime
from lora_cli.merge.merge import merge_adapter
from lora_cli.merge.prepare import MergeOptions
from tests.engine.conftest import Finished
from tests.helpers.runs import PLAIN_PEFT, plan_of, train, write_recipe
from tests.helpers.tiny_models import CHAT_TEMPLATE

pytestmark = PLAIN_PEFT
TinyModel = Callable[[str], Path]
PNG = b"\x89PNG\r\n\x1a\n"


def test_the_folder_holds_adapter_tokenizer_and_origin(finished: Finished) -> None:
    assert sorted(path.name for path in finished.adapter.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "chat_template.jinja",
        "generation_config.json",
        "loracli.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_the_config_says_what_was_trained_and_no_more(finished: Finished) -> None:
    config = json.loads((finished.adapter / "adapter_config.json").read_text("utf-8"))
    said = {key: value for key, value in config.items() if value not in (None, False, {}, [])}
    said.pop("peft_version")
    assert said == {
        "base_model_name_or_path": finished.plan.model.folder,
        "bias": "none",
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": 8.0,
        "lora_dropout": 0.1,
        "megatron_core": "megatron.core",
        "peft_type": "LORA",
        "qalora_group_size": 16,
        "r": 4,
        "target_modules": sorted(finished.plan.adapter.peft_names),
        "task_type": "CAUSAL_LM",
    }
    assert config["target_modules"][0] == "down_proj", "short names, in an order that repeats"


def test_the_origin_names_base_plan_and_versions(finished: Finished) -> None:
    origin = json.loads((finished.adapter / "loracli.json").read_text("utf-8"))
    assert origin["base"] == finished.plan.model.folder
    assert origin["base_fingerprint"] == finished.plan.model.fingerprint
    assert origin["plan_digest"] == finished.plan.digest
    assert origin["quantization"] == {"method": "none"}
    assert origin["heads"] == list(finished.plan.model.heads) != []
    assert origin["versions"]["loracli"] == __version__
    packages = {"torch", "transformers", "peft", "accelerate", "bitsandbytes"}
    assert origin["versions"].keys() == {"loracli", *packages}


def test_the_tensors_are_float32_pairs_for_every_planned_module(finished: Finished) -> None:
    with safe_open(finished.adapter / "adapter_model.safetensors", framework="pt") as file:
        shapes = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    expected = {
        f"base_model.model.{module}.lora_{side}.weight"
        for module in finished.plan.adapter.modules
        for side in "AB"
    }
    assert shapes.keys() == expected
    assert {tensor.dtype for tensor in shapes.values()} == {torch.float32}
    assert sum(t.numel() for t in shapes.values()) == finished.plan.adapter.trainable_parameters
    assert all(tensor.any() for tensor in shapes.values()), "every pair has learnt something"


def test_the_chat_template_travels_with_the_tokenizer(finished: Finished) -> None:
    tokenizer = AutoTokenizer.from_pretrained(finished.adapter)
    assert tokenizer.chat_template == CHAT_TEMPLATE
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|im_end|>")


def test_a_base_with_another_end_is_told_where_answers_end(
    tmp_path: Path, tiny_model: TinyModel
) -> None:
    """A base tuned on ChatML whose own end is another token: servers read where to stop."""
    base = tmp_path / "base"
    shutil.copytree(tiny_model("llama"), base)
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.eos_token = "<|endoftext|>"
    tokenizer.save_pretrained(base)
    turn_end, eos = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    settings = {"eos_token_id": eos, "temperature": 0.6, "do_sample": False}
    (base / "generation_config.json").write_text(json.dumps(settings))
    evaluation = {"split": 0.25, "answers": {"metric": "exact_match", "max_new_tokens": 3}}
    recipe = write_recipe(
        tmp_path,
        base,
        model={"chat_template": "chatml"},
        training={"steps": 1},
        evaluation=evaluation,
    )
    plan = plan_of(recipe)
    train(plan)
    saved = tmp_path / "run" / "adapter"
    generation = GenerationConfig.from_pretrained(saved)
    assert generation.eos_token_id == [turn_end, eos]
    assert generation.temperature == 0.6
    template = AutoTokenizer.from_pretrained(saved).chat_template
    assert template == plan.model.chat_template != CHAT_TEMPLATE
    merge_adapter(tmp_path / "run", MergeOptions(output=tmp_path / "merged"))
    assert GenerationConfig.from_pretrained(tmp_path / "merged").eos_token_id == [turn_end, eos]
    assert AutoTokenizer.from_pretrained(tmp_path / "merged").chat_template == template


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "qwen2", "tied_llama"])
@pytest.mark.parametrize("variant", ["lora", "rslora"])
def test_plain_peft_gives_the_logits_of_the_model_in_memory(
    tmp_path: Path, tiny_model: TinyModel, architecture: str, variant: str
) -> None:
    plan = plan_of(write_recipe(tmp_path, tiny_model(architecture), adapter={"variant": variant}))
    weights = planned_weights(plan)
    trained = build_trainables(plan, weights, Runtime(device="cpu", processes=1), print)
    for parameter in trained.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    tokenizer = planned_tokenizer(plan)
    write_adapter(
        tmp_path / "adapter", trained.adapter, tokenizer=tokenizer, plan=plan, weights=weights
    )
    ours = logits(trained.model.eval())
    base = AutoModelForCausalLM.from_pretrained(plan.model.folder, dtype=torch.float32)
    assert not torch.allclose(logits(base), ours, atol=1e-2), "the adapter does something"
    adapted = PeftModel.from_pretrained(base, tmp_path / "adapter")
    torch.testing.assert_close(logits(adapted), ours, atol=1e-6, rtol=0)
    found_by_itself = AutoPeftModelForCausalLM.from_pretrained(
        tmp_path / "adapter", dtype=torch.float32
    )
    torch.testing.assert_close(logits(found_by_itself), ours, atol=1e-6, rtol=0)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=torch.arange(2, 18).reshape(2, 8)).logits
    return found


def test_a_base_is_named_so_that_it_is_found_again(finished: Finished) -> None:
    def named(**changed: object) -> str:
        return base_name(finished.plan.model.model_copy(update=changed))

    assert named(name="../models/tiny") == finished.plan.model.folder
    assert named(kind="hub", name="owner/model") == "owner/model"
    package = "package://module/file.gguf"
    assert named(kind="gguf", name=package, gguf="/site/module/file.gguf") == package
    assert named(kind="gguf", name="file.gguf", gguf="/models/file.gguf") == "/models/file.gguf"


def test_a_hub_base_keeps_its_name_and_revision(
    finished: Finished, tmp_path: Path, tiny_model: TinyModel
) -> None:
    plan = plan_of(write_recipe(tmp_path, tiny_model("llama")))
    weights = planned_weights(plan)
    trained = build_trainables(plan, weights, Runtime(device="cpu", processes=1), print)
    hub = plan.model.model_copy(
        update={"kind": "hub", "name": "owner/model", "revision": "0123abc"}
    )
    write_adapter(
        tmp_path / "adapter",
        trained.adapter,
        tokenizer=planned_tokenizer(plan),
        plan=plan.model_copy(update={"model": hub}),
        weights=weights,
    )
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text("utf-8"))
    assert config["base_model_name_or_path"] == "owner/model"
    assert config["revision"] == "0123abc"


def test_the_result_is_json_with_every_field(finished: Finished) -> None:
    fields = json.loads(finished.result.to_json())
    assert RunResult(**fields) == finished.result


@pytest.mark.parametrize("lines", ["", '{"kind": "step", "step": 1, "loss": 2.0}\n'])
def test_the_curve_can_be_drawn_of_few_steps(tmp_path: Path, lines: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(lines)
    write_loss_curve(tmp_path / "metrics.jsonl", tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes().startswith(PNG)


def test_the_curve_shows_steps_trend_and_evaluations(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.axes import Axes

    drawn: dict[str, tuple[list[int], list[float]]] = {}
    plot = Axes.plot

    def note(self: Axes, x: list[int], y: list[float], **style: Any) -> Any:
        drawn[style["label"]] = (x, y)
        return plot(self, x, y, **style)

    monkeypatch.setattr(Axes, "plot", note)
    write_loss_curve(finished.folder / "metrics.jsonl", tmp_path / "loss.png")
    steps, losses = drawn["training, each step"]
    assert steps == [1, 2, 3, 4, 5, 6]
    assert losses[-1] == finished.result.final_loss
    trend = drawn["training, trend"][1]
    assert trend[0] == pytest.approx(losses[0]), "no bias from an average that starts at zero"
    assert min(losses) <= trend[-1] <= max(losses)
    assert drawn["evaluation"][0] == [3, 6]
    first = (tmp_path / "loss.png").read_bytes()
    assert first == (finished.folder / "loss.png").read_bytes()
