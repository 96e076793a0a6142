"""Answers that are labels, and those of an encoder-decoder, against plain transformers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from lora_cli.data.encoding.encoders import encoder_for
from lora_cli.engine.label_words import label_choices
from lora_cli.engine.prepare import planned_dataset, planned_tokenizer
from lora_cli.tasks.measures import overlap_figures
from tests.helpers.runs import PLAIN_PEFT, plan_of, train, write_recipe
from tests.helpers.task_rows import sources_and_targets, write_case
from tests.helpers.tiny_models import chat_row, write_rows

pytestmark = PLAIN_PEFT
TinyModel = Callable[[str], Path]
LABELS = ["Positive", "Negative", "Not sure"]
ANSWERS = {"metric": "label_words", "labels": LABELS, "max_new_tokens": 4, "batch_size": 4}


def pairs(count: int) -> list[dict[str, Any]]:
    return [
        {"prompt": f"Text {number}:" + " so" * (number % 3), "completion": f" {LABELS[number % 3]}"}
        for number in range(count)
    ]


def likelihood(model: Any, tokenizer: Any, prompt: str, answer: str) -> tuple[float, int]:
    """Return the log-likelihood of answer and end after the prompt, and how long they are."""
    given = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    written = [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    with torch.no_grad():
        logits = model(torch.tensor([given + written])).logits[0, len(given) - 1 : -1]
    chosen = torch.log_softmax(logits, -1)[torch.arange(len(written)), written]
    return float(chosen.sum()), len(written)


def accuracy(model: Any, tokenizer: Any, rows: list[dict[str, Any]], *, by_token: bool) -> float:
    right = 0
    for row in rows:
        found = [likelihood(model, tokenizer, row["prompt"], f" {label}") for label in LABELS]
        values = [total / count if by_token else total for total, count in found]
        right += f" {LABELS[values.index(max(values))]}" == row["completion"]
    return right / len(rows)


def test_the_likeliest_label_is_that_of_the_plain_model(
    tmp_path: Path, tiny_model: TinyModel
) -> None:
    evaluation = {"path": "apart.jsonl", "answers": ANSWERS}
    recipe = write_recipe(tmp_path, tiny_model("llama"), evaluation=evaluation)
    write_rows(tmp_path / "rows.jsonl", pairs(24))
    write_rows(tmp_path / "apart.jsonl", pairs(10))
    plan = plan_of(recipe)
    result, _ = train(plan)
    tokenizer = AutoTokenizer.from_pretrained(plan.model.folder)
    base = AutoModelForCausalLM.from_pretrained(plan.model.folder, dtype=torch.float32).eval()
    plain = {
        "base": base,
        "adapter": PeftModel.from_pretrained(
            AutoModelForCausalLM.from_pretrained(plan.model.folder, dtype=torch.float32),
            result.adapter,
        ).eval(),
    }
    for who, model in plain.items():
        scores = result.scores[who]
        for by_token, name in ((False, "likelihood"), (True, "likelihood_per_token")):
            expected = accuracy(model, tokenizer, pairs(10), by_token=by_token)
            assert scores[f"accuracy_{name}"] == pytest.approx(expected)
        assert {"accuracy_generated", "f1_macro_generated", "label_named"} < scores.keys()


def test_a_label_takes_the_place_of_the_answer(tmp_path: Path, tiny_model: TinyModel) -> None:
    recipe = write_recipe(tmp_path, tiny_model("llama"))
    rows = [chat_row(f"Text {number}", LABELS[number % 2]) for number in range(6)]
    write_rows(tmp_path / "rows.jsonl", rows)
    plan = plan_of(recipe)
    tokenizer = planned_tokenizer(plan)
    dataset = planned_dataset(plan, tokenizer)
    encoder = encoder_for(plan.task, tokenizer, max_length=100)
    choices = label_choices(dataset.train, LABELS, encoder, ["Be brief."])
    for row, answered in zip(dataset.train, choices, strict=True):
        own = LABELS.index(row.example.answer)
        for number, label in enumerate(LABELS):
            text = tokenizer.decode(answered[number].input_ids.tolist())
            assert text.startswith("<|im_start|>system\nBe brief.<|im_end|>")
            learnt = [each for each in answered[number].labels.tolist() if each >= 0]
            assert tokenizer.decode(learnt) == f"{label}<|im_end|>"
        assert answered[own].labels.tolist()[-8:] == row.tokens.labels.tolist()[-8:]


def test_what_a_decoder_writes_is_what_plain_transformers_writes(tmp_path: Path) -> None:
    answers = {"metric": "rouge_l", "max_new_tokens": 6, "batch_size": 3}
    plan = plan_of(
        write_case(tmp_path, "t5", evaluation={"path": "apart.jsonl", "answers": answers})
    )
    result, _ = train(plan)
    tokenizer = AutoTokenizer.from_pretrained(result.adapter)
    base = AutoModelForSeq2SeqLM.from_pretrained(plan.model.folder, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, result.adapter).eval()
    rows, written = sources_and_targets(8), []
    for row in rows:
        read = tokenizer(row["source"], return_tensors="pt")
        inputs = {"input_ids": read["input_ids"], "attention_mask": read["attention_mask"]}
        ids = model.generate(**inputs, max_new_tokens=6, do_sample=False)
        written.append(tokenizer.decode(ids[0], skip_special_tokens=True))
    lines = (tmp_path / "run/answers.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["adapter"] for line in lines] == written
    expected = overlap_figures(written, [row["target"] for row in rows])
    assert result.scores["adapter"]["rouge_l"] == pytest.approx(expected["rouge_l"])
