"""Variants with a computed start, through whole runs: they begin as the base, learn, and reload."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from lora_cli.engine import run as module
from lora_cli.engine.artifacts import RunResult
from lora_cli.events import Event, RunStarted, StepDone
from lora_cli.merge.merge import merge_adapter
from lora_cli.merge.prepare import MergeOptions
from lora_cli.plan.run_plan import RunPlan
from lora_cli.quantization.bitsandbytes import FourBit
from lora_cli.step.update import Trainables
from lora_cli.tasks.causal_lm import Batch
from tests.helpers.adapters import logits
from tests.helpers.families import mean_loss
from tests.helpers.runs import PLAIN_PEFT, losses_of, plan_of, write_recipe

pytestmark = PLAIN_PEFT
TinyModel = Callable[[str], Path]
VARIANTS: dict[str, dict[str, Any]] = {
    "pissa": {"variant": "pissa"},
    "fast pissa": {"variant": "pissa", "svd": "fast"},
    "pissa with ranks": {
        "variant": "pissa",
        "rank_pattern": {"q_proj|c_attn": 2},
        "alpha_pattern": {"q_proj|c_attn": 3.0},
    },
    "olora": {"variant": "olora"},
    "eva": {"variant": "eva"},
    "corda": {"variant": "corda"},
    "corda, knowledge": {"variant": "corda", "mode": "knowledge_preserved"},
    "lora_ga": {"variant": "lora_ga"},
}
OWN_BASE: dict[str, dict[str, Any]] = {
    "pissa": {"variant": "pissa"},
    "olora": {"variant": "olora"},
    "loftq": {"variant": "loftq", "iterations": 3},
}


@dataclass
class Watched:
    """A run whose model is looked at while it goes on."""

    plan: RunPlan
    monkeypatch: pytest.MonkeyPatch
    built: list[Trainables] = field(default_factory=list)
    at_start: list[torch.Tensor] = field(default_factory=list)
    unlearning: list[str] = field(default_factory=list)
    """Tensors without a gradient after the second step."""

    def run(self) -> RunResult:
        build = module.build_trainables

        def note(*arguments: Any, **options: Any) -> Trainables:
            self.built.append(build(*arguments, **options))
            return self.built[-1]

        self.monkeypatch.setattr(module, "build_trainables", note)
        return module.run(self.plan, self._listen)

    @property
    def model(self) -> Any:
        return self.built[-1].model

    def logits(self) -> torch.Tensor:
        """Return the logits of the model in memory, which is left as it was."""
        training = self.model.training
        found = logits(self.model.eval())
        self.model.train(training)
        return found

    def _listen(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self.at_start.append(self.logits())
        if isinstance(event, StepDone) and event.step == 2:
            ids = torch.arange(2, 34).reshape(2, 16)
            mean_loss(self.model, Batch(ids, torch.ones_like(ids), ids)).backward()
            for name, parameter in self.model.named_parameters():
                if parameter.requires_grad and not parameter.grad.any():
                    self.unlearning.append(name)
                parameter.grad = None


def watched(folder: Path, base: Path, monkeypatch: pytest.MonkeyPatch, **sections: Any) -> Watched:
    training = {"steps": 12, "learning_rate": 0.01}
    model = {"attention": "eager"}
    recipe = write_recipe(folder, base, training=training, **{"model": model, **sections})
    return Watched(plan_of(recipe), monkeypatch)


def assert_learnt(run_dir: Path) -> None:
    losses = losses_of(run_dir)
    assert sum(losses[-3:]) < sum(losses[:3]) - 0.3


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_it_begins_as_the_base_learns_and_reloads_on_the_original_base(
    tmp_path: Path,
    tiny_model: TinyModel,
    monkeypatch: pytest.MonkeyPatch,
    architecture: str,
    variant: str,
) -> None:
    run = watched(tmp_path, tiny_model(architecture), monkeypatch, adapter=VARIANTS[variant])
    result = run.run()
    original = {"dtype": torch.float32, "attn_implementation": "eager"}
    base = AutoModelForCausalLM.from_pretrained(run.plan.model.folder, **original)
    before, after = logits(base), run.logits()
    assert float((run.at_start[0] - before).abs().max()) <= 1e-5
    assert_learnt(tmp_path / "run")
    assert run.unlearning == []
    assert result.base is None
    assert not (tmp_path / "run" / "base").exists()
    reloaded = logits(PeftModel.from_pretrained(base, result.adapter))
    assert float((reloaded - after).abs().max()) <= 1e-4
    assert float((before - after).abs().max()) > 0.1, "the adapter does something"


@pytest.mark.parametrize("method", ["nf4", "fp4", "int8"])
@pytest.mark.parametrize("variant", OWN_BASE)
def test_a_base_of_its_own_is_written_and_plain_peft_gives_the_same_logits_on_it(
    tmp_path: Path,
    tiny_model: TinyModel,
    monkeypatch: pytest.MonkeyPatch,
    variant: str,
    method: str,
) -> None:
    run = watched(
        tmp_path,
        tiny_model("llama"),
        monkeypatch,
        adapter=OWN_BASE[variant],
        quantization=method,
    )
    result = run.run()
    assert_learnt(tmp_path / "run")
    assert run.unlearning == []
    assert result.base == str(tmp_path / "run" / "base")
    reloaded = AutoPeftModelForCausalLM.from_pretrained(result.adapter, attn_implementation="eager")
    # on CPUs with AVX512-BF16 the library's kernel for inference is not the one that trained
    FourBit(method="nf4").after_load(reloaded)
    assert reloaded.peft_config["default"].r == 4
    assert logits(reloaded).equal(run.logits())
    assert_is_complete(tmp_path / "run", run.plan, method)


def assert_is_complete(run_dir: Path, plan: RunPlan, method: str) -> None:
    """The base says what it is, and the adapter which base it belongs to."""
    base = run_dir / "base"
    quantization = json.loads((base / "config.json").read_text("utf-8"))["quantization_config"]
    assert quantization["load_in_8bit"] is (method == "int8")
    assert quantization["load_in_4bit"] is (method != "int8")
    assert len(AutoTokenizer.from_pretrained(base)) == 259
    assert (base / "generation_config.json").is_file()
    config = json.loads((run_dir / "adapter/adapter_config.json").read_text("utf-8"))
    assert config["base_model_name_or_path"] == str(base)
    assert config["revision"] is None
    origin = json.loads((run_dir / "adapter/loracli.json").read_text("utf-8"))
    assert origin["base"] == str(base)
    assert origin["base_made_from"] == {
        "base": plan.model.folder,
        "base_fingerprint": plan.model.fingerprint,
    }
    assert origin["quantization"]["method"] == method
    card = (run_dir / "README.md").read_text("utf-8")
    assert 'from_pretrained(\n    "base",' in card
    assert "BitsAndBytesConfig" not in card


@pytest.mark.parametrize("method", ["nf4", "int8"])
@pytest.mark.parametrize(
    "adapter", [{"variant": "loftq"}, {"variant": "eva"}], ids=["loftq", "eva"]
)
def test_on_the_base_that_everyone_has_no_other_is_written(
    tmp_path: Path,
    tiny_model: TinyModel,
    monkeypatch: pytest.MonkeyPatch,
    adapter: dict[str, Any],
    method: str,
) -> None:
    run = watched(tmp_path, tiny_model("llama"), monkeypatch, adapter=adapter, quantization=method)
    result = run.run()
    assert_learnt(tmp_path / "run")
    assert run.unlearning == []
    assert result.base is None
    assert not (tmp_path / "run" / "base").exists()
    dtype = torch.float32
    base = AutoModelForCausalLM.from_pretrained(
        run.plan.model.folder,
        dtype=dtype,
        attn_implementation="eager",
        **run.plan.quantization.load_kwargs(dtype),
    )
    run.plan.quantization.after_load(base)
    reloaded = logits(PeftModel.from_pretrained(base, result.adapter))
    assert float((reloaded - run.logits()).abs().max()) <= 1e-4


@pytest.mark.parametrize("origin", [True, False])
def test_an_adapter_with_a_base_of_its_own_is_merged_into_that_one(
    tmp_path: Path, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch, origin: bool
) -> None:
    """Even where loracli.json is lost: peft's own file names the quantized base too."""
    adapter = {"variant": "pissa"}
    run = watched(tmp_path, tiny_model("llama"), monkeypatch, adapter=adapter, quantization="nf4")
    result = run.run()
    if not origin:
        (Path(result.adapter) / "loracli.json").unlink()
    told = merge_adapter(tmp_path / "run", MergeOptions())
    assert told.base == result.base
    merged = AutoModelForCausalLM.from_pretrained(told.output, attn_implementation="eager")
    assert float((logits(merged) - run.logits()).abs().max()) <= 1e-4


def test_an_adapter_of_a_residual_start_is_merged_as_what_it_is(
    tmp_path: Path, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = watched(tmp_path, tiny_model("llama"), monkeypatch, adapter={"variant": "pissa"})
    run.run()
    merge_adapter(tmp_path / "run", MergeOptions(output=tmp_path / "merged"))
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", attn_implementation="eager")
    assert float((logits(merged) - run.logits()).abs().max()) <= 1e-4


def test_a_tied_model_keeps_its_tie_in_a_base_of_its_own(
    tmp_path: Path, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = watched(
        tmp_path,
        tiny_model("tied_llama"),
        monkeypatch,
        adapter={"variant": "pissa"},
        quantization="nf4",
    )
    result = run.run()
    reloaded = AutoPeftModelForCausalLM.from_pretrained(result.adapter, attn_implementation="eager")
    FourBit(method="nf4").after_load(reloaded)
    assert logits(reloaded).equal(run.logits())
    held = reloaded.get_base_model()
    assert held.lm_head.weight is held.model.embed_tokens.weight
    assert "lm_head.weight" not in load_file(tmp_path / "run/base/model.safetensors")
