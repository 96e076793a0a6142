"""The names of the files in a folder → those of one split: one file, or its shards in order.

A pure function of names, so that a folder of a remote store is read as a local one is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from lora_cli.data.readers.read import kind_of_file
from lora_cli.words import counted

NO_DATA = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
"""What `datasets` writes beside the rows."""
KEPT_APART = {"test", "dev", "val", "valid", "validation", "eval", "evaluation"}
SPLITS = frozenset(("train", *KEPT_APART))
"""Names of folders that say what their files are for."""
_SHARD = re.compile(
    r"(?P<split>.+?)(?:[-_.]?(?P<number>\d+))?(?:-of-(?P<count>\d+))?(?:-[0-9a-f]{16})?"
)


class FolderProblemError(ValueError):
    """A folder that does not say which files are meant; `hint` says what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class NoSuchSplitError(FolderProblemError):
    """A folder without the split that is asked for."""


def files_of_split(names: Sequence[str], split: str | None, *, key: str = "split") -> list[str]:
    """Return the files of a split, `train` if None; all files where none is called after a split.

    They are `train.jsonl`, or shards (`train-00000-of-00004.parquet`), here or in `data/`; or
    what the folder `train/` holds, as `datasets` saves it. `key` is what the recipe calls it.

    Raises:
        FolderProblemError: there are none, several kinds of them, or too few shards.
    """
    files = sorted(name for name in names if is_data(name))
    wanted = split or "train"
    found = (
        _in_folder(files, "", wanted)
        or _in_folder(files, "data", wanted)
        or _in_folder(files, wanted, None)
        or _in_folder(files, f"data/{wanted}", None)
    )
    splits = _splits(files)
    if not found and split is None and not splits & KEPT_APART:
        found = _in_folder(files, "", None)
    if not found:
        held = ", ".join(sorted(splits)) or "none"
        hint = f"splits it has: {held}; name one with `{key}`, or name the files"
        raise NoSuchSplitError(f"holds no rows of a split `{wanted}`", hint)
    check_one_kind(found)
    _check_shards(found)
    return found


def check_one_kind(names: Sequence[str]) -> None:
    """Raise if files are of several kinds: one of them may not be meant.

    Raises:
        FolderProblemError: with the kinds, and how many files of each there are.
    """
    kinds = [kind_of_file(PurePosixPath(name)) or "no rows" for name in names]
    if len(set(kinds)) > 1:
        listing = ", ".join(
            f"{kind} ({counted(kinds.count(kind), 'file')})" for kind in sorted(set(kinds))
        )
        raise FolderProblemError(f"means files of several kinds: {listing}", "name those of one")


def is_data(name: str) -> bool:
    """Return whether a file in a folder holds rows, as far as its name tells."""
    path = PurePosixPath(name)
    hidden = any(part.startswith((".", "_")) for part in path.parts)
    cached = path.name.startswith("cache-") and path.suffix == ".arrow"
    return not hidden and not cached and path.name not in NO_DATA and kind_of_file(path) is not None


def _in_folder(files: Sequence[str], folder: str, split: str | None) -> list[str]:
    """Return the files in one folder, of one split or all."""
    here = [name for name in files if str(PurePosixPath(name).parent) == (folder or ".")]
    return [name for name in here if split is None or _parts(name)["split"] == split]


def _parts(name: str) -> dict[str, str | None]:
    """Return split, number and count of shards, as a file's name tells them."""
    stem = PurePosixPath(name).name.partition(".")[0]
    match = _SHARD.fullmatch(stem)
    return match.groupdict() if match else {"split": stem, "number": None, "count": None}


def _splits(files: Sequence[str]) -> set[str]:
    """Return the names of the splits that there seem to be."""
    return {_split_of(PurePosixPath(name)) for name in files}


def _split_of(path: PurePosixPath) -> str:
    folder = path.parent.name
    return folder if folder not in {"", "data"} else str(_parts(path.name)["split"])


def _check_shards(names: Sequence[str]) -> None:
    shards = [_parts(name) for name in names]
    whole = [name for name, shard in zip(names, shards, strict=True) if shard["number"] is None]
    if whole and len(names) > 1 and len({_parts(name)["split"] for name in names}) == 1:
        listing = ", ".join(PurePosixPath(name).name for name in names[:3])
        raise FolderProblemError(f"means several files for one split: {listing}", "name one file")
    counts = {shard["count"] for shard in shards if shard["count"] is not None}
    if len(counts) > 1:
        raise FolderProblemError("holds shards of several sets", "name those of one set")
    if counts and len(names) != int(counts.pop() or 0):
        count, here = int(shards[0]["count"] or 0), {int(shard["number"] or 0) for shard in shards}
        missing = sorted(set(range(count)) - here)[:1]
        message = f"holds {len(names)} of {counted(count, 'shard')}"
        raise FolderProblemError(f"{message}: number {missing[0]:05} is missing", "fetch it again")
