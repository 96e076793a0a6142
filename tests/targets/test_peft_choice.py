"""What peft would take is what it takes, when it is put on the same model."""

from __future__ import annotations

import warnings
from pathlib import Path

import peft
import pytest

from lora_cli.facts.base_model import facts_of
from lora_cli.facts.inventory import inventory
from lora_cli.facts.model_source import ModelSource
from lora_cli.targets.groups import grouped
from lora_cli.targets.peft_choice import PeftChoice, peft_choices
from tests.helpers.architectures import model_of

RANK = 4
SOME = ["llama", "gpt2", "bert", "t5", "falcon", "mixtral", "qwen2_moe", "deepseek_v3", "phimoe"]


def choices(name: str) -> tuple[PeftChoice, PeftChoice]:
    model, task = model_of(name)
    base = facts_of(model, ModelSource("folder", Path("nowhere"), "", "none"), task)
    groups = grouped(inventory(model), base)
    all_linear, default = peft_choices(model, base, groups, task=task.peft_task, rank=RANK)
    return all_linear, default


def injected(name: str, target_modules: str | None) -> tuple[int, int, int]:
    """Put peft's own LoRA on the model; return modules, tensors and trainable numbers."""
    model, task = model_of(name)
    config = peft.LoraConfig(r=RANK, target_modules=target_modules, task_type=task.peft_task)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of patterns for tensors, and of other libraries
        adapted = peft.get_peft_model(model, config, low_cpu_mem_usage=True)
    trainable = sum(p.numel() for n, p in adapted.named_parameters() if "lora_" in n)
    tuner = adapted.base_model
    return len(tuner.targeted_module_names), len(tuner.targeted_parameter_names), trainable


@pytest.mark.parametrize("name", SOME)
def test_all_linear_is_what_peft_puts_there(name: str) -> None:
    found, _ = choices(name)
    assert (found.modules, found.parameters, found.trainable) == injected(name, "all-linear")


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert", "t5", "falcon"])
def test_none_is_what_peft_puts_there(name: str) -> None:
    _, found = choices(name)
    assert (found.modules, found.parameters, found.trainable) == injected(name, None)


def test_model_types_that_peft_has_no_default_for() -> None:
    _, found = choices("deepseek_v3")
    assert found.why_not == "peft finds nothing to adapt, and asks for `target_modules`"
    _, found = choices("phi3")
    assert "no default for the model type `phi3`" in found.why_not


def test_peft_s_default_for_a_mixtral_is_lost_among_its_experts() -> None:
    """It renames experts before it looks its table up, and then has names: none."""
    _, found = choices("mixtral")
    assert found.why_not == "peft finds nothing to adapt, and asks for `target_modules`"
    with pytest.raises(ValueError, match="No `target_modules` passed"):
        injected("mixtral", None)


def test_what_differs_has_its_reason() -> None:
    found, _ = choices("deepseek_v3")
    more = {each.pattern: each.why for each in found.only_peft}
    assert "a router decides" in more["model.layers.*.mlp.gate.weight"]
    assert "target_parameters: experts" in more["model.layers.*.mlp.experts.gate_up_proj"]
    less = {each.pattern: each.count for each in found.only_ours}
    assert less["model.layers.*.mlp.gate_proj"] == 1, "peft passes the dense layer by"
    assert less["model.layers.*.mlp.shared_experts.down_proj"] == 1
    assert all("part of the fused experts" in each.why for each in found.only_ours)


def test_no_difference_on_a_llama() -> None:
    found, _ = choices("llama")
    assert (found.only_peft, found.only_ours) == ((), ())


def test_a_router_that_is_a_linear_layer_is_peft_s_alone() -> None:
    found, _ = choices("phimoe")
    assert [each.pattern for each in found.only_peft] == ["model.layers.*.mlp.router"]


def test_what_peft_refuses_to_adapt_is_said() -> None:
    found, _ = choices("mamba")
    assert "'out_proj' is incompatible with Mamba-based models" in found.why_not
    with pytest.raises(ValueError, match="incompatible with Mamba"):
        injected("mamba", "all-linear")


def test_layers_that_are_never_called_are_not_ours() -> None:
    found, _ = choices("gemma3")
    (odd,) = [each for each in found.only_peft if "attention.out_proj" in each.pattern]
    assert odd.why.endswith("it would never be trained")
    assert injected("gemma3", "all-linear")[0] == found.modules
