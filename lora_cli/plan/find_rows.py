"""A name in a recipe → local files of rows, in an order that is always the same.

A name is a file, a folder with a `split` or a zip archive of one, a pattern (`data/*.jsonl`, `**`),
a data set of the hub, or an address of a remote store. What is remote is brought here first.
"""

from __future__ import annotations

import difflib
import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from urllib.parse import urlparse

from lora_cli.data.readers.read import KNOWN, kind_of_file
from lora_cli.errors import LoraCliError, PlanError, Where
from lora_cli.facts.hub_data import PREFIX, HubData, hub_data, prepared_files, repository_folder
from lora_cli.facts.nearby import with_name_from_here
from lora_cli.facts.remote import RemoteFiles, remote_files
from lora_cli.facts.unzipped import SUFFIX, unzipped
from lora_cli.plan.folders import (
    SPLITS,
    FolderProblemError,
    NoSuchSplitError,
    check_one_kind,
    files_of_split,
    is_data,
)

DEEPEST = 3
"""Parts of the names that are looked at in a folder: `data/train/part.jsonl`."""
NOWHERE = Where()


@dataclass(frozen=True, slots=True)
class RowsName:
    """A name as the recipe has it, and which part of that is meant."""

    text: str
    split: str | None = None
    subset: str | None = None
    split_key: str = "split"
    """What the recipe calls the split."""
    at_split: Where = NOWHERE
    """Where it does, if it does."""

    @property
    def shown(self) -> str:
        """Return the name, short enough for a message."""
        return self.text[:200]


def find_rows(name: RowsName, base_dir: Path, where: Where) -> tuple[Path, ...]:
    """Return the files that a name means, looked for from `base_dir`; at least one.

    Raises:
        PlanError: at `where`; they are not there, are no files of rows, or cannot be fetched.
        MissingDependencyError: a package for such a name is not installed.
    """
    try:
        return _find(name, base_dir)
    except FolderProblemError as error:
        at_split = name.split is not None and isinstance(error, NoSuchSplitError)
        place = name.at_split if at_split and name.at_split.file else where
        raise PlanError(f"`{name.shown}` {error}", place, error.hint) from error
    except LoraCliError as error:
        problems = with_name_from_here(error.problems, name.text, base_dir)
        placed = [p if p.where.file else replace(p, where=where) for p in problems]
        raise type(error).from_problems(placed) from error
    except (OSError, RuntimeError, ValueError) as error:
        # no permission, a name too long for any file system, a `~user` that does not exist
        reason = getattr(error, "strerror", None) or str(error)
        raise PlanError(f"`{name.shown}` cannot be opened: {reason}", where) from error


def is_file_name(text: str) -> bool:
    """Return whether a name is that of one file, and so says itself which rows are meant."""
    return kind_of_file(PurePosixPath(text)) is not None and not glob.has_magic(text)


def _find(name: RowsName, base_dir: Path) -> tuple[Path, ...]:
    if name.text.startswith(PREFIX):
        data = hub_data(name.text)
        if data is None:
            raise PlanError(f"`{name.shown}` names no data set", hint=f"write {PREFIX}owner/name")
        return _on_hub(name, data)
    if "://" in name.text:
        _refuse_subset(name)
        return _remote(name, remote_files(name.text))
    path = Path(os.path.normpath(base_dir / Path(name.text).expanduser()))
    data = hub_data(name.text)
    if data and not path.parent.is_dir() and not kind_of_file(path):
        try:
            return _on_hub(name, data)
        except PlanError as error:
            (problem,) = error.problems
            message = f"{problem.message}; no such local folder either ({path})"
            raise PlanError(message, hint=problem.hint) from error
    _refuse_subset(name)
    return _local(name, path)


def _local(name: RowsName, path: Path) -> tuple[Path, ...]:
    if path.suffix.lower() == SUFFIX and path.is_file():
        return _in_archive(name, unzipped(path, is_data, SPLITS))
    if path.is_dir():
        names = [str(each.relative_to(path)) for each in _files_in(path)]
        return tuple(path / each for each in files_of_split(names, name.split, key=name.split_key))
    if glob.has_magic(name.text) and not path.exists():
        found = sorted(map(Path, glob.glob(str(path), recursive=True)))  # noqa: PTH207  # hides dot files
        return _matching(name, [each for each in found if each.is_file()])
    return (_file(name, path),)


def _in_archive(name: RowsName, folder: Path) -> tuple[Path, ...]:
    """Return the one file that there is, whatever it is called; of several, those of a split."""
    files = _files_in(folder)
    return tuple(files) if len(files) == 1 and name.split is None else _local(name, folder)


def _files_in(folder: Path) -> list[Path]:
    patterns = ("/".join(["*"] * depth) for depth in range(1, DEEPEST + 1))
    return [path for pattern in patterns for path in folder.glob(pattern) if path.is_file()]


def _file(name: RowsName, path: Path) -> Path:
    if not path.is_file():
        if path.is_symlink():
            message = f"`{name.shown}` is a link to {path.readlink()}, which is not there"
            raise PlanError(message, hint="mend the link, or name the file itself")
        raise PlanError(f"there is no file {path}", hint=_instead(path))
    _check_file(name, path.name)
    return path


def _check_file(name: RowsName, file: str) -> None:
    """Raise if a single file is none of rows, or is asked for a split."""
    if name.split is not None:
        message = f"`{file}` is a file: it has no split `{name.split}`"
        hint = f"remove `{name.split_key}`, or name the folder"
        raise PlanError(message, name.at_split, hint)
    if kind_of_file(PurePosixPath(file)) is None:
        raise PlanError(f"`{file}` is of no kind that is read", hint=f"kinds: {KNOWN}")


def _matching(name: RowsName, found: Sequence[Path]) -> tuple[Path, ...]:
    """Return what a pattern matches, if it is files of rows of one kind."""
    if name.split is not None:
        message = f"`{name.shown}` is a pattern: it has no split `{name.split}`"
        raise PlanError(message, name.at_split, "write the split into the pattern")
    if not found:
        hint = "patterns are relative to the recipe's folder; `**` means folders of any depth"
        raise PlanError(f"no file matches `{name.shown}`", hint=hint)
    check_one_kind([each.name for each in found])
    _check_file(name, found[0].name)
    return tuple(found)


def _on_hub(name: RowsName, data: HubData) -> tuple[Path, ...]:
    if not data.inside:
        return prepared_files(data, name.subset, name.split or "train")
    _refuse_subset(name)
    return _local(name, repository_folder(data) / data.inside)


def _remote(name: RowsName, remote: RemoteFiles) -> tuple[Path, ...]:
    file = PurePosixPath(urlparse(remote.path).path).name
    if glob.has_magic(remote.path) and not name.text.startswith("http"):
        paths = remote.matching()
        _matching(name, list(map(Path, paths)))
    elif remote.is_folder:
        folder = remote.path.rstrip("/")
        names = files_of_split(remote.names(), name.split, key=name.split_key)
        paths = [f"{folder}/{each}" for each in names]
    elif file.lower().endswith(SUFFIX):
        return _local(name, remote.fetch(remote.path))
    else:
        _check_file(name, file)
        paths = [remote.path]
    return tuple(map(remote.fetch, paths))


def _refuse_subset(name: RowsName) -> None:
    if name.subset is not None:
        message = f"`{name.shown}` has no subset `{name.subset}`: only data sets of the hub do"
        raise PlanError(message, hint="remove `subset`, or name the folder that is meant")


def _instead(path: Path) -> str:
    """Return what to do about a file that is not there."""
    if not path.parent.is_dir():
        return f"there is no folder {path.parent} either; paths are relative to the recipe"
    names = [entry.name for entry in path.parent.iterdir()]
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"did you mean `{near[0]}`?" if near else "paths are relative to the recipe's folder"
