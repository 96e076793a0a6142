"""Greedy answers to the evaluation rows, by the base and by the adapter, scored side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_cli.data.expected import expected_answer, without_thoughts
from lora_cli.data.rows import Row, Rows
from lora_cli.events import AnswersDone, Report
from lora_cli.facts.tokenizer import padding_id
from lora_cli.files import write_text
from lora_cli.plan.run_plan import AnswersPlan
from lora_cli.step.evaluating import evaluating
from lora_cli.tasks.answers import score_answers

if TYPE_CHECKING:
    import torch

Scores = dict[str, dict[str, float]]


def compare_answers(
    model: Any,
    tokenizer: Any,
    rows: Rows,
    plan: AnswersPlan,
    *,
    file: Path,
    report: Report,
) -> Scores:
    """Return {"base": figures, "adapter": figures}, and write each row's answers to `file`."""
    answers: dict[str, list[str]] = {}
    for who, adapter in (("base", model.disable_adapter()), ("adapter", nullcontext())):
        with evaluating(model), adapter:
            answers[who] = _answer_all(model, tokenizer, rows, plan, report=report, who=who)
    examples = zip(rows, rows.examples(), strict=True)
    ends = _end_tokens(model, tokenizer)
    expected = [expected_answer(row, example, tokenizer, ends) for row, example in examples]
    lines = [
        {
            "prompt": tokenizer.decode(prompt_of(row)),
            "expected": expected[index],
            "base": answers["base"][index],
            "adapter": answers["adapter"][index],
        }
        for index, row in enumerate(rows)
    ]
    write_text(file, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    labels = plan.labels or ()
    spoken = {who: [without_thoughts(each) for each in given] for who, given in answers.items()}
    return {
        who: score_answers(plan.metric, given, expected, labels) for who, given in spoken.items()
    }


def _answer_all(
    model: Any,
    tokenizer: Any,
    rows: Rows,
    plan: AnswersPlan,
    *,
    report: Report,
    who: str,
) -> list[str]:
    """Return the answers, generated in the order of `rows`, `batch_size` at once.

    In bfloat16 an answer can depend on what else is in its batch: the plain order and size are
    what a user needs to get the same answers from plain transformers.
    """
    answers: list[str] = []
    for start in range(0, len(rows), plan.batch_size):
        prompts = [prompt_of(row) for row in rows[start : start + plan.batch_size]]
        answers += generate(model, tokenizer, prompts, max_new_tokens=plan.max_new_tokens)
        report(AnswersDone(who, len(answers), len(rows)))
    return answers


def generate(
    model: Any, tokenizer: Any, prompts: Sequence[list[int]], *, max_new_tokens: int
) -> list[str]:
    """Return the greedy continuations of token ids, padded on the left, without special tokens.

    They end at the tokenizer's end token or at one of the model's own; at the end of the model's
    context at the latest. An encoder reads its prompt whole, and its decoder writes a text of its
    own.
    """
    import torch

    if getattr(model.config, "is_encoder_decoder", False):
        return _write_for(model, tokenizer, prompts, max_new_tokens=max_new_tokens)
    longest = max(len(prompt) for prompt in prompts)
    prompt = _active_prompt(model)
    taken = longest + (prompt.num_virtual_tokens if prompt else 0)
    context = getattr(model.config, "max_position_embeddings", None) or taken + max_new_tokens
    ends = _end_tokens(model, tokenizer)
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else ends[0]
    padded = [[padding] * (longest - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    ids, seen = (torch.tensor(each, device=model.device) for each in (padded, mask))
    how = {
        "max_new_tokens": min(max_new_tokens, context - taken),
        "do_sample": False,
        "pad_token_id": padding,
        "eos_token_id": ends,
    }
    if prompt and prompt.peft_type != "PREFIX_TUNING":
        written = model.get_base_model().generate(**_embedded(model, ids, seen), **how)
    else:
        written = model.generate(input_ids=ids, attention_mask=seen, **how)[:, longest:]
    return list(tokenizer.batch_decode(written, skip_special_tokens=True))


def _write_for(
    model: Any, tokenizer: Any, sources: Sequence[list[int]], *, max_new_tokens: int
) -> list[str]:
    """Return what a decoder writes for each source; padded on the right, as in training."""
    import torch

    longest = max(len(source) for source in sources)
    padding = padding_id(tokenizer)
    padded = [source + [padding] * (longest - len(source)) for source in sources]
    mask = [[1] * len(source) + [0] * (longest - len(source)) for source in sources]
    context = getattr(model.config, "max_position_embeddings", None) or max_new_tokens + 1
    written = model.generate(
        input_ids=torch.tensor(padded, device=model.device),
        attention_mask=torch.tensor(mask, device=model.device),
        max_new_tokens=min(max_new_tokens, context - 1),
        do_sample=False,
        num_beams=1,
        pad_token_id=padding,
        eos_token_id=_end_tokens(model, tokenizer),
    )
    return list(tokenizer.batch_decode(written, skip_special_tokens=True))


def _active_prompt(model: Any) -> Any:
    """Return peft's configuration of an adapter that puts vectors in front and is not disabled."""
    config = getattr(model, "active_peft_config", None)
    active = config and config.is_prompt_learning and model.has_active_enabled_adapter
    return config if active else None


def _embedded(model: Any, ids: torch.Tensor, seen: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return prompts as embeddings, the adapter's own between the padding and each prompt.

    peft puts its own in front of the padding: an answer would depend on what else is in its batch.
    """
    import torch

    embedded = model.get_input_embeddings()(ids)
    virtual = model.get_prompt(batch_size=len(ids)).to(embedded)
    pads = (seen == 0).sum(dim=1).tolist()
    rows = [torch.cat((e[:n], v, e[n:])) for e, v, n in zip(embedded, virtual, pads, strict=True)]
    longer = torch.cat((seen, torch.ones_like(virtual[..., 0], dtype=seen.dtype)), dim=1)
    return {"inputs_embeds": torch.stack(rows), "attention_mask": longer}


def _end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Return the tokens that end an answer: the tokenizer's, then the model's others."""
    own = model.generation_config.eos_token_id
    others = own if isinstance(own, list) else [own]
    return list(dict.fromkeys(end for end in (tokenizer.eos_token_id, *others) if end is not None))


def prompt_of(row: Row) -> list[int]:
    """Return the tokens before the first that is trained on: what an answer is generated from."""
    ids: list[int] = row.tokens.input_ids[: row.tokens.prompt_tokens].tolist()
    return ids
