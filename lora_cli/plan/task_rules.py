"""What a task cannot be combined with, one small function each."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

from lora_cli.adapters.prompt import PromptSpec
from lora_cli.errors import Problem
from lora_cli.plan.inputs import Inputs
from lora_cli.plan.run_plan import RunPlan
from lora_cli.tasks.answers import PACKAGES

_ANSWERS = ("evaluation", "answers", "metric")


def _answers(plan: RunPlan, inputs: Inputs) -> Iterator[Problem]:
    """Refuse answers of a model that writes none, and label words without labels or the reverse."""
    answers = plan.evaluation.answers if plan.evaluation else None
    if answers is None:
        return
    where, labels = inputs.source.of_value(_ANSWERS), answers.labels
    if not plan.task.generates:
        message = f"`evaluation.answers` compares texts, and {plan.task.name} writes none"
        yield Problem(where, message, "remove it: each evaluation measures the task's own figures")
    elif answers.metric != "label_words":
        if labels is not None:
            at_labels = inputs.source.of_value((*_ANSWERS[:2], "labels"))
            message = f"`labels` are for the metric label_words, not for {answers.metric}"
            yield Problem(at_labels, message, "remove them")
    elif plan.task.name != "causal_lm":
        message = f"label_words are for causal_lm, not for {plan.task.name}"
        yield Problem(where, message, "use exact_match")
    elif labels is None or len(set(labels)) < 2:
        message = "label_words chooses among labels, and needs two or more"
        hint = "name them with `evaluation.answers.labels: [Positive, Negative]`"
        yield Problem(where, message, hint)


def _packages(plan: RunPlan, inputs: Inputs) -> Iterator[Problem]:
    """Refuse what is measured with a package that is not installed."""
    if plan.evaluation is None:
        return
    for module, package in plan.task.packages.items():
        if importlib.util.find_spec(module) is None:
            where = inputs.source.of_value(("task", "name"))
            message = f"measuring {plan.task.name} needs the package {package}"
            yield Problem(where, message, f"pip install {package}, or leave out `evaluation`")
    answers = plan.evaluation.answers
    module, package = PACKAGES.get(answers.metric, ("", "")) if answers else ("", "")
    if answers and module and importlib.util.find_spec(module) is None:
        where = inputs.source.of_value(_ANSWERS)
        message = f"{answers.metric} needs the package {package}"
        yield Problem(where, message, f"pip install {package}")


def _adapter(plan: RunPlan, inputs: Inputs) -> Iterator[Problem]:
    """Refuse vectors in front of what is not continued, and starts from a decoder's inputs."""
    spec, where = plan.adapter.spec, inputs.source.of_value(("adapter", "variant"))
    if isinstance(spec, PromptSpec) and plan.task.name != "causal_lm":
        message = f"{spec.variant} is for causal_lm in this version, not for {plan.task.name}"
        yield Problem(where, message, "use lora, or another variant that adapts modules")
    if spec.start_from == "inputs" and plan.task.name == "seq2seq_lm":
        message = f"{spec.variant} with seq2seq_lm: its start is computed from what modules read"
        hint = "use lora, pissa or lora_ga"
        yield Problem(where, f"{message}, and a decoder reads what the rows pad", hint)


TASK_RULES = (_answers, _packages, _adapter)
