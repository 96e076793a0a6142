"""Answers to the evaluation rows: the right prompt and expectation, plain greedy decoding."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from pydantic import TypeAdapter
from transformers import AutoModelForCausalLM, AutoTokenizer

from lora_cli.adapters import AdapterSpec
from lora_cli.data.expected import expected_answer
from lora_cli.data.load import Row
from lora_cli.engine.answers import generate, prompt_of
from lora_cli.engine.prepare import planned_dataset, planned_tokenizer
from lora_cli.events import AnswersDone
from tests.engine.conftest import Finished
from tests.helpers.prompts import Prompted
from tests.helpers.runs import PLAIN_PEFT, of_kind, plan_of, train, write_recipe
from tests.helpers.tiny_models import chat_row, make_tokenizer, write_rows

TinyModel = Callable[[str], Path]


def lines_of(finished: Finished) -> list[dict[str, str]]:
    text = (finished.folder / "answers.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def greedy(model: Any, tokenizer: Any, prompt: str) -> str:
    """Answer as a user of transformers would."""
    inputs = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
    output = model.generate(**inputs, max_new_tokens=6, do_sample=False)
    return str(
        tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    )


@PLAIN_PEFT
def test_plain_peft_and_transformers_give_the_answers_of_the_run(finished: Finished) -> None:
    tokenizer = AutoTokenizer.from_pretrained(finished.adapter)
    model = AutoPeftModelForCausalLM.from_pretrained(finished.adapter, dtype=torch.float32)
    lines = lines_of(finished)
    assert len(lines) == finished.plan.evaluation.tokens.rows == 6
    adapter = [greedy(model, tokenizer, line["prompt"]) for line in lines]
    with model.disable_adapter():
        base = [greedy(model, tokenizer, line["prompt"]) for line in lines]
    assert [line["adapter"] for line in lines] == adapter
    assert [line["base"] for line in lines] == base
    assert adapter != base


def test_prompt_and_expectation_are_the_rows_own(finished: Finished) -> None:
    tokenizer = AutoTokenizer.from_pretrained(finished.adapter)
    text = Path(finished.plan.data.sources[0].files[0].file).read_text("utf-8")
    rows = [json.loads(line)["messages"] for line in text.splitlines()]
    pairs = {
        tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True): (
            turns[1]["content"]
        )
        for turns in rows
    }
    for line in lines_of(finished):
        assert pairs[line["prompt"]] == line["expected"]


def test_progress_is_told_for_both(finished: Finished) -> None:
    told = of_kind(finished.events, AnswersDone)
    assert told == [
        AnswersDone("base", 4, 6),
        AnswersDone("base", 6, 6),
        AnswersDone("adapter", 4, 6),
        AnswersDone("adapter", 6, 6),
    ]


def rows_of(folder: Path, base: Path, rows: list[dict[str, Any]], max_length: int) -> Sequence[Row]:
    training = {"max_length": max_length, "truncation": "tokens"}
    recipe = write_recipe(folder, base, training=training)
    write_rows(folder / "rows.jsonl", rows)
    plan = plan_of(recipe)
    return planned_dataset(plan, planned_tokenizer(plan)).train


LONG = chat_row("Hello?", "First answer.")["messages"] + chat_row("And?", "Second.")["messages"]


@pytest.mark.parametrize("max_length", [200, 48])
def test_a_conversation_is_asked_for_its_first_answer_whole_even_where_the_row_is_cut(
    tmp_path: Path, tiny_model: TinyModel, max_length: int
) -> None:
    """48 tokens end in the midst of the first answer."""
    (row,) = rows_of(tmp_path, tiny_model("llama"), [{"messages": LONG}], max_length)
    assert bool(row.tokens.cut_tokens) is (max_length == 48)
    prompt = make_tokenizer().decode(prompt_of(row))
    assert prompt == "<|im_start|>user\nHello?<|im_end|>\n<|im_start|>assistant\n"
    assert expected_answer(row, row.example, make_tokenizer(), [257]) == "First answer."


@pytest.mark.parametrize("max_length", [200, 9])
def test_a_completion_is_asked_for_from_the_end_of_its_prompt(
    tmp_path: Path, tiny_model: TinyModel, max_length: int
) -> None:
    pair = {"prompt": "2 + 2 =", "completion": " four"}
    (row,) = rows_of(tmp_path, tiny_model("llama"), [pair], max_length)
    assert make_tokenizer().decode(prompt_of(row)) == "2 + 2 ="
    assert row.example.answer == " four"


@pytest.fixture(scope="module")
def model(tiny_model: TinyModel) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_model("llama"), dtype=torch.float32).eval()


def test_padding_on_the_left_changes_no_answer(model: Any) -> None:
    tokenizer = make_tokenizer()
    texts = ("a", "Hello", "Some longer prompt than the others", "What is it?")
    prompts = [tokenizer.encode(text) for text in texts]
    together = generate(model, tokenizer, prompts, max_new_tokens=12)
    alone = [generate(model, tokenizer, [prompt], max_new_tokens=12)[0] for prompt in prompts]
    assert together == alone
    assert len(set(alone)) > 1


class Recorder:
    """Stands for a model: notes how it is called, and repeats one token."""

    device = "cpu"

    def __init__(self, own_ends: int | list[int] | None, context: int = 100) -> None:
        self.generation_config = type("Generation", (), {"eos_token_id": own_ends})
        self.config = type("Config", (), {"max_position_embeddings": context})
        self.called: dict[str, Any] = {}

    def generate(self, **options: Any) -> torch.Tensor:
        self.called = options
        new = torch.full((options["input_ids"].shape[0], options["max_new_tokens"]), 65)
        return torch.cat([options["input_ids"], new], dim=1)


@pytest.mark.parametrize(
    ("own", "expected"),
    [(None, [257]), (257, [257]), (3, [257, 3]), ([4, 257, 5], [257, 4, 5])],
)
def test_an_answer_ends_at_the_tokenizers_end_or_at_the_models(
    own: int | list[int] | None, expected: list[int]
) -> None:
    recorder = Recorder(own)
    generate(recorder, make_tokenizer(), [[1]], max_new_tokens=2)
    assert recorder.called["eos_token_id"] == expected
    assert recorder.called["do_sample"] is False


def test_prompts_are_padded_on_the_left_and_masked() -> None:
    recorder = Recorder(None)
    generate(recorder, make_tokenizer(), [[1, 2, 3], [9]], max_new_tokens=2)
    assert recorder.called["input_ids"].tolist() == [[1, 2, 3], [257, 257, 9]]
    assert recorder.called["attention_mask"].tolist() == [[1, 1, 1], [0, 0, 1]]
    assert recorder.called["pad_token_id"] == 257


def test_an_answer_never_leaves_the_models_context() -> None:
    recorder = Recorder(None, context=10)
    generate(recorder, make_tokenizer(), [[1] * 7], max_new_tokens=50)
    assert recorder.called["max_new_tokens"] == 3


@pytest.mark.parametrize("architecture", ["gpt2"])
def test_learnt_positions_are_not_overrun(
    tmp_path: Path, tiny_model: TinyModel, architecture: str
) -> None:
    """GPT-2 has no position after its context: it would break off with an IndexError."""
    recipe = write_recipe(
        tmp_path,
        tiny_model(architecture),
        training={"steps": 1, "batch_size": 1},
        evaluation={"split": 0.5, "answers": {"metric": "exact_match", "max_new_tokens": 40}},
    )
    write_rows(tmp_path / "rows.jsonl", [chat_row("x" * 210, "y") for _ in range(2)])
    _, events = train(plan_of(recipe))
    assert of_kind(events, AnswersDone)[-1] == AnswersDone("adapter", 1, 1)


@PLAIN_PEFT
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "qwen2"])
@pytest.mark.parametrize("variant", ["prompt_tuning", "p_tuning", "prefix_tuning"])
def test_virtual_tokens_answer_each_prompt_as_if_it_were_alone(
    tiny_model: TinyModel, architecture: str, variant: str
) -> None:
    """peft puts them in front of the padding: an answer would depend on its batch."""
    spec: Any = TypeAdapter(AdapterSpec).validate_python({"variant": variant, "virtual_tokens": 5})
    base = Prompted(tiny_model(architecture), architecture)
    model, tokenizer = base.adapted(spec).model.eval(), make_tokenizer()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4.0)  # a model that what comes before can sway
    prompts = [list(range(30, 47)), [60, 61, 62], [70]]
    alone = [generate(model, tokenizer, [prompt], max_new_tokens=12) for prompt in prompts]
    assert [[each] for each in generate(model, tokenizer, prompts, max_new_tokens=12)] == alone
    for prompt, answer in zip(prompts, alone, strict=True):
        with pytest.warns(match="Position ids") if variant != "prefix_tuning" else nullcontext():
            plain = model.generate(
                input_ids=torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
                max_new_tokens=12,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
            )
        assert answer == [tokenizer.decode(plain[0, len(prompt) :], skip_special_tokens=True)]
    with model.disable_adapter():
        as_base = generate(model, tokenizer, prompts, max_new_tokens=12)
    assert [[each] for each in as_base] != alone
    scaled = model.get_base_model().eval()
    assert generate(scaled, tokenizer, prompts, max_new_tokens=12) == as_base


@PLAIN_PEFT
@pytest.mark.parametrize("variant", ["prompt_tuning", "prefix_tuning"])
def test_answers_end_where_virtual_tokens_and_prompt_have_filled_the_context(
    tiny_model: TinyModel, variant: str
) -> None:
    spec: Any = TypeAdapter(AdapterSpec).validate_python({"variant": variant, "virtual_tokens": 50})
    model = Prompted(tiny_model("gpt2"), "gpt2").adapted(spec).model.eval()
    model.generation_config.eos_token_id = None
    (answer,) = generate(model, make_tokenizer(), [[40] * 200], max_new_tokens=99)
    assert len(answer) <= 256 - 250, "a token is a byte"
