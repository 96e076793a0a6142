"""A file of rows → its bytes: unpacked, without a byte order mark, and known to be text.

What cannot be read to its end raises: nobody can say how many rows are lost, so that `on_bad_row`
has nothing to count. This module does not know rows.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, TextIO

from lora_cli.data.readers.raw_row import LONGEST_ROW
from lora_cli.errors import MissingDependencyError, PlanError, Where
from lora_cli.words import reason_of

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
NUL = "a NUL character in the text"
ARROW_INSTALL = "pip install 'loracli[arrow]'"

_SIGNATURES = {
    b"\xff\xfe": ("UTF-16 text, not UTF-8", "iconv -f UTF-16 -t UTF-8 FILE > NEW"),
    b"\xfe\xff": ("UTF-16 text, not UTF-8", "iconv -f UTF-16 -t UTF-8 FILE > NEW"),
    b"version https://git-lfs": ("a pointer of Git LFS, not the file itself", "git lfs pull"),
    b"<!DOCTYPE": ("a web page, not data", "download the file itself, not the page about it"),
    b"<html": ("a web page, not data", "download the file itself, not the page about it"),
    b"\x1f\x8b": ("packed with gzip", "call it .gz, or unpack it"),
    b"BZh": ("packed with bzip2", "call it .bz2, or unpack it"),
    b"\xfd7zXZ\0": ("packed with xz", "call it .xz, or unpack it"),
    b"\x28\xb5\x2f\xfd": ("packed with zstd", "call it .zst, or unpack it"),
    b"PK\x03\x04": ("a zip archive (or a spreadsheet)", "call it .zip, or save it as CSV"),
    b"PAR1": ("Parquet", "call it .parquet"),
    b"ARROW1": ("Arrow", "call it .arrow"),
    b"\x89PNG": ("a picture (PNG)", ""),
    b"\xff\xd8\xff": ("a picture (JPEG)", ""),
    b"GIF8": ("a picture (GIF)", ""),
    b"%PDF": ("a PDF", "take its text out first"),
    b"SQLite format 3\0": ("a SQLite database", "write its table as CSV"),
}
"""How files begin that are not what their name says, what they are, and what to do."""


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Give the file's bytes for reading, unpacked as its suffix says.

    Raises:
        PlanError: it cannot be opened or unpacked, or is no text in UTF-8; also while it is read.
    """
    try:
        with _unpacked(path) as raw, io.BufferedReader(raw, 1 << 18) as file:
            check_signature(path, file.peek(64))
            _check_not_utf16(path, file.peek(64)[:64])
            if file.peek(3).startswith(BYTE_ORDER_MARK):
                file.read(len(BYTE_ORDER_MARK))
            yield file
    except EOFError as error:
        raise _broken(path, "the packed file is cut off: its end is missing") from error
    except (zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise _broken(path, f"cannot be unpacked: {reason_of(error)}") from error
    except OSError as error:
        if error.errno is None:  # what bz2 and zstd say of their content
            raise _broken(path, f"cannot be unpacked: {reason_of(error)}") from error
        raise unreadable(path, error) from error


@contextmanager
def opened_text(path: Path) -> Iterator[TextIO]:
    """Give the file's text with its line ends; bytes that are no UTF-8 are surrogates in it.

    Raises:
        PlanError: as for `opened`.
    """
    with (
        opened(path) as file,
        io.TextIOWrapper(file, "utf-8", "surrogateescape", newline="") as text,
    ):
        yield text


def unreadable(path: Path, error: Exception) -> PlanError:
    """Return the error of a file that cannot be read."""
    reason = getattr(error, "strerror", None) or reason_of(error)
    return PlanError(f"cannot be read: {reason}", str(path))


def lines_of(file: IO[bytes]) -> Iterator[bytes]:
    """Give the file's lines; of one that is longer than any row, a beginning that is too long."""
    for line in iter(partial(file.readline, LONGEST_ROW + 1), b""):
        rest = line
        while len(rest) > LONGEST_ROW and not rest.endswith(b"\n"):
            rest = file.readline(LONGEST_ROW + 1)
        yield line


def text_lines_of(path: Path, text: TextIO) -> Iterator[str]:
    """Give the lines of an opened text with their ends.

    Raises:
        PlanError: a line is longer than any row.
    """
    for number, line in enumerate(iter(partial(text.readline, LONGEST_ROW + 1), ""), 1):
        if len(line) > LONGEST_ROW:
            message = f"a line of over {LONGEST_ROW >> 20} MB"
            raise PlanError(message, Where(str(path), number), "is it a file of lines at all?")
        yield line


def flaw_of(line: str) -> tuple[str, int]:
    """Return what makes a line of `text_lines_of` unusable, and at which character; or nothing."""
    if "\0" in line:
        return NUL, line.index("\0") + 1
    if not line.isascii():
        try:
            line.encode()
        except UnicodeEncodeError as error:
            byte = len(line[: error.start].encode()) + 1
            return f"not UTF-8 at byte {byte} of the line", error.start + 1
    return "", 0


def check_signature(path: Path, head: bytes, right: str = "") -> None:
    """Raise if a file begins as one of another kind than `right` does.

    Raises:
        PlanError: with what it is.
    """
    for signature, (kind, hint) in _SIGNATURES.items():
        if head.startswith(signature) and kind != right:
            raise PlanError(f"is {kind}", str(path), hint)


def _check_not_utf16(path: Path, head: bytes) -> None:
    """Raise if each second byte is 0, as in UTF-16 text of Latin letters without its mark."""
    halves = (("UTF-16LE", head[1::2], head[::2]), ("UTF-16BE", head[::2], head[1::2]))
    for name, high, low in halves:
        if len(head) > 2 and high[0] == 0 and 2 * high.count(0) > len(high) and 0 not in low:
            hint = f"iconv -f {name} -t UTF-8 FILE > NEW"
            raise PlanError("looks like UTF-16 text without its mark, not UTF-8", str(path), hint)


def _broken(path: Path, message: str) -> PlanError:
    return PlanError(message, str(path), "copy or download it again")


def _unpacked(path: Path) -> Any:
    unpack = UNPACKERS.get(path.suffix.lower())
    return unpack(path) if unpack else path.open("rb", buffering=0)


def _zstd(path: Path) -> Any:
    try:
        import pyarrow
    except ImportError as error:
        message = "reading .zst needs the package pyarrow"
        raise MissingDependencyError(message, str(path), ARROW_INSTALL) from error
    return pyarrow.CompressedInputStream(path.open("rb"), "zstd")


UNPACKERS: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": _zstd,
}
