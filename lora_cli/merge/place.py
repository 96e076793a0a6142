"""Where a folder may be written: a free place, or over an earlier one; never over what is read.

And whether there is room for it, and what the disk said if there was none.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lora_cli.errors import LoraCliError, MergeError
from lora_cli.files import behind_links
from lora_cli.merge.adapter_folder import OF_RUN
from lora_cli.merge.earlier import why_kept

HINT = "name another --output"
_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def check_place(output: Path, mark: str, read: Iterable[Path], *, overwrite: bool) -> None:
    """Check that `output` is free, or may be replaced.

    `mark` is a file that every folder of its kind holds; `read` are the folders, runs and files
    that it is made of.

    Raises:
        MergeError: something is there that must stay.
    """
    nearest = next(each for each in (output, *output.absolute().parents) if each.exists())
    if nearest != output and not nearest.is_dir():
        raise MergeError(f"cannot be written: {nearest} is a file", str(output), HINT)
    if nearest != output or (output.is_dir() and not any(output.iterdir())):
        return
    place = output.resolve()
    parts = [part.resolve() for each in read for part in (each, each / OF_RUN)]
    if any(part.is_relative_to(place) for part in parts):
        raise MergeError("holds what is read: it is not overwritten", str(output), HINT)
    if not overwrite:
        raise MergeError("exists already", str(output), f"{HINT}, or replace it with --overwrite")
    if reason := why_kept(output, mark):
        raise MergeError(f"{reason}: it is not overwritten", str(output), HINT)


def check_room(output: Path, size: int) -> None:
    """Check that the disk has room for `size` bytes, before the first of them is written.

    Raises:
        MergeError: it has not.
    """
    place = behind_links(output)
    folder = next(each for each in (place, *place.parents) if each.is_dir())
    free = shutil.disk_usage(folder).free
    if free < size:
        message = f"needs {size / 1e6:,.2f} MB, and the disk has {free / 1e6:,.2f} MB left"
        raise MergeError(message, str(output), f"{HINT}, or make room")


@contextmanager
def told_as(kind: type[LoraCliError], output: Path) -> Iterator[None]:
    """Raise as `kind` what is a MergeError, and what the disk refused.

    Of a disk that is full, or cannot be written, it is told what was to be written there.
    """
    try:
        yield
    except MergeError as error:
        raise kind.from_problems(error.problems) from error
    except OSError as error:
        place = output if error.errno in _WRITING else error.filename or output
        done = "written" if error.errno in _WRITING else "read or written"
        raise kind(f"cannot be {done}: {error.strerror or error}", str(place)) from error
