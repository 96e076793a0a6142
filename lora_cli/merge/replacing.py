"""What `--overwrite` may replace: an earlier export of the same kind, and nothing that is read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lora_cli.errors import MergeError
from lora_cli.merge.output import check_free

HINT = "name another --output"


def check_place(output: Path, mark: str, read: Iterable[Path], *, overwrite: bool) -> None:
    """Check that `output` is free, or may be replaced by an export.

    `mark` is a file that every export of its kind holds; `read` are the folders and runs that it is
    made of.

    Raises:
        MergeError: something is there that must stay.
    """
    try:
        check_free(output)
    except MergeError:
        if not overwrite:
            raise
        _check_replaceable(output, mark, read)


def _check_replaceable(output: Path, mark: str, read: Iterable[Path]) -> None:
    place = output.resolve()
    parts = [part.resolve() for each in read for part in (each, each / "adapter")]
    if any(part.is_relative_to(place) for part in parts):
        raise MergeError("holds what is read: it is not overwritten", str(output), HINT)
    if not (output / mark).is_file():
        raise MergeError(f"has no {mark}: it is not overwritten", str(output), HINT)
