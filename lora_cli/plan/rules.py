"""What makes a plan impossible here: checks across its parts, one small function each.

A rule knows the plan, the facts and where the recipe says what; it never probes.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

from lora_cli.adapters.prefix_tuning import PrefixTuning
from lora_cli.adapters.prompt import PromptSpec
from lora_cli.errors import Problem, Where
from lora_cli.formats import Conversation, build_format
from lora_cli.plan.adapter_rules import ADAPTER_RULES
from lora_cli.plan.batch_rules import BATCH_RULES
from lora_cli.plan.chat_rules import CHAT_RULES
from lora_cli.plan.component_rules import COMPONENT_RULES
from lora_cli.plan.inputs import Inputs
from lora_cli.plan.model_part import adapter_setting
from lora_cli.plan.run_plan import RunPlan
from lora_cli.plan.task_rules import TASK_RULES


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


def _capability(plan: RunPlan, inputs: Inputs) -> Iterator[Problem]:
    """Refuse what the variant declares that it cannot be combined with."""
    spec, method = plan.adapter.spec, plan.quantization.method
    # quantizing turns a weight round that lies as (in, out); one that is kept stays as it is
    conv1d = any(
        each.conv1d and plan.quantization.keeps(each.name) for each in inputs.facts.matched.modules
    )
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
        fields = (problem.field, problem.also)
        wrote = (name for name in fields if inputs.source.wrote(("adapter", name)))
        where = inputs.source.of_value(("adapter", next(wrote, problem.field)))
        yield Problem(where, problem.message, problem.hint)


def _checkpointed_prefix(plan: RunPlan, inputs: Inputs) -> Iterator[Problem]:
    if plan.schedule.gradient_checkpointing and isinstance(plan.adapter.spec, PrefixTuning):
        where = inputs.source.of_value(("training", "gradient_checkpointing"))
        message = "a prefix stands in the cache of keys and values, which recomputing leaves out"
        yield Problem(where, message, "set it to false, or use prompt_tuning or p_tuning")


def _system_prompt(plan: RunPlan, inputs: Inputs) -> Iterator[Problem]:
    for index, source in enumerate(plan.data.sources):
        kind = build_format(source.format, template=source.template).kind
        if source.system_prompt is not None and kind is not Conversation:
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
    *COMPONENT_RULES,
    _capability,
    _adapter_fits,
    _checkpointed_prefix,
    *ADAPTER_RULES,
    *BATCH_RULES,
    *CHAT_RULES,
    *TASK_RULES,
    _system_prompt,
    _processes,
)
