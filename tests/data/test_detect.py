"""Which format a file is in, and on what evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lora_cli.data.detect import SAMPLE, detect_format, unused_columns
from lora_cli.data.format_wish import CAUSAL_LM, Wish
from lora_cli.data.readers.read import RawRow
from lora_cli.errors import PlanError, Where
from lora_cli.formats import FORMATS, LabelledText, LabelledTokens, SourceTarget

FILE = Path("rows.jsonl")
CHAT: dict[str, Any] = {"messages": []}
PAIR = {"prompt": "a", "completion": "b"}
ALL_KINDS = (*CAUSAL_LM, LabelledText, LabelledTokens, SourceTarget)


def raw(*columns: dict[str, Any] | None) -> list[RawRow]:
    return [RawRow(line, row, "" if row else "bad") for line, row in enumerate(columns, 1)]


def problem_of(*columns: dict[str, Any] | None, **wish: Any) -> str:
    with pytest.raises(PlanError) as caught:
        detect_format(FILE, raw(*columns), Wish(**wish))
    return str(caught.value)


@pytest.mark.parametrize(
    ("row", "name", "evidence"),
    [
        (CHAT, "messages", "the columns are `messages`"),
        (PAIR, "prompt_completion", "the columns are `prompt`, `completion`"),
        ({"id": 1, **PAIR}, "prompt_completion", "the columns are `id`, `prompt`, `completion`"),
    ],
)
def test_the_columns_tell_the_format(row: dict[str, Any], name: str, evidence: str) -> None:
    detected = detect_format(FILE, raw(row))
    assert (detected.format, detected.evidence) == (name, evidence)
    assert detected.row_format == FORMATS[name]


@pytest.mark.parametrize(
    ("columns", "name"),
    [
        ("conversations", "sharegpt"),
        ("instruction output", "alpaca"),
        ("instruction input output", "alpaca"),
        ("instruction context response category", "alpaca"),
        ("input output", "prompt_completion"),
        ("prompt response", "prompt_completion"),
        ("question answer", "question_answer_context"),
        ("id question context answer", "question_answer_context"),
        ("query response type", "question_answer_context"),
        ("text", "text"),
        ("content url", "text"),
        ("text label", "labelled_text"),
        ("idx sentence label", "labelled_text"),
        ("premise hypothesis label", "labelled_text"),
        ("sentence1 sentence2 label", "labelled_text"),
        ("tokens ner_tags", "labelled_tokens"),
        ("words tags", "labelled_tokens"),
        ("article highlights id", "source_target"),
        ("document summary", "source_target"),
        ("translation", "source_target"),
    ],
)
def test_well_known_columns(columns: str, name: str) -> None:
    row = dict.fromkeys(columns.split(), "x")
    found = detect_format(FILE, raw(row), Wish(kinds=ALL_KINDS))
    assert found.format == name


@pytest.mark.parametrize(
    ("column", "turn", "name"),
    [
        ("messages", {"from": "human", "value": "a"}, "sharegpt"),
        ("conversations", {"role": "user", "content": "a"}, "messages"),
    ],
)
def test_turns_outweigh_the_name_of_their_column(
    column: str, turn: dict[str, str], name: str
) -> None:
    assert detect_format(FILE, raw({column: [turn]})).format == name


def test_rows_that_fit_nothing_do_not_decide() -> None:
    assert detect_format(FILE, raw(None, {"note": 1}, CHAT)).format == "messages"


def test_only_the_first_rows_are_looked_at() -> None:
    assert detect_format(FILE, raw(*[PAIR] * SAMPLE, CHAT)).format == "prompt_completion"
    assert "line 1000" in problem_of(*[PAIR] * (SAMPLE - 1), CHAT)


def test_no_format_fits() -> None:
    hint = "say which is which with `dataset.columns`, or write a `dataset.template`; formats and"
    known = "messages: messages; sharegpt: conversations; alpaca: instruction, output; "
    known += "prompt_completion: prompt, completion; question_answer_context: question, answer; "
    assert problem_of({"Q": "a", "A": "b"}) == (
        f"rows.jsonl: the columns `Q`, `A` fit no format ({hint} their columns: {known}text: text)"
    )
    assert "the columns (none) fit no format" in problem_of({})


def test_names_in_another_case_are_named() -> None:
    said = problem_of({"Prompt": "1 + 1", "Completion": "2", "Id": 3})
    assert "fit no format (they differ in case alone: write" in said
    assert "`columns: {prompt: Prompt, completion: Completion}` under `dataset`" in said
    assert problem_of({"Q": "a"}, kinds=(LabelledTokens,)).endswith(
        "formats and their columns: labelled_tokens: tokens, tags)"
    )


def test_rows_that_are_of_another_task() -> None:
    assert problem_of({"text": "a", "label": 1, "id": 2}) == (
        "rows.jsonl: the columns `label`, `text` are labelled_text, which this task does not take "
        "(name another `task`, one of the formats with `dataset.format`, or write a "
        "`dataset.template`; this task takes: messages, sharegpt, alpaca, prompt_completion, "
        "question_answer_context, text)"
    )


def test_a_row_that_fits_two_formats() -> None:
    assert problem_of({**CHAT, **PAIR}) == (
        "rows.jsonl: the rows fit more than one format: messages (line 1) and prompt_completion "
        "(line 1) (write `format: messages` or `format: prompt_completion` under `dataset`)"
    )


def test_rows_of_two_formats() -> None:
    assert "messages (line 1) and prompt_completion (line 3)" in problem_of(CHAT, CHAT, PAIR)


def test_the_task_narrows_the_choice() -> None:
    row = {**PAIR, "text": "a", "label": 1}
    assert detect_format(FILE, raw(row), Wish(kinds=(LabelledText,))).format == "labelled_text"


def test_a_format_that_is_named_needs_no_evidence() -> None:
    found = detect_format(FILE, raw({**CHAT, **PAIR}), Wish(format="messages"))
    assert (found.format, found.evidence) == ("messages", "named in the recipe")
    assert detect_format(FILE, raw(None), Wish(format="messages")).format == "messages"


def test_a_format_of_which_no_row_has_the_columns() -> None:
    places = {"format": Where("r.yaml", 5, 11, "dataset.format")}
    wish: dict[str, Any] = {"format": "alpaca", "places": places}
    assert problem_of({"instruction": "a", "reply": "b"}, **wish) == (
        "r.yaml:5:11 dataset.format: no row has the column `output` of the format alpaca (the "
        "columns are `instruction`, `reply`: say which is which with `dataset.columns: "
        "{output: …}`)"
    )
    assert "no row has the columns `instruction`, `output` of" in problem_of({"q": "a"}, **wish)


def test_a_later_row_that_lacks_a_column_is_its_own_problem() -> None:
    found = detect_format(FILE, raw({"prompt": "a"}, PAIR), Wish(format="prompt_completion"))
    assert found.row_format.example(PAIR).answer == "b"


def test_a_format_of_another_task() -> None:
    places = {"format": Where("r.yaml", 5, 11, "dataset.format")}
    wish: dict[str, Any] = {"kinds": (SourceTarget,), "places": places}
    assert problem_of(PAIR, format="prompt_completion", **wish) == (
        "r.yaml:5:11 dataset.format: the task cannot learn from rows of the format "
        "prompt_completion (formats that it takes: source_target; or name another `task`)"
    )
    template = {"text": "{{ prompt }}"}
    assert "rows of the format template" in problem_of(PAIR, template=template, **wish)


def test_columns_that_could_each_be_the_same_one() -> None:
    row = {"tokens": ["a"], "ner_tags": [0], "pos_tags": [1]}
    wish: dict[str, Any] = {"kinds": (LabelledTokens,)}
    message = "the columns `ner_tags` and `pos_tags` could each be the `tags` of labelled_tokens"
    assert problem_of(row, **wish).startswith(f"rows.jsonl: {message}: name one with")
    assert message in problem_of(row, format="labelled_tokens", **wish)
    named = detect_format(FILE, raw(row), Wish(columns={"tags": "ner_tags"}, **wish))
    assert named.row_format.example(row).answer == "0"


def test_columns_that_are_named_tell_the_format() -> None:
    row = {"q": "a", "r": "b", "text": "c"}
    found = detect_format(FILE, raw(row), Wish(columns={"prompt": "q", "completion": "r"}))
    assert (found.format, found.row_format.example(row).answer) == ("prompt_completion", "b")


def test_a_template_is_the_format() -> None:
    template = {"prompt": "{{ a }}", "completion": "{{ b }}"}
    found = detect_format(FILE, raw({"a": "x", "b": "y"}), Wish(template=template))
    assert (found.format, found.evidence) == ("template", "`dataset.template` is given")
    assert found.row_format.example({"a": "x", "b": "y"}).answer == "y"


def test_columns_that_are_not_read_are_named_once() -> None:
    pair, chat = FORMATS["prompt_completion"], FORMATS["messages"]
    assert unused_columns(pair, ["id", "prompt", "completion", "source", "id"]) == ("id", "source")
    assert unused_columns(chat, ["messages", "tools"]) == ()
    assert unused_columns(pair.with_columns({"prompt": "q"}), ["q", "prompt", "output"]) == (
        "prompt",
    )
    nested = FORMATS["source_target"].with_columns({"source": "t.en", "target": "t.fr"})
    assert unused_columns(nested, ["t", "id"]) == ("id",)
