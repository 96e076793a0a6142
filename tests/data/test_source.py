"""One file: every row is kept or dropped with a reason, and a bad one stops the plan if it must."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_cli.data.encoding.tokenize import Masking, Tokenizer
from lora_cli.data.rows import Rows
from lora_cli.data.source import RowSource, load_source
from lora_cli.errors import PlanError, Problem, Where
from lora_cli.facts.dataset import FileFacts, SourceFacts
from tests.helpers.tiny_models import chat_row, make_tokenizer, write_rows

TOKENIZER = Tokenizer(make_tokenizer(), max_length=64, masking=Masking(truncation="tokens"))
GOOD = {"prompt": "Q: ", "completion": "yes"}
ROWS: dict[str, Any] = {
    "good": GOOD,
    "empty": {"prompt": "Q: ", "completion": " "},
    "missing": {"prompt": "Q: ", "reply": "yes"},
    "number": {"prompt": "Q: ", "completion": 3},
    "too long": {"prompt": "Q" * 64, "completion": "yes"},
}


def load(*paths: Path, **options: Any) -> tuple[Rows, SourceFacts]:
    rows, facts = load_source(RowSource(paths, **options), TOKENIZER)
    return Rows([rows]), facts


def problems_of(path: Path, **options: Any) -> tuple[Problem, ...]:
    with pytest.raises(PlanError) as caught:
        load(path, **options)
    return caught.value.problems


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rows.jsonl"


@settings(max_examples=30, deadline=None)  # each writes files to the disk
@given(files=st.lists(st.lists(st.sampled_from(sorted(ROWS)), max_size=6), max_size=3))
def test_rows_in_are_rows_kept_and_dropped(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[str]]
) -> None:
    folder = tmp_path_factory.mktemp("source")
    first = write_rows(folder / "first.jsonl", [GOOD])
    paths = [
        write_rows(folder / f"{number}.jsonl", [ROWS[kind] for kind in kinds])
        for number, kinds in enumerate(files)
    ]
    kept, facts = load(first, *paths, on_bad_row="skip")
    places = {
        (str(path), line): kind
        for path, kinds in zip(paths, files, strict=True)
        for line, kind in enumerate(kinds, 1)
    }
    bad = [place for place, kind in places.items() if kind != "good"]
    assert facts.rows == len(places) + 1
    assert sorted((row.file, row.line) for row in facts.dropped.first) == sorted(bad)
    assert facts.dropped.count == len(bad) == sum(count for _, count in facts.dropped.by_reason)
    assert facts.kept == len(kept) == facts.rows - len(bad)
    used = [(row.file, row.line) for row in kept]
    assert sorted([*bad, *used]) == sorted([*places, (str(first), 1)])


def test_a_row_that_is_too_long_is_dropped_and_told_but_stops_nothing(path: Path) -> None:
    write_rows(path, [GOOD, ROWS["too long"], GOOD])
    rows, facts = load(path, on_bad_row="error")
    assert (len(rows), facts.kept, facts.dropped.count) == (2, 2, 1)
    assert facts.dropped.first[0].line == 2
    write_rows(path, [ROWS["too long"]] * 12)
    *_, rest = problems_of(path)
    assert rest.message == "2 more rows cannot be used"
    assert rest.hint.startswith("raise `training.max_length`, or keep beginnings with")


def test_each_drop_has_its_place_and_reason(path: Path) -> None:
    path.write_text('{"prompt": "Q"\n' + "\n".join(json.dumps(row) for row in ROWS.values()))
    _, facts = load(path, on_bad_row="skip")
    assert [(row.line, row.column, row.reason) for row in facts.dropped.first] == [
        (1, 15, "not JSON: Expecting ',' delimiter"),
        (3, 0, "column `completion` is empty"),
        (4, 0, "column `completion` is missing"),
        (5, 0, "column `completion` holds a number, not text"),
        (6, 0, "nothing of the answer is left within 64 tokens (the row has 68)"),
    ]
    assert {row.file for row in facts.dropped.first} == {str(path)}


def test_the_facts_name_the_file_and_its_content(path: Path) -> None:
    write_rows(path, [{"id": 1, **GOOD}])
    rows, facts = load(path)
    assert facts.files == (FileFacts(str(path), hashlib.sha256(path.read_bytes()).hexdigest()),)
    assert (facts.format, facts.evidence) == (
        "prompt_completion",
        "the columns are `id`, `prompt`, `completion`",
    )
    assert facts.unused_columns == ("id",)
    assert (rows[0].file, rows[0].line) == (str(path), 1)
    assert rows[0].example.answer == "yes"


def test_a_bad_row_stops_the_plan_with_file_line_and_column(path: Path) -> None:
    path.write_text(json.dumps(GOOD) + '\n{"prompt": \n')
    (problem,) = problems_of(path)
    assert problem.where == Where(str(path), 2, 12)
    assert problem.message == "not JSON: Expecting value"
    assert problem.hint == "mend them, or leave them out with `on_bad_row: skip` under `dataset`"


def test_ten_bad_rows_are_listed_and_the_rest_counted(path: Path) -> None:
    write_rows(path, [GOOD] + [ROWS["empty"]] * 13)
    problems = problems_of(path)
    assert [problem.where.line for problem in problems] == [*range(2, 12), 0]
    assert problems[-1].message == "3 more rows cannot be used"
    assert sum(problem.count for problem in problems) == 13
    assert [bool(problem.hint) for problem in problems] == [False] * 10 + [True]


def test_no_row_left_is_an_error_even_where_rows_are_skipped(path: Path) -> None:
    write_rows(path, [ROWS["empty"], ROWS["number"]])
    problems = problems_of(path, on_bad_row="skip", format="prompt_completion")
    assert [problem.where.line for problem in problems] == [1, 2]
    assert problems[-1].hint == "no row is left: all were dropped"


def test_a_file_of_no_json_at_all(path: Path) -> None:
    path.write_text("some\nprose\n")
    assert [str(problem.where) for problem in problems_of(path, on_bad_row="skip")] == [
        f"{path}:1:1",
        f"{path}:2:1",
    ]


@pytest.mark.parametrize("text", [json.dumps([GOOD]), json.dumps([GOOD, GOOD], indent=1)])
def test_a_json_list_is_told_from_jsonl(path: Path, text: str) -> None:
    path.write_text(text)
    assert problems_of(path)[-1].hint == (
        "the file is one JSON list: call it .json, or write one mapping a line"
    )


def test_an_empty_file(path: Path) -> None:
    path.write_text("\n\n")
    (problem,) = problems_of(path)
    assert (problem.message, problem.where.file) == ("holds no rows", str(path))


def test_a_file_that_cannot_be_read(path: Path) -> None:
    path.mkdir()
    assert problems_of(path)[0].message == "cannot be read: Is a directory"


def test_max_rows_takes_the_first_ones_bad_or_good(path: Path) -> None:
    write_rows(path, [GOOD, ROWS["empty"], GOOD, GOOD])
    kept, facts = load(path, max_rows=3, on_bad_row="skip")
    assert [row.line for row in kept] == [1, 3]
    assert (facts.rows, facts.kept) == (3, 2)
    assert load(path, max_rows=1)[1].rows == 1, "the bad row is not looked at"


def test_conversations_need_a_chat_template(path: Path) -> None:
    write_rows(path, [chat_row("a", "b")])
    tokenizer = make_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(PlanError, match="the model's tokenizer has no chat template"):
        load_source(RowSource((path,)), Tokenizer(tokenizer, max_length=64))


def test_a_named_format_is_taken_at_its_word(path: Path) -> None:
    write_rows(path, [{**GOOD, **chat_row("a", "b")}])
    for name in ("messages", "prompt_completion"):
        _, facts = load(path, format=name)
        assert (facts.format, facts.evidence) == (name, "named in the recipe")


def test_the_system_prompt_reaches_the_rows(path: Path) -> None:
    write_rows(path, [chat_row("a", "b")])
    (plain,), _ = load(path)
    (prompted,), _ = load(path, system_prompt="Be it.")
    assert prompted.tokens.prompt_tokens > plain.tokens.prompt_tokens
