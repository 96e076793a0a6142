"""Checks across the plan, one small function each: problems stop it, warnings are said.

A rule knows the plan, the facts and where the recipe says what; it never probes.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass

from lora_cli.errors import Problem
from lora_cli.facts.base_model import BaseModelFacts
from lora_cli.facts.machine import MachineFacts
from lora_cli.plan.run_plan import RunPlan
from lora_cli.recipe.source import Source
from lora_cli.targets.roles import role_of

MODEST_RANK = 64
HIGH_LEARNING_RATE = 5e-4


@dataclass(frozen=True)
class _World:
    base: BaseModelFacts
    machine: MachineFacts
    source: Source


def find_problems(
    plan: RunPlan, base: BaseModelFacts, machine: MachineFacts, source: Source
) -> list[Problem]:
    """Return everything that makes the plan impossible here."""
    world = _World(base, machine, source)
    return [problem for rule in _PROBLEM_RULES for problem in rule(plan, world)]


def find_warnings(plan: RunPlan) -> list[str]:
    """Return what an experienced colleague would say about the plan."""
    return [warning for rule in _WARNING_RULES for warning in rule(plan)]


def _context(plan: RunPlan, world: _World) -> Iterator[Problem]:
    context = plan.model.context_length
    asked = ("training", "max_length")
    if context and world.source.wrote(asked) and plan.data.max_length >= context:
        recipe_value = next(d for d in plan.decisions if d.field == "training.max_length")
        if recipe_value.reason == "the model's context":
            message = f"`training.max_length` is longer than the model's context of {context} tokens"
            yield Problem(world.source.of_value(asked), message, f"at most {context}")


def _pickle(plan: RunPlan, world: _World) -> Iterator[Problem]:
    where = world.source.of_value(("model", "name"))
    if world.base.weights == "pickle" and not plan.model.allow_pickle:
        message = "the model has pickle weights (.bin) only, and opening them can run code"
        hint = "use a safetensors version, or set `model.allow_pickle: true` if you trust the file"
        yield Problem(where, message, hint)
    if world.base.weights == "none":
        yield Problem(where, "the model has no weights", "a folder needs .safetensors files")


def _precision(plan: RunPlan, world: _World) -> Iterator[Problem]:
    where = world.source.of_value(("model", "dtype"))
    if plan.model.dtype == "float16" and plan.device.type == "cpu":
        yield Problem(where, "float16 does not train on a CPU", "use bfloat16 or float32")
    if plan.model.dtype == "bfloat16" and plan.device.type == "cuda" and not world.machine.fast_bfloat16:
        yield Problem(where, f"{plan.device.name} has no bfloat16", "use float16 or float32")


def _attention(plan: RunPlan, world: _World) -> Iterator[Problem]:
    if plan.model.attention != "flash_attention_2":
        return
    where = world.source.of_value(("model", "attention"))
    if plan.device.type != "cuda":
        yield Problem(where, "flash_attention_2 needs a GPU", "use sdpa")
    elif importlib.util.find_spec("flash_attn") is None:
        hint = "pip install flash-attn, or use sdpa"
        yield Problem(where, "flash_attention_2 needs the package flash-attn", hint)


def _bitsandbytes(plan: RunPlan, world: _World) -> Iterator[Problem]:
    if plan.quantization.method != "none" and importlib.util.find_spec("bitsandbytes") is None:
        where = world.source.of_value(("quantization", "method"))
        message = f"{plan.quantization.method} needs the package bitsandbytes"
        yield Problem(where, message, "pip install bitsandbytes")


_PROBLEM_RULES = (_context, _pickle, _precision, _attention, _bitsandbytes)


def _alpha(plan: RunPlan) -> Iterator[str]:
    spec = plan.adapter.spec
    if not spec.rank_stabilised and spec.resolved_alpha != 2 * spec.rank:
        yield (
            f"alpha is {spec.resolved_alpha:g} at rank {spec.rank}: without rank-stabilised scaling "
            f"2·rank = {2 * spec.rank} is the usual choice"
        )


def _learning_rate(plan: RunPlan) -> Iterator[str]:
    if plan.schedule.learning_rate > HIGH_LEARNING_RATE:
        yield f"a learning rate of {plan.schedule.learning_rate:g} is over 5e-4: watch for a jump in the loss"


def _attention_only(plan: RunPlan) -> Iterator[str]:
    if {role_of(name) for name in plan.adapter.modules} == {"attention"}:
        yield "only attention is adapted: all-linear usually learns more at the same rank"


def _high_rank(plan: RunPlan) -> Iterator[str]:
    spec = plan.adapter.spec
    if spec.rank > MODEST_RANK and not spec.rank_stabilised:
        yield f"rank {spec.rank} without rsLoRA: alpha / rank shrinks the update; try variant rslora"


def _no_evaluation(plan: RunPlan) -> Iterator[str]:
    if plan.evaluation is None:
        yield "no evaluation: nothing will tell learning from memorising; try `evaluation: 0.1`"


def _end_supervised(plan: RunPlan) -> Iterator[str]:
    tokens = plan.data.train
    if tokens.rows_with_end == 0:
        yield "no row trains on an end-of-turn token: the model may never stop"
    elif tokens.rows_with_end < tokens.rows:
        missing = tokens.rows - tokens.rows_with_end
        yield f"{missing} of {tokens.rows} rows are cut before their end-of-turn token"


def _truncation(plan: RunPlan) -> Iterator[str]:
    tokens = plan.data.train
    if tokens.truncated_rows:
        share = tokens.truncated_rows / tokens.rows
        yield f"{tokens.truncated_rows} rows ({share:.1%}) are longer than max_length and are cut"


def _dropped(plan: RunPlan) -> Iterator[str]:
    dropped = sum(len(source.dropped) for source in plan.data.sources)
    if dropped:
        yield f"{dropped} rows are dropped (on_bad_row: skip); plan.json lists each with its reason"


def _tiny_data(plan: RunPlan) -> Iterator[str]:
    if plan.schedule.epochs > 20:
        yield f"{plan.schedule.epochs:.0f} passes over {plan.data.train.rows} rows will memorise them"


_WARNING_RULES = (
    _alpha,
    _learning_rate,
    _attention_only,
    _high_rank,
    _no_evaluation,
    _end_supervised,
    _truncation,
    _dropped,
    _tiny_data,
)
