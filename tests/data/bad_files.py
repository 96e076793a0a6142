"""Files of rows with something wrong in them, one kind each, and what is said of it.

`line` is where: 0 where the whole file is meant. What can be skipped is a row; what cannot be read
to its end is an error, whatever the recipe says.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GOOD = {"prompt": "2 + 2 =", "completion": "4"}
LINE = json.dumps(GOOD).encode() + b"\n"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


@dataclass(frozen=True)
class BadFile:
    """A file that is written as `name`, and the reason that its reading gives."""

    kind: str
    name: str
    content: bytes | Callable[[Path], object]
    line: int
    reason: str
    column: int = 0
    good: int = 0
    """Rows that are read all the same."""
    hint: str = ""

    def write(self, folder: Path) -> Path:
        """Write the file into `folder` and return its path."""
        path = folder / self.name
        if isinstance(self.content, bytes):
            path.write_bytes(self.content)
        else:
            self.content(path)
        return path


def parquet(rows: list[dict[str, Any]]) -> bytes:
    """Return a Parquet file in memory."""
    import pyarrow
    import pyarrow.parquet

    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return file.getvalue()


def arrow(rows: list[dict[str, Any]]) -> bytes:
    """Return an Arrow stream in memory."""
    import pyarrow

    table, file = pyarrow.Table.from_pylist(rows), io.BytesIO()
    with pyarrow.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    return file.getvalue()


def zstd(content: bytes) -> bytes:
    """Return what zstd makes of bytes."""
    import pyarrow

    return bytes(pyarrow.Codec("zstd").compress(content, asbytes=True))


def _same_column_twice(path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table([["a"], ["b"]], names=["text", "text"])
    pyarrow.parquet.write_table(table, path)


def _far_future(path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    when = pyarrow.array([0, 2**60, 0], pyarrow.timestamp("ms"))
    table = pyarrow.table({"prompt": ["a", "b", "c"], "at": when})
    pyarrow.parquet.write_table(table, path)


MANY = [{"prompt": f"{n} + {n} =", "completion": str(2 * n)} for n in range(2000)]
LINES = b"".join(json.dumps(row).encode() + b"\n" for row in MANY)
BOM = b"\xef\xbb\xbf"

BAD_ROWS = (
    BadFile("a line cut off", "a.jsonl", LINE + LINE[:30] + b"\n" + LINE, 2,
            "not JSON: a string that is not closed", 23, good=2),
    BadFile("single quotes", "a.jsonl", b"{'a': 1}\n", 1,
            "not JSON: Expecting property name enclosed in double quotes", 2),
    BadFile("two rows on a line", "a.jsonl", LINE.strip() * 2 + b"\n" + LINE, 1,
            "not JSON: Extra data", 41, good=1),
    BadFile("a comma after the row", "a.jsonl", LINE.strip() + b",\n", 1, "not JSON: Extra data",
            41),
    BadFile("a list", "a.jsonl", b"[1, 2]\n" + LINE, 1,
            "a row is a mapping of columns, not a list", good=1),
    BadFile("text alone", "a.jsonl", LINE + b'"text"\n', 2,
            "a row is a mapping of columns, not text", good=1),
    BadFile("null alone", "a.jsonl", b"null", 1, "a row is a mapping of columns, not null"),
    BadFile("a key twice", "a.jsonl", b'{"a": 1, "a": 2}\n' + LINE, 1,
            "not JSON: `a` is written twice in one mapping", good=1),
    BadFile("NaN", "a.jsonl", b'{"a": NaN}\n' + LINE, 1,
            "not JSON: `NaN` is no number of JSON", good=1),
    BadFile("a number without end", "a.jsonl", b'{"a": ' + b"9" * 5000 + b"}\n" + LINE, 1,
            "not JSON: a number of 5,000 digits is too long", good=1),
    BadFile("invalid UTF-8", "a.jsonl", LINE + b'{"a": "\xff"}\n' + LINE, 2,
            "not UTF-8 at byte 8 of the line", good=2),
    BadFile("Latin-1", "a.jsonl", '{"a": "é"}\n'.encode("latin-1") + LINE, 1,
            "not UTF-8 at byte 8 of the line", good=1),
    BadFile("a NUL byte", "a.jsonl", b'{"a": "\0"}\n' + LINE, 1,
            "a NUL character in the text", 8, good=1),
    BadFile("an escaped NUL", "a.jsonl", b'{"b": "\\\\u0000"}\n{"a": "b\\u0000"}\n' + LINE, 2,
            "a NUL character in the text", 9, good=2),
    BadFile("an escaped NUL in a list", "a.json", b'[{"a": 1},\n {"a": "b\\u0000"}]', 2,
            "a NUL character in the text (in the row at line 2, column 2)", good=1),
    BadFile("a block of NUL bytes, as a crash leaves", "a.jsonl", LINE + b"\0" * 100 + b"\n", 2,
            "a NUL character in the text", 1, good=1),
    BadFile("half a surrogate pair", "a.jsonl", b'{"a": "\\ud83d"}\n' + LINE, 1,
            "not JSON: half a character", good=1),
    BadFile("a nesting bomb", "a.jsonl", b'{"a":' + b"[" * 100_000 + b"\n" + LINE, 1,
            "not JSON that can be read: it is nested too deeply", good=1),
    BadFile("CR alone ends lines", "a.jsonl", LINE.strip() + b"\r" + LINE.strip() + b"\r", 1,
            "lines end in CR alone", 42),
    BadFile("a mark inside the file, of files joined", "a.jsonl", LINE + BOM + LINE, 2,
            "a byte order mark inside the file", 1, good=1),
    BadFile("random bytes", "a.jsonl", bytes(range(128, 256)), 1,
            "not UTF-8 at byte 1 of the line"),
    BadFile("a bad line in a packed file", "a.jsonl.gz", gzip.compress(LINE * 3 + b"{\n" + LINE), 4,
            "not JSON: Expecting property name", 2, good=4),
    BadFile("scalars in a list", "a.json", json.dumps([GOOD, 3, GOOD]).encode(), 2,
            "a row is a mapping of columns, not a number", good=2),
    BadFile("a list in a list", "a.json", b"[[1, 2]]", 1,
            "a row is a mapping of columns, not a list"),
    BadFile("a key twice in a list", "a.json", b'[{"a": 1},\n {"b": 1, "b": 2}, {"a": 2}]', 2,
            "not JSON: `b` is written twice in one mapping (in the row at line 2, column 2)",
            good=2),
    BadFile("NaN in a list", "a.json", b'[{"a": NaN}, {"a": 2}]', 1,
            "not JSON: `NaN` is no number of JSON", good=1),
    BadFile("invalid UTF-8 in a list", "a.json", b'[{"a": "\xff"}, {"a": "\xc3\xa9"}]', 1,
            "not JSON: text that is not UTF-8", good=1),
    BadFile("half a pair in a list", "a.json", b'[{"a": "x"}, {"a": "\\udead"}]', 2,
            "not JSON: half a character", good=1),
    BadFile("JSONL that is called JSON", "a.json", LINE + b'{"a": 1\n' + LINE, 2,
            "not JSON: Expecting ',' delimiter", 8, good=2),
    BadFile("JSONL called JSON, its first line broken", "a.json", b"{'a': 1}\n" + LINE, 1,
            "not JSON: Expecting property name", 2, good=1),
    BadFile("too many fields", "a.csv", b"prompt,completion\na,b,c\nd,e\n", 2,
            "3 fields, but the header names 2", good=1),
    BadFile("too few fields", "a.csv", b"prompt,completion\nd,e\na\n", 3,
            "1 field, but the header names 2", good=1),
    BadFile("a quote left open", "a.csv", b'a,b\n1,2\n3,"4\n5,6\n7,8\n', 3,
            "a quote is opened and never closed: lines 3 to 5 are lost", good=1),
    BadFile("a quote left open, and another later", "a.csv", b'a,b\n3,"4\n5,6\n7,"8"\n9,0\n', 2,
            "text follows a closing quote: lines 2 to 4 are lost", good=1),
    BadFile("a quote that is not doubled", "a.csv", b'a,b\n1,"so "they" said"\n3,4\n', 2,
            "text follows a closing quote: the line is lost", good=1),
    BadFile("a bad record after one of several lines", "a.csv", b'a,b\n1,"x\ny\nz"\n1\n2,3\n', 5,
            "1 field, but the header names 2", good=2),
    BadFile("a NUL in a table", "a.csv", b"a,b\n1,\0\n2,3\n", 2, "a NUL character", good=1),
    BadFile("invalid UTF-8 in a table", "a.csv", b"a,b\n1,\xff\n2,3\n", 2,
            "not UTF-8 at byte 3 of the line", good=1),
    BadFile("a tab in a text", "a.tsv", b"text\tlabel\na\tb\t1\nc\t0\n", 2,
            "3 fields, but the header names 2", good=1),
    BadFile("a line end in a text", "a.tsv", b'text\tlabel\n"a\nb"\t1\n', 2,
            "1 field, but the header names 2", good=1),
    BadFile("a NUL in a text", "a.txt", b"one\n\ntwo\nth\0ree\n\nfour\n", 4, "a NUL character", 3,
            good=2),
    BadFile("invalid UTF-8 in a text", "a.txt", b"one\ntwo \xff\nthree\n", 2,
            "not UTF-8 at byte 5 of the line", 5, good=2),
    BadFile("a date for which Python has none", "a.parquet", _far_future, 2,
            "column `at` (timestamp[ms]) cannot be read", good=2),
)  # fmt: skip
"""A row is wrong, and the others are read."""

BAD_FILES = (
    BadFile("UTF-16", "a.jsonl", '{"a": "é"}\n'.encode("utf-16"), 0, "is UTF-16 text, not UTF-8",
            hint="iconv"),
    BadFile("UTF-16 without a mark", "a.jsonl", LINE.decode().encode("utf-16-le"), 0,
            "looks like UTF-16 text without its mark", hint="iconv -f UTF-16LE -t UTF-8"),
    BadFile("big-endian UTF-16 without a mark", "a.csv", "a,é\n1,2\n".encode("utf-16-be"), 0,
            "looks like UTF-16 text without its mark", hint="iconv -f UTF-16BE -t UTF-8"),
    BadFile("an escaped NUL in columns", "a.json", b'{"a": ["b\\u0000"]}', 1,
            "not JSON: a NUL character in the text", 19),
    BadFile("UTF-16 from a spreadsheet", "a.tsv", b"\xfe\xff\0a", 0, "is UTF-16 text",
            hint="iconv"),
    BadFile("a picture", "a.jsonl", PNG, 0, "is a picture (PNG)"),
    BadFile("a photo", "a.txt", b"\xff\xd8\xff\xe0" + bytes(99), 0, "is a picture (JPEG)"),
    BadFile("a spreadsheet", "a.csv", b"PK\x03\x04" + bytes(99), 0, "is a zip archive",
            hint="save it as CSV"),
    BadFile("a pointer of Git LFS", "a.jsonl", b"version https://git-lfs.github.com/spec/v1\n", 0,
            "is a pointer of Git LFS", hint="git lfs pull"),
    BadFile("a pointer for Parquet", "a.parquet",
            b"version https://git-lfs.github.com/spec/v1\n", 0,
            "is a pointer of Git LFS", hint="git lfs pull"),
    BadFile("a web page", "a.json", b"<!DOCTYPE html><html>", 0, "is a web page, not data"),
    BadFile("packed without the suffix", "a.jsonl", gzip.compress(LINE), 0, "is packed with gzip",
            hint="call it .gz"),
    BadFile("Parquet without the suffix", "a.jsonl", b"PAR1" + bytes(99), 0, "is Parquet",
            hint="call it .parquet"),
    BadFile("no gzip", "a.jsonl.gz", LINE, 0, "cannot be unpacked: Not a gzipped file"),
    BadFile("no bzip2", "a.jsonl.bz2", LINE, 0, "cannot be unpacked: Invalid data stream"),
    BadFile("no xz", "a.jsonl.xz", LINE, 0, "cannot be unpacked: Input format not supported"),
    BadFile("no zstd", "a.jsonl.zst", LINE, 0, "cannot be unpacked: "),
    BadFile("gzip cut off", "a.jsonl.gz", gzip.compress(LINES)[:-2000], 0,
            "the packed file is cut off", hint="again"),
    BadFile("gzip with a broken byte", "a.csv.gz", gzip.compress(b"a\n" * 9)[:-6] + b"\1\2\3\4\5\6",
            0, "cannot be unpacked: CRC check failed"),
    BadFile("zstd cut off", "a.jsonl.zst", zstd(LINES)[:-9], 0, "cannot be unpacked: Truncated"),
    BadFile("bzip2 cut off", "a.jsonl.bz2", bz2.compress(LINES)[:-9], 0,
            "the packed file is cut off"),
    BadFile("xz cut off", "a.jsonl.xz", lzma.compress(LINES)[:-9], 0, "the packed file is cut off"),
    BadFile("a list cut off", "a.json", json.dumps(MANY).encode()[:-1], 1,
            "the JSON is cut off: its end is missing", 99225),
    BadFile("a list cut off in a text", "a.json", b'[\n{"a": "x"},\n{"a": "y', 3,
            "the JSON is cut off: its end is missing", 7),
    BadFile("no comma in a list", "a.json", b'[{"a": 1}\n {"a": 2}]', 2,
            "not JSON: Expecting ',' or ']' after a row", 2),
    BadFile("a comment in a list", "a.json", b'[{"a": 1}, # one\n {"a": 2}]', 1,
            "not JSON: Expecting value", 12),
    BadFile("text after a list", "a.json", b'[{"a": 1}]\n[{"a": 2}]', 2, "not JSON: Extra data", 1),
    BadFile("one number", "a.json", b"3.5", 1, "holds one value, not rows", 1,
            hint="a list of mappings"),
    BadFile("one text", "a.json", b'\n  "text"', 2, "holds one value, not rows", 3),
    BadFile("columns of different lengths", "a.json", b'{"a": [1, 2], "b": [1]}', 1,
            "not JSON: the columns are of different lengths: `a` 2 rows, `b` 1 row", 24),
    BadFile("columns as pandas writes them", "a.json", b'{"a": {"0": "x", "1": "y"}}', 1,
            'not JSON: pandas wrote columns of mappings: write it with orient="records"', 28),
    BadFile("a nesting bomb in a list", "a.json", b'[{"a":' + b"[" * 100_000, 1,
            "not JSON that can be read: it is nested too deeply", 2),
    BadFile("a column without a name", "a.csv", b",text\n0,hello\n", 1,
            "column 1 has no name in the header", hint="index=False"),
    BadFile("a name twice", "a.csv", b"text,label,text\na,b,c\n", 1,
            "two columns are called `text`"),
    BadFile("a header that is none", "a.tsv", b"a fine film\t1\na dull one\t0\n", 1,
            "the first line is no header: it holds `1`", hint="columns: [text, label]"),
    BadFile("a header that is no UTF-8", "a.csv", b"t\xff,b\n1,2\n", 1,
            "the header cannot be read: not UTF-8 at byte 2 of the line"),
    BadFile("Parquet cut off", "a.parquet", parquet(MANY)[:-100], 0,
            "is no Parquet file, or a broken"),
    BadFile("no Parquet", "a.parquet", LINE, 0, "is no Parquet file, or a broken one"),
    BadFile("an empty Parquet file", "a.parquet", b"", 0, "is no Parquet file, or a broken one"),
    BadFile("a column twice", "a.parquet", _same_column_twice, 0, "two columns are called `text`"),
    BadFile("Arrow cut off", "a.arrow", arrow(MANY)[:-9000], 0,
            "is no Arrow file, or a broken one"),
    BadFile("no Arrow", "a.arrow", LINE, 0, "is no Arrow file, or a broken one"),
    BadFile("an empty Arrow file", "a.arrow", b"", 0, "is no Arrow file, or a broken one"),
    BadFile("an unknown kind", "a.yaml", LINE, 0, "`a.yaml` is of no kind that is read",
            hint="kinds: "),
    BadFile("no suffix", "rows", LINE, 0, "`rows` is of no kind that is read"),
    BadFile("Parquet packed again", "a.parquet.gz", LINE, 0, "`a.parquet.gz` is of no kind"),
)  # fmt: skip
"""Nothing of the file is used."""

EMPTY = (
    BadFile("an empty file", "a.jsonl", b"", 0, ""),
    BadFile("blank lines", "a.jsonl", b"\n \r\n\t\n", 0, ""),
    BadFile("a mark alone", "a.jsonl", BOM, 0, ""),
    BadFile("an empty list", "a.json", b" [ ] ", 0, ""),
    BadFile("an empty document", "a.json", b"\n", 0, ""),
    BadFile("an empty table", "a.csv", b"", 0, ""),
    BadFile("a header alone", "a.csv", b"prompt,completion\n", 0, ""),
    BadFile("a header alone, of tabs", "a.tsv", b"prompt\tcompletion", 0, ""),
    BadFile("a blank text", "a.txt", b" \n\n\t\n", 0, ""),
    BadFile("nothing, packed", "a.jsonl.gz", gzip.compress(b""), 0, ""),
    BadFile("Parquet without rows", "a.parquet", parquet([GOOD])[:0] or parquet([]), 0, ""),
)  # fmt: skip
"""Files that are right, and hold no row."""
