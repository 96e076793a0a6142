"""Plain text: paragraphs where there are any, else lines; nothing of it is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_cli.data.readers import open_file
from lora_cli.data.readers import read_text as module
from lora_cli.data.readers.raw_row import RawRow
from lora_cli.data.readers.read_text import read_text
from lora_cli.errors import PlanError


def read(folder: Path, content: str) -> list[RawRow]:
    path = folder / "a.txt"
    path.write_bytes(content.encode())
    return list(read_text(path))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_row_is_a_paragraph(tmp_path: Path, end: str) -> None:
    lines = ["", "One", "  and more.", "", " \t", "Two.", "", "Three", ""]
    assert read(tmp_path, end.join(lines)) == [
        RawRow(2, {"text": f"One{end}  and more."}),
        RawRow(6, {"text": "Two."}),
        RawRow(8, {"text": "Three"}),
    ]


def test_without_paragraphs_a_row_is_a_line(tmp_path: Path) -> None:
    rows = [RawRow(2, {"text": "One"}), RawRow(3, {"text": " two "}), RawRow(4, {"text": "three"})]
    assert read(tmp_path, "\nOne\n two \nthree\n\n \n") == rows


@given(lines=st.lists(st.sampled_from(["", " ", "a", "b c", "\té"]), max_size=9))
def test_no_text_is_lost(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    rows = read(tmp_path_factory.mktemp("text"), "\n".join(lines))
    texts = [line for row in rows for line in (row.columns or {})["text"].split("\n")]
    assert texts == [line for line in lines if line.strip()]
    for row in rows:
        assert (row.columns or {})["text"].startswith(lines[row.line - 1])


def test_what_no_memory_should_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_file, "LONGEST_ROW", 1 << 10)
    monkeypatch.setattr(module, "LONGEST_ROW", 1 << 10)
    with pytest.raises(PlanError, match=r"a\.txt:1: a line of over 0 MB"):
        read(tmp_path, "x" * 2000)
    with pytest.raises(PlanError, match=r"a\.txt:3: a paragraph of over 0 MB"):
        read(tmp_path, "a\n\n" + "x\n" * 2000)
