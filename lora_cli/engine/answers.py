"""Greedy answers to the evaluation rows, by the base and by the adapter, scored side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from lora_cli.data.load import Row
from lora_cli.engine.evaluate import evaluating
from lora_cli.events import AnswersDone, Report
from lora_cli.files import write_text
from lora_cli.plan.run_plan import AnswersPlan
from lora_cli.tasks.answers import score_answers

Scores = dict[str, dict[str, float]]


def compare_answers(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    plan: AnswersPlan,
    *,
    file: Path,
    report: Report,
) -> Scores:
    """Return {"base": figures, "adapter": figures}, and write each row's answers to `file`."""
    expected = [_expected(row, tokenizer) for row in rows]
    answers: dict[str, list[str]] = {}
    for who, adapter in (("base", model.disable_adapter()), ("adapter", nullcontext())):
        with evaluating(model), adapter:
            answers[who] = _generate(model, tokenizer, rows, plan, report=report, who=who)
    lines = [
        {"prompt": prompt, "expected": want, "base": base, "adapter": adapted}
        for prompt, want, base, adapted in zip(
            (tokenizer.decode(_prompt(row)) for row in rows),
            expected,
            answers["base"],
            answers["adapter"],
            strict=True,
        )
    ]
    write_text(file, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return {who: score_answers(plan.metric, given, expected) for who, given in answers.items()}


def _generate(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    plan: AnswersPlan,
    *,
    report: Report,
    who: str,
) -> list[str]:
    """Return the answers in the order of `rows`; like lengths are generated together."""
    order = sorted(range(len(rows)), key=lambda index: -rows[index].tokens.prompt_tokens)
    answers = [""] * len(rows)
    for start in range(0, len(order), plan.batch_size):
        batch = order[start : start + plan.batch_size]
        prompts = [_prompt(rows[index]) for index in batch]
        texts = generate(model, tokenizer, prompts, max_new_tokens=plan.max_new_tokens)
        for index, text in zip(batch, texts, strict=True):
            answers[index] = text
        report(AnswersDone(who, start + len(batch), len(rows)))
    return answers


def generate(
    model: Any, tokenizer: Any, prompts: Sequence[list[int]], *, max_new_tokens: int
) -> list[str]:
    """Return the greedy continuations of token ids, padded on the left, without special tokens."""
    import torch

    longest = max(len(prompt) for prompt in prompts)
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    padded = [[padding] * (longest - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    output = model.generate(
        input_ids=torch.tensor(padded, device=model.device),
        attention_mask=torch.tensor(mask, device=model.device),
        max_new_tokens=max_new_tokens,
        do_sample=False,
        pad_token_id=padding,
        eos_token_id=tokenizer.eos_token_id,
    )
    return list(tokenizer.batch_decode(output[:, longest:], skip_special_tokens=True))


def _prompt(row: Row) -> list[int]:
    ids: list[int] = row.tokens.input_ids[: row.tokens.prompt_tokens].tolist()
    return ids


def _expected(row: Row, tokenizer: Any) -> str:
    """Return the text of the answer that follows the prompt."""
    if row.example.messages:
        return next(m.content for m in row.example.messages if m.role == "assistant")
    return row.example.completion
