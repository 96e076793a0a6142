"""Names of data in a recipe → local files, looked for from the recipe's folder."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path

from lora_cli.data.source import RowSource
from lora_cli.errors import PlanError, Problem, Where
from lora_cli.plan.data_part import evaluation_section
from lora_cli.recipe.load import LoadedRecipe
from lora_cli.recipe.schema import DatasetSection

SUFFIXES = (".jsonl", ".ndjson", ".json")
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


@dataclass(frozen=True, slots=True)
class RowSources:
    """The files of rows that a recipe names; all are there."""

    train: tuple[RowSource, ...]
    evaluation: RowSource | None


def row_sources(loaded: LoadedRecipe) -> RowSources:
    """Return the files of a recipe's rows.

    Raises:
        PlanError: with every file that is not there.
    """
    recipe, problems = loaded.recipe, list[Problem]()
    sections = [(section, _place(loaded, n)) for n, section in enumerate(recipe.dataset)]
    if recipe.evaluation and recipe.evaluation.path is not None:
        like = evaluation_section(recipe.dataset)
        section = like.model_copy(update={"path": recipe.evaluation.path, "split": None})
        sections.append((section, loaded.source.of_value(("evaluation", "path"))))
    sources = []
    for section, where in sections:
        try:
            file = find_rows(section.path, section.split, loaded.path.parent, where)
            sources.append(_row_source(file, section))
        except PlanError as error:
            problems += error.problems
    if problems:
        raise PlanError.from_problems(problems)
    count = len(recipe.dataset)
    return RowSources(tuple(sources[:count]), sources[count] if sources[count:] else None)


def _place(loaded: LoadedRecipe, index: int) -> Where:
    """Return where the recipe names a data set: in a list, or alone."""
    listed = loaded.source.wrote(("dataset", index))
    return loaded.source.of_value(("dataset", index, "path") if listed else ("dataset", "path"))


def _row_source(file: Path, section: DatasetSection) -> RowSource:
    return RowSource(
        file=file,
        format=section.format,
        max_rows=section.max_rows,
        system_prompt=section.system_prompt,
        on_bad_row=section.on_bad_row,
    )


def find_rows(name: str, split: str | None, base_dir: Path, where: Where) -> Path:
    """Return the file of rows that `name` (a file, or a folder with a `split`) means.

    Raises:
        PlanError: it is not there, or is no file of rows.
    """
    if "://" in name:
        message = f"`{name[:200]}` is an address: this version reads local JSONL files"
        raise PlanError(message, where, "download it, and name the file")
    try:
        path = (base_dir / Path(name).expanduser()).resolve()
        if path.is_dir():
            return _rows_in_folder(path, name, split, where)
        return _rows(path, name, split, where)
    except (OSError, RuntimeError, ValueError) as error:
        # no permission, a name too long for any file system, a `~user` that does not exist
        reason = getattr(error, "strerror", None) or str(error)
        raise PlanError(f"`{name[:200]}` cannot be opened: {reason}", where) from error


def _rows_in_folder(path: Path, name: str, split: str | None, where: Where) -> Path:
    inside = path / f"{split or 'train'}.jsonl"
    if inside.is_file():
        return inside
    held = ", ".join(sorted(p.stem for p in path.glob("*.jsonl"))) or "none"
    message = f"`{name}` holds no {inside.name}"
    raise PlanError(message, where, f"splits it has: {held}; name one with `split`")


def _rows(path: Path, name: str, split: str | None, where: Where) -> Path:
    if not path.is_file():
        raise PlanError(f"there is no file {path}", where, _instead(path, name))
    if split is not None:
        message = f"`{path.name}` is a file: it has no split `{split}`"
        raise PlanError(message, where, "remove `split`, or name the folder")
    if path.suffix not in SUFFIXES:
        message = f"`{path.name}` is not JSONL: this version reads one JSON mapping a line"
        raise PlanError(message, where, "convert it to .jsonl")
    return path


def _instead(path: Path, name: str) -> str:
    """Return what to do about a file that is not there."""
    if not path.parent.is_dir():
        hint = f"there is no folder {path.parent} either; paths are relative to the recipe"
        if HUB_ID.fullmatch(name) and path.suffix not in SUFFIXES:
            fetch = f"`hf download --repo-type dataset {name}`"
            return f"{hint}; a data set of the hub is downloaded first, with {fetch}"
        return hint
    names = [entry.name for entry in path.parent.iterdir()]
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"did you mean `{near[0]}`?" if near else "paths are relative to the recipe's folder"
