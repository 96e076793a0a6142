"""Runs of every method of modules or vectors: planned, trained, answered, saved, loaded plainly."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import AutoPeftModelForCausalLM
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from lora_cli.engine.run import run
from lora_cli.errors import InterruptedRunError
from lora_cli.plan.run_plan import RunPlan
from tests.helpers.runs import PLAIN_PEFT, losses_of, plan_of, stop_at, train, write_recipe

TinyModel = Callable[[str], Path]
MODULES: dict[str, dict[str, Any]] = {
    "vera": {"rank": 16, "dropout": 0.1},
    "loha": {},
    "lokr": {"factor": 4},
    "ia3": {},
    "oft": {"block_size": 8, "dropout": 0.3},
    "boft": {"block_size": 8, "dropout": 0.3},
    "miss": {"rank": 8, "dropout": 0.1},
    "randlora": {"rank": 8, "dropout": 0.1},
    "fourierft": {"frequencies": 200},
}
PROMPTS: dict[str, dict[str, Any]] = {
    "prompt_tuning": {"text": "Add the two."},
    "p_tuning": {"virtual_tokens": 5},
    "prefix_tuning": {"virtual_tokens": 5},
}
RATES = {"oft": 0.02, "boft": 0.02, "randlora": 0.02, "fourierft": 0.5, "prompt_tuning": 0.3}


def planned(folder: Path, base: Path, variant: str, **training: Any) -> RunPlan:
    recipe = write_recipe(
        folder,
        base,
        training={"steps": 12, "learning_rate": RATES.get(variant, 0.05), **training},
        evaluation={
            "split": 0.25,
            "every_steps": 6,
            "answers": {"metric": "exact_match", "max_new_tokens": 6, "batch_size": 4},
        },
    )
    # its adapter is one of lora, whose fields are not everyone's
    sections = yaml.safe_load(recipe.read_text("utf-8"))
    sections["adapter"] = {"variant": variant, **(MODULES | PROMPTS)[variant]}
    recipe.write_text(yaml.safe_dump(sections), "utf-8")
    return plan_of(recipe)


@PLAIN_PEFT
@pytest.mark.filterwarnings("ignore:Position ids are not supported")  # peft's own generate
@pytest.mark.parametrize("variant", [*MODULES, *PROMPTS])
def test_a_run_of_a_method(
    tmp_path: Path, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch, variant: str
) -> None:
    plan = planned(tmp_path, tiny_model("llama"), variant)
    result, _ = train(plan)
    losses = losses_of(tmp_path / "run")
    assert sum(losses[-3:]) < sum(losses[:3])
    monkeypatch.setattr("peft.tuners.boft.layer.get_fbd_cuda", lambda: None)
    model = AutoPeftModelForCausalLM.from_pretrained(result.adapter, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(result.adapter)
    lines = (tmp_path / "run" / "answers.jsonl").read_text("utf-8").splitlines()
    for line in map(json.loads, lines):
        assert line["adapter"] == greedy(model, tokenizer, line["prompt"])
    base = AutoModelForCausalLM.from_pretrained(tiny_model("llama"), dtype=torch.float32).eval()
    for line in map(json.loads, lines):
        assert line["base"] == greedy(base, tokenizer, line["prompt"])


def greedy(model: Any, tokenizer: Any, prompt: str) -> str:
    """Answer one prompt as a user of transformers would."""
    ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
    output = model.generate(**ids, max_new_tokens=6, do_sample=False)
    return str(tokenizer.decode(output[0, ids["input_ids"].shape[1] :], skip_special_tokens=True))


@pytest.mark.parametrize("variant", PROMPTS)
def test_what_a_run_without_modules_leaves_behind(
    tmp_path: Path, tiny_model: TinyModel, variant: str
) -> None:
    result, _ = train(planned(tmp_path, tiny_model("llama"), variant))
    config = json.loads((Path(result.adapter) / "adapter_config.json").read_text("utf-8"))
    assert config["peft_type"] == variant.upper()
    assert config["inference_mode"] is True
    assert config["base_model_name_or_path"] == str(tiny_model("llama"))
    tensors = load_file(Path(result.adapter) / "adapter_model.safetensors")
    assert [*tensors] == ["prompt_embeddings"]
    assert "0: none" in (tmp_path / "run" / "README.md").read_text("utf-8")
    assert str(tiny_model("llama")) not in json.dumps(
        {key: value for key, value in config.items() if key != "base_model_name_or_path"}
    )


def test_a_prompt_starts_as_its_text(tmp_path: Path, tiny_model: TinyModel) -> None:
    plan = planned(tmp_path, tiny_model("llama"), "prompt_tuning", learning_rate=1e-9, steps=1)
    result, _ = train(plan)
    saved = load_file(Path(result.adapter) / "adapter_model.safetensors")["prompt_embeddings"]
    ids = AutoTokenizer.from_pretrained(tiny_model("llama"))("Add the two.").input_ids
    base = AutoModelForCausalLM.from_pretrained(tiny_model("llama"), dtype=torch.float32)
    words = base.get_input_embeddings().weight.detach()[ids]
    assert len(ids) == 12, "a byte is a token"
    expected = torch.cat((words, words[:8]))
    torch.testing.assert_close(saved, expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("variant", [*MODULES, *PROMPTS])
def test_a_resumed_run_is_the_one_that_never_stopped(
    tmp_path: Path, tiny_model: TinyModel, variant: str
) -> None:
    adapters = []
    for name in ("whole", "resumed"):
        folder = tmp_path / name
        folder.mkdir()
        plan = planned(folder, tiny_model("llama"), variant, steps=6, save_steps=2)
        if name == "resumed":
            with pytest.raises(InterruptedRunError):
                run(plan, stop_at(3, signal.SIGINT))
        result, _ = train(plan, resume=name == "resumed")
        adapters.append((Path(result.adapter) / "adapter_model.safetensors").read_bytes())
    assert adapters[0] == adapters[1]
