"""Local names in a recipe → files: inputs from the recipe's folder, outputs from where one works."""

from __future__ import annotations

import difflib
from pathlib import Path

from lora_cli.data.load import RowSource
from lora_cli.errors import PlanError, Where
from lora_cli.recipe.load import LoadedRecipe
from lora_cli.recipe.schema import DatasetSection


def dataset_sources(loaded: LoadedRecipe) -> list[RowSource]:
    """Return the training files of a recipe.

    Raises:
        PlanError: with every file that is not there.
    """
    sources, problems = [], []
    for index, section in enumerate(loaded.recipe.dataset):
        where = loaded.source.of_value(("dataset", index, "path"))
        if not loaded.source.wrote(("dataset", index)):
            where = loaded.source.of_value(("dataset", "path"))
        try:
            file = find_rows(section.path, section.split, loaded.path.parent, where)
            sources.append(_row_source(file, section))
        except PlanError as error:
            problems += error.problems
    if problems:
        raise PlanError.from_problems(problems)
    return sources


def evaluation_source(loaded: LoadedRecipe) -> RowSource | None:
    """Return the evaluation file, read as the first training source is."""
    evaluation = loaded.recipe.evaluation
    if evaluation is None or evaluation.path is None:
        return None
    where = loaded.source.of_value(("evaluation", "path"))
    first = loaded.recipe.dataset[0].model_copy(update={"max_rows": None})
    return _row_source(find_rows(evaluation.path, None, loaded.path.parent, where), first)


def output_folder(loaded: LoadedRecipe) -> Path:
    """Return the run directory, absolute."""
    named = loaded.recipe.output.dir
    return Path.cwd() / (Path(named).expanduser() if named else Path("runs") / loaded.path.stem)


def _row_source(file: Path, section: DatasetSection) -> RowSource:
    return RowSource(
        file=file,
        format=section.format,
        max_rows=section.max_rows,
        system_prompt=section.system_prompt,
        on_bad_row=section.on_bad_row,
    )


def find_rows(name: str, split: str | None, base_dir: Path, where: Where) -> Path:
    """Return the file of rows that `name` (a file, or a folder with a `split`) means."""
    path = (base_dir / Path(name).expanduser()).resolve()
    if path.is_dir():
        inside = path / f"{split or 'train'}.jsonl"
        if inside.is_file():
            return inside
        held = ", ".join(sorted(p.stem for p in path.glob("*.jsonl"))) or "none"
        message = f"`{name}` holds no {inside.name}"
        raise PlanError(message, where, f"splits it has: {held}; name one with `split`")
    if not path.is_file():
        raise PlanError(f"there is no file {path}", where, _nearest(path))
    if path.suffix not in (".jsonl", ".ndjson", ".json"):
        message = f"`{name}` is not JSONL: this version reads one JSON mapping a line"
        raise PlanError(message, where, "convert it to .jsonl")
    return path


def _nearest(path: Path) -> str:
    if not path.parent.is_dir():
        return f"there is no folder {path.parent} either; paths are relative to the recipe"
    names = [entry.name for entry in path.parent.iterdir()]
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"did you mean `{near[0]}`?" if near else "paths are relative to the recipe's folder"
