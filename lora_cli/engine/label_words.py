"""How likely a model finds each label as the answer to a row: their log-likelihoods."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from lora_cli.data.encoding.encoder import Encoder
from lora_cli.data.encoding.tokenized_row import TokenizedRow
from lora_cli.data.rows import Rows
from lora_cli.errors import RunError
from lora_cli.formats import Conversation, Example, Pair, RowProblemError
from lora_cli.plan.run_plan import AnswersPlan
from lora_cli.step.evaluating import evaluating
from lora_cli.tasks.causal_lm import collate, log_likelihoods
from lora_cli.tasks.label_words import likelihood_figures

Scores = dict[str, dict[str, float]]
Choices = Sequence[Sequence[TokenizedRow]]
"""For each row, the row with each label in place of its answer."""
Likelihoods = list[list[tuple[float, int]]]
"""For each row and label, the log-likelihood of the answer's tokens, and how many they are."""


def compare_labels(
    model: Any, choices: Choices, expected: Sequence[str], plan: AnswersPlan, *, padding_id: int
) -> Scores:
    """Return {"base": figures, "adapter": figures} of the likeliest label of each row."""
    scores: Scores = {}
    labels = plan.labels or ()
    for who, adapter in (("base", model.disable_adapter()), ("adapter", nullcontext())):
        with adapter:
            likelihoods = label_likelihoods(
                model, choices, batch_size=plan.batch_size, padding_id=padding_id
            )
        scores[who] = likelihood_figures(likelihoods, expected, labels)
    return scores


def label_choices(
    rows: Rows, labels: Sequence[str], encoder: Encoder, system_prompts: Sequence[str | None]
) -> Choices:
    """Return what each row would be with each label for an answer.

    `system_prompts` are those of the rows' sources.

    Raises:
        RunError: a row has no room for one of the labels.
    """
    choices = []
    for row, example in zip(rows, rows.examples(), strict=True):
        try:
            answered = [_with_answer(example, label) for label in labels]
            prompt = system_prompts[row.source]
            choices.append([encoder.encode(each, prompt) for each in answered])
        except RowProblemError as problem:
            raise RunError(f"row {row.line} with a label: {problem}", row.file) from problem
    return choices


def _with_answer(example: Example, label: str) -> Example:
    """Return the example with another answer, which is its end."""
    if isinstance(example, Pair):
        space = example.completion[: len(example.completion) - len(example.completion.lstrip())]
        return replace(example, completion=space + label)
    assert isinstance(example, Conversation), "a plain text has no answer"
    number = next(n for n, turn in enumerate(example.messages) if turn.role == "assistant")
    turn = replace(example.messages[number], content=label, reasoning="", trained=True)
    return replace(example, messages=(*example.messages[:number], turn))


def label_likelihoods(
    model: Any, choices: Choices, *, batch_size: int, padding_id: int
) -> Likelihoods:
    """Return the log-likelihood of each row's labels, `batch_size` answers at once."""
    flat = [answer for row in choices for answer in row]
    found: list[tuple[float, int]] = []
    with evaluating(model):
        for start in range(0, len(flat), batch_size):
            part = flat[start : start + batch_size]
            pairs = [(answer.input_ids, answer.labels) for answer in part]
            batch = collate(pairs, padding_id=padding_id, device=model.device)
            sums = log_likelihoods(model, batch).tolist()
            found += [(value, each.supervised) for value, each in zip(sums, part, strict=True)]
    labels = len(choices[0])
    return [found[start : start + labels] for start in range(0, len(found), labels)]
