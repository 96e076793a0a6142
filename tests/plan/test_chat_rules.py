"""What of chat templates and masks stops a plan, and what the plan says of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lora_cli.errors import PlanError, Problem
from lora_cli.plan.inputs import Facts
from lora_cli.plan.resolve import resolve_plan
from lora_cli.plan.run_plan import RunPlan
from lora_cli.recipe.load import LoadedRecipe
from lora_cli.tasks.masking import Masking
from lora_cli.tasks.sequence_classification import SequenceClassification
from tests.helpers.tiny_models import make_tokenizer

Planned = Callable[..., RunPlan]
Probed = Callable[..., tuple[LoadedRecipe, Facts]]
PAIRS = json.dumps({"prompt": "1+1=", "completion": "2"}) + "\n"


def problems_of(plan: Callable[[], Any]) -> tuple[Problem, ...]:
    with pytest.raises(PlanError) as caught:
        plan()
    return caught.value.problems


def decisions(plan: RunPlan) -> dict[str, tuple[str, str]]:
    return {each.field: (each.value, each.reason) for each in plan.decisions}


def test_the_tokenizers_own_template_and_its_stop_token(planned: Planned) -> None:
    plan = planned()
    assert plan.model.chat_template is None
    assert plan.model.stop_tokens == {"<|im_end|>": 257}
    assert decisions(plan)["model.chat_template"] == ("none", "the tokenizer's own")
    assert decisions(plan)["model.stop_tokens"] == (
        "<|im_end|> (257)",
        "of the chat template and the tokenizer",
    )
    assert plan.data.masking == Masking()


def test_a_chosen_template_is_in_the_plan_and_its_digest(planned: Planned, tmp_path: Path) -> None:
    own, chosen = planned(), planned("llama", "model.chat_template=zephyr")
    assert chosen.model.chat_template is not None
    assert chosen.model.chat_template.startswith("{#- Zephyr")
    assert chosen.digest != own.digest
    (tmp_path / "same.jinja").write_text(chosen.model.chat_template, "utf-8")
    assert planned("llama", "model.chat_template=same.jinja").digest == chosen.digest
    assert RunPlan.from_json(chosen.to_json()) == chosen


def test_a_template_that_is_not_there(planned: Planned) -> None:
    (problem,) = problems_of(lambda: planned("llama", "model.chat_template=chatmil"))
    assert problem.where.key == "model.chat_template"
    assert problem.message == "there is no built-in chat template `chatmil`"
    assert problem.hint == "did you mean `chatml`?"


def test_a_template_whose_stop_token_is_no_token(planned: Planned) -> None:
    (problem,) = problems_of(lambda: planned("llama", "model.chat_template=llama3"))
    assert problem.where.key == "model.chat_template"
    assert problem.message == (
        "the chat template ends answers with `<|eot_id|>`, which is no token of this model: "
        "answers would never stop"
    )
    assert problem.hint == (
        "name one that ends with the model's own end, such as zephyr, vicuna or alpaca"
    )


def test_a_template_for_rows_that_are_no_conversations(planned: Planned, tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text(PAIRS * 8)
    flags = ("model.chat_template=chatml", "dataset=pairs.jsonl")
    (problem,) = problems_of(lambda: planned("llama", *flags))
    assert problem.message == "a chat template is for conversations, and no source holds any"
    assert problem.hint == "remove it, or write the rows as `messages`"


@pytest.mark.parametrize("flag", ["loss_on=everything", "reasoning=drop", "truncation=tokens"])
def test_a_mask_for_a_task_that_has_none(probed: Probed, flag: str) -> None:
    loaded, facts = probed("llama", f"training.{flag}")
    name = flag.partition("=")[0]
    classifying = replace(facts, task=SequenceClassification(name="sequence_classification"))
    problems = problems_of(lambda: resolve_plan(loaded, classifying))
    message = f"`training.{name}` is for the task causal_lm, not for sequence_classification"
    assert message in [problem.message for problem in problems]


def test_a_stop_token_that_is_not_the_tokenizers_end(
    planned: Planned, tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    tokenizer = make_tokenizer()
    tokenizer.eos_token = "<|endoftext|>"
    base = tmp_path / "base"
    base.mkdir()
    for file in tiny_model("llama").iterdir():
        (base / file.name).symlink_to(file)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (base / name).unlink()
    tokenizer.save_pretrained(base)
    plan = planned("llama", f"model.name={base}")
    end, eos = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    assert end != eos
    assert plan.model.stop_tokens == {"<|im_end|>": end, "<|endoftext|>": eos}
    assert plan.data.train.rows_with_end == plan.data.train.rows
