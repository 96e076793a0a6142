"""What of chat templates and masks cannot be."""

from __future__ import annotations

from collections.abc import Iterator

from lora_cli.errors import Problem
from lora_cli.formats import Conversation, build_format
from lora_cli.plan.inputs import Inputs
from lora_cli.plan.run_plan import RunPlan


def _template_of_no_rows(plan: RunPlan, inputs: Inputs) -> Iterator[Problem]:
    if inputs.recipe.model.chat_template is not None and not holds_conversations(plan):
        where = inputs.source.of_value(("model", "chat_template"))
        message = "a chat template is for conversations, and no source holds any"
        yield Problem(where, message, "remove it, or write the rows as `messages`")


def _split_stop_token(plan: RunPlan, inputs: Inputs) -> Iterator[Problem]:
    """Refuse a template whose answers end in pieces: generation stops at one token, or never."""
    split = inputs.facts.template.split_ending
    if inputs.recipe.model.chat_template is not None and split and holds_conversations(plan):
        where = inputs.source.of_value(("model", "chat_template"))
        message = f"the chat template ends answers with `{split}`, which is no token of this model"
        hint = "name one that ends with the model's own end, such as zephyr, vicuna or alpaca"
        yield Problem(where, f"{message}: answers would never stop", hint)


def _masks_of_another_task(plan: RunPlan, inputs: Inputs) -> Iterator[Problem]:
    for name in type(plan.data.masking).model_fields:
        key = ("training", name)
        if plan.task.name != "causal_lm" and inputs.source.wrote(key):
            message = f"`training.{name}` is for the task causal_lm, not for {plan.task.name}"
            yield Problem(inputs.source.of_value(key), message, "remove it")


def holds_conversations(plan: RunPlan) -> bool:
    """Return whether any source holds conversations, which a chat template renders."""
    return any(
        build_format(source.format, template=source.template).kind is Conversation
        for source in plan.data.sources
    )


CHAT_RULES = (_template_of_no_rows, _split_stop_token, _masks_of_another_task)
