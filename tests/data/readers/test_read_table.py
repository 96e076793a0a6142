"""CSV and TSV: what a program writes is read back, each row with the line it begins in."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_cli.data.readers import open_file, read_table
from lora_cli.data.readers.raw_row import RawRow
from lora_cli.data.readers.read_table import read_csv, read_tsv
from lora_cli.errors import PlanError

# Python's writer does not quote a CR, which then ends a line
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=8)


def write(folder: Path, content: str, name: str = "rows.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode())
    return path


@settings(max_examples=40)
@given(
    rows=st.lists(st.tuples(TEXT, TEXT), max_size=6),
    end=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_what_csv_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], end: str, quoting: int
) -> None:
    file, lines = io.StringIO(newline=""), []
    writer = csv.writer(file, lineterminator=end, quoting=quoting)  # type: ignore[arg-type]
    writer.writerow(["text", "label"])
    for row in rows:
        lines.append(file.getvalue().count("\n") + 1)
        writer.writerow(row)
    path = write(tmp_path_factory.mktemp("csv"), file.getvalue())
    assert list(read_csv(path)) == [
        RawRow(line, {"text": text, "label": label})
        for line, (text, label) in zip(lines, rows, strict=True)
    ]


@given(rows=st.lists(st.tuples(TEXT, TEXT), max_size=6))
def test_a_tsv_holds_text_as_it_stands(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    kept = [[text.translate({9: " ", 10: " ", 13: " "}) for text in row] for row in rows]
    content = "".join("\t".join(row) + "\n" for row in [["a", "b"], *kept])
    path = write(tmp_path_factory.mktemp("tsv"), content, "rows.tsv")
    doubled = [row for row in kept if any('""' in text for text in row)]
    read = [list((row.columns or {}).values()) for row in read_tsv(path)]
    assert read == kept or doubled


def test_a_quote_is_text_in_tsv_unless_a_program_doubled_it(tmp_path: Path) -> None:
    content = 'text\tlabel\n"a fine" film\t1\n"all of it"\t0\n"so ""they"" said"\t1\n""\t"\n'
    texts = [row.columns for row in read_tsv(write(tmp_path, content, "a.tsv"))]
    assert texts == [
        {"text": '"a fine" film', "label": "1"},
        {"text": '"all of it"', "label": "0"},
        {"text": 'so "they" said', "label": "1"},
        {"text": '""', "label": '"'},
    ]


def test_the_recipe_names_the_columns_of_a_file_without_a_header(tmp_path: Path) -> None:
    names = ("text", "label")
    tsv = write(tmp_path, "a fine film\t1\n\na dull one\t0", "a.tsv")
    assert list(read_tsv(tsv, names)) == [
        RawRow(1, {"text": "a fine film", "label": "1"}),
        RawRow(3, {"text": "a dull one", "label": "0"}),
    ]
    table = write(tmp_path, '"a; ""b""",1\n"x\ny",2\n3\n')
    first, second, third = read_csv(table, names)
    assert first == RawRow(1, {"text": 'a; "b"', "label": "1"})
    assert second == RawRow(2, {"text": "x\ny", "label": "2"})
    assert third == RawRow(4, None, "1 field, but the recipe's `columns` names 2")


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_the_header_says_what_separates_fields(tmp_path: Path, mark: str) -> None:
    path = write(tmp_path, f"text{mark}label\na{mark}1\n")
    assert list(read_csv(path)) == [RawRow(2, {"text": "a", "label": "1"})]


def test_one_column_needs_no_separator(tmp_path: Path) -> None:
    path = write(tmp_path, 'text\n"a, b"\nc; d\n')
    assert [row.columns for row in read_csv(path)] == [{"text": "a, b"}, {"text": "c; d"}]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_line_end_and_a_mark_at_the_start(tmp_path: Path, end: str) -> None:
    path = write(tmp_path, "\ufeff" + end.join(["text, label ", "é,1", "", "b,2"]))
    assert list(read_csv(path)) == [
        RawRow(2, {"text": "é", "label": "1"}),
        RawRow(4, {"text": "b", "label": "2"}),
    ]


def test_names_that_are_numbers_are_names(tmp_path: Path) -> None:
    assert list(read_csv(write(tmp_path, "0,1\na,b\n"))) == [RawRow(2, {"0": "a", "1": "b"})]


def test_a_header_of_several_columns_is_suggested(tmp_path: Path) -> None:
    with pytest.raises(PlanError) as caught:
        list(read_csv(write(tmp_path, "one,2,three\n")))
    assert caught.value.problems[0].hint.endswith("`columns: [column_1, column_2, column_3]`")


def test_a_field_of_five_megabytes(tmp_path: Path) -> None:
    text = "x" * 5_000_000
    assert list(read_csv(write(tmp_path, f"a,b\n{text},1\n"))) == [RawRow(2, {"a": text, "b": "1"})]


def test_what_no_memory_should_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_file, "LONGEST_ROW", 1 << 20)
    monkeypatch.setattr(read_table, "LONGEST_ROW", 1 << 20)
    with pytest.raises(PlanError, match=r"rows\.csv:3: a line of over 1 MB"):
        list(read_csv(write(tmp_path, "a,b\n1,2\n" + "x" * (2 << 20))))
    with pytest.raises(PlanError, match=r"rows\.csv:2: a quoted field is not closed within 1 MB"):
        list(read_csv(write(tmp_path, 'a,b\n"' + "1,2\n" * (1 << 19))))
