"""What makes a plan impossible here: checks across its parts, one small function each.

A rule knows the plan, the facts and where the recipe says what; it never probes.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

from lora_cli.adapters.low_rank import LowRankSpec
from lora_cli.adapters.prefix_tuning import PrefixTuning
from lora_cli.adapters.prompt import PromptSpec
from lora_cli.errors import Problem, Where
from lora_cli.plan.adapter_rules import ADAPTER_RULES
from lora_cli.plan.inputs import Inputs
from lora_cli.plan.model_part import adapter_setting
from lora_cli.plan.run_plan import RunPlan
from lora_cli.quantization.bitsandbytes import Quantized, is_inside
from lora_cli.recipe.source import KeyPath


def find_problems(plan: RunPlan, inputs: Inputs) -> list[Problem]:
    """Return everything that makes the plan impossible."""
    return [problem for rule in _RULES for problem in rule(plan, inputs)]


def _context(plan: RunPlan, inputs: Inputs) -> Iterator[Problem]:
    context, most = inputs.facts.base.context_length, plan.data.max_length
    key = ("training", "max_length")
    if inputs.recipe.training.max_length > most and inputs.source.wrote(key):
        message = f"`training.max_length` is over the model's context of {context} tokens"
        if isinstance(plan.adapter.spec, PromptSpec):
            message += f" less {plan.adapter.spec.virtual_tokens} virtual ones"
        yield Problem(inputs.source.of_value(key), message, f"at most {most}")


def _vocabulary(plan: RunPlan, inputs: Inputs) -> Iterator[Problem]:
    highest, size = inputs.facts.dataset.highest_token_id, inputs.facts.base.vocabulary
    if highest >= size:
        where = inputs.source.of_value(("model", "name"))
        message = f"the tokenizer writes token {highest}, but the model knows {size} tokens"
        yield Problem(where, message, f"the tokenizer in {plan.model.folder} is another model's")


def _revision(plan: RunPlan, inputs: Inputs) -> Iterator[Problem]:
    if inputs.recipe.model.revision is not None and plan.model.kind != "hub":
        where = inputs.source.of_value(("model", "revision"))
        message = (
            f"`model.revision` is for models on the hub; this one is a local {plan.model.kind}"
        )
        yield Problem(where, message, "remove it")


def _weights(plan: RunPlan, inputs: Inputs) -> Iterator[Problem]:
    where, weights = inputs.source.of_value(("model", "name")), inputs.facts.base.source.weights
    if weights == "pickle" and not plan.model.allow_pickle:
        message = "the model has pickle weights (.bin) only, and opening them can run code"
        hint = "use a safetensors version, or set `model.allow_pickle: true` if you trust the file"
        yield Problem(where, message, hint)
    if weights == "none":
        message = f"no weights are among the files of `{plan.model.name}`"
        hint = "model.safetensors, or its shards, are looked for; a cached hub model may lack them"
        yield Problem(where, message, hint)


def _precision(plan: RunPlan, inputs: Inputs) -> Iterator[Problem]:
    where, machine = inputs.source.of_value(("model", "dtype")), inputs.facts.machine
    if plan.model.dtype == "float16" and machine.device == "cpu":
        yield Problem(where, "float16 does not train on a CPU", "use bfloat16 or float32")
    if plan.model.dtype == "bfloat16" and machine.device == "cuda" and not machine.fast_bfloat16:
        yield Problem(where, f"{machine.name} has no bfloat16", "use float16 or float32")


def _attention(plan: RunPlan, inputs: Inputs) -> Iterator[Problem]:
    where, kernel = inputs.source.of_value(("model", "attention")), plan.model.attention
    known = inputs.facts.base.attention_kernels
    if kernel not in known:
        yield Problem(where, f"{plan.model.architecture} has no {kernel}", _one_of(known))
    elif kernel == "flash_attention_2" and plan.device.type != "cuda":
        yield Problem(where, "flash_attention_2 needs a GPU", "use sdpa")
    elif kernel == "flash_attention_2" and not _is_installed("flash_attn"):
        hint = "pip install flash-attn, or use sdpa"
        yield Problem(where, "flash_attention_2 needs the package flash-attn", hint)


def _bitsandbytes(plan: RunPlan, inputs: Inputs) -> Iterator[Problem]:
    if _is_installed("bitsandbytes"):
        return
    needing: dict[KeyPath, str] = {}
    if plan.quantization.method != "none":
        needing["quantization", "method"] = plan.quantization.method
    if plan.optimizer.package == "bitsandbytes":
        needing["training", "optimizer", "name"] = plan.optimizer.name
    for key, value in needing.items():
        message = f"{value} needs the package bitsandbytes"
        yield Problem(inputs.source.of_value(key), message, "pip install bitsandbytes")


def _full_precision(plan: RunPlan, inputs: Inputs) -> Iterator[Problem]:
    """Refuse names of no layer, and names of all of them."""
    if not isinstance(plan.quantization, Quantized):
        return
    linears = [linear.name for linear in inputs.facts.base.linears]
    every = (*linears, *plan.model.heads)
    key = ("quantization", "full_precision_modules")
    for index, name in enumerate(plan.quantization.full_precision_modules):
        if not any(is_inside(module, name) for module in every):
            message = f"`{name}` matches no linear layer of {plan.model.architecture}"
            leaves = dict.fromkeys(module.rpartition(".")[2] for module in linears)
            where = inputs.source.of_value((*key, index))
            yield Problem(where, message, f"its layers: {', '.join(leaves)}")
    if all(map(plan.quantization.keeps, linears)):
        message = f"nothing is left to hold in {plan.quantization.method}"
        yield Problem(inputs.source.of_value(key), message, "write `quantization: none`")


def _capability(plan: RunPlan, inputs: Inputs) -> Iterator[Problem]:
    """Refuse what the variant declares that it cannot be combined with."""
    spec, method = plan.adapter.spec, plan.quantization.method
    conv1d = any(each.conv1d for each in inputs.facts.matched.modules)
    refusal = spec.capability.refusal(method, conv1d=conv1d)
    if refusal:
        base = plan.model.architecture if method == "none" else f"a base in {method}"
        held = inputs.recipe.quantization is not None and refusal != spec.capability.conv1d
        where = inputs.source.of_value(
            ("quantization", "method") if held else ("adapter", "variant")
        )
        yield Problem(where, f"{spec.variant} on {base}: {refusal}")


def _adapter_fits(plan: RunPlan, inputs: Inputs) -> Iterator[Problem]:
    setting = adapter_setting(inputs, plan.schedule.steps)
    for problem in plan.adapter.spec.problems(setting):
        where = inputs.source.of_value(("adapter", problem.field))
        yield Problem(where, problem.message, problem.hint)


def _optimizer_of_pairs(plan: RunPlan, inputs: Inputs) -> Iterator[Problem]:
    """Refuse optimizers that treat A and B differently where there is no such pair."""
    spec, optimizer = plan.adapter.spec, plan.optimizer
    no_pair = "" if isinstance(spec, LowRankSpec) else "it has no pair of A and B; use adamw"
    key = ("training", "optimizer")
    if optimizer.freezes_a and (refusal := no_pair or spec.capability.lora_fa):
        where = inputs.source.of_value((*key, "name"))
        yield Problem(where, f"{optimizer.name} with {spec.variant}: {refusal}")
    if getattr(optimizer, "lora_plus_ratio", None) is not None and no_pair:
        where = inputs.source.of_value((*key, "lora_plus_ratio"))
        message = f"LoRA+ with {spec.variant}: it has no pair of A and B"
        yield Problem(where, message, "remove the line")


def _quantization_error(plan: RunPlan, inputs: Inputs) -> Iterator[Problem]:
    """Refuse to start a module from the quantization error that it has not got."""
    spec = plan.adapter.spec
    kept = [module for module in plan.adapter.modules if plan.quantization.keeps(module)]
    if spec.start_from == "quantization error" and plan.quantization.method != "none" and kept:
        where = inputs.source.of_value(("quantization", "full_precision_modules"))
        message = f"{spec.variant} starts from what quantizing loses, and `{kept[0]}` loses nothing"
        yield Problem(where, message, "leave it out here, or out of `adapter.target_modules`")


def _checkpointed_prefix(plan: RunPlan, inputs: Inputs) -> Iterator[Problem]:
    if plan.schedule.gradient_checkpointing and isinstance(plan.adapter.spec, PrefixTuning):
        where = inputs.source.of_value(("training", "gradient_checkpointing"))
        message = "a prefix stands in the cache of keys and values, which recomputing leaves out"
        yield Problem(where, message, "set it to false, or use prompt_tuning or p_tuning")


def _system_prompt(plan: RunPlan, inputs: Inputs) -> Iterator[Problem]:
    for index, source in enumerate(plan.data.sources):
        if source.system_prompt is not None and source.format != "messages":
            where = inputs.source.of_value(("dataset", index, "system_prompt"))
            message = f"a system prompt is for conversations, but the rows are {source.format}"
            yield Problem(where, message, "remove it, or write it into the prompts")


def _processes(plan: RunPlan, _inputs: Inputs) -> Iterator[Problem]:
    if plan.schedule.processes > 1:
        message = f"{plan.schedule.processes} processes are launched (WORLD_SIZE)"
        hint = "start loracli itself, without a launcher"
        text = f"{message}: several processes are not part of this version"
        yield Problem(Where(), text, hint)


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _one_of(names: tuple[str, ...]) -> str:
    return f"use {' or '.join(names)}"


_RULES = (
    _context,
    _vocabulary,
    _revision,
    _weights,
    _precision,
    _attention,
    _bitsandbytes,
    _full_precision,
    _quantization_error,
    _optimizer_of_pairs,
    _capability,
    _adapter_fits,
    _checkpointed_prefix,
    *ADAPTER_RULES,
    _system_prompt,
    _processes,
)
