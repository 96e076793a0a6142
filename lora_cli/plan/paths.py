"""The data sets of a recipe → their files, and how each is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lora_cli.data.source import RowSource
from lora_cli.errors import LoraCliError, PlanError, Problem, Where
from lora_cli.formats import Example
from lora_cli.plan.data_part import evaluation_section
from lora_cli.plan.find_rows import RowsName, find_rows, is_file_name
from lora_cli.plan.format_places import format_places
from lora_cli.recipe.load import LoadedRecipe
from lora_cli.recipe.schema import DatasetSection, Recipe
from lora_cli.recipe.source import KeyPath

ONCE = "name it once; among several sources `weight: 2` takes more of one"


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
    sections = [(section, _path_key(loaded, n)) for n, section in enumerate(recipe.dataset)]
    apart = _evaluation(recipe)
    sources = []
    for number, (section, key) in enumerate([*sections, *([apart] if apart else [])]):
        try:
            files = _files(loaded, section, key)
            places = format_places(loaded, number if number < len(sections) else 0)
            sources.append(_row_source(files, section, places, recipe.task.kinds))
        except LoraCliError as error:
            problems += error.problems
    if problems:
        raise PlanError.from_problems(problems)
    found = RowSources(tuple(sources[: len(sections)]), sources[-1] if apart else None)
    _check_once(found.train, [loaded.source.of_value(key) for _, key in sections])
    if apart and not all(map(is_file_name, apart[0].path)):
        _check_apart(found, loaded.source.of_value(apart[1]))
    return found


def _evaluation(recipe: Recipe) -> tuple[DatasetSection, KeyPath] | None:
    """Return the data set of the evaluation rows and where it is named, if it is one of its own."""
    section, like = recipe.evaluation, evaluation_section(recipe.dataset)
    if section is None or (section.path is None and section.split_name is None):
        return None
    path = like.path if section.path is None else (section.path,)
    subset = like.subset if path == like.path else None
    named = {"path": path, "split": section.split_name, "subset": subset}
    key = "split_name" if section.path is None else "path"
    return like.model_copy(update=named), ("evaluation", key)


def _check_once(sources: Sequence[RowSource], places: Sequence[Where]) -> None:
    """Raise if a file is in two sources that make the same rows of it.

    Raises:
        PlanError: with every such source.
    """
    known, problems = set[object](), list[Problem]()
    for source, where in zip(sources, places, strict=True):
        reading = (source.format, source.system_prompt, source.names)
        says = (*reading, *map(str, (dict(source.columns), dict(source.template))))
        twice = [file for file in source.files if (file, says) in known]
        if twice:
            message = f"`{twice[0].name}` is named twice: its rows would count double"
            problems.append(Problem(where, message, ONCE))
        known |= {(file, says) for file in source.files}
    if problems:
        raise PlanError.from_problems(problems)


def _check_apart(found: RowSources, where: Where) -> None:
    """Raise if a folder or a data set of the hub means for evaluation what is trained on.

    Raises:
        PlanError: it does.
    """
    assert found.evaluation is not None, "there are rows of their own"
    trained = {file for source in found.train for file in source.files}
    if trained.issuperset(found.evaluation.files):
        names = ", ".join(file.name for file in found.evaluation.files[:3])
        message = f"the rows to evaluate on are those that are trained on: {names}"
        raise PlanError(message, where, "name another split, with `evaluation.split_name`")


def _path_key(loaded: LoadedRecipe, index: int) -> KeyPath:
    """Return where the recipe names a data set: in a list, or alone."""
    listed = loaded.source.wrote(("dataset", index))
    return ("dataset", index, "path") if listed else ("dataset", "path")


def _files(loaded: LoadedRecipe, section: DatasetSection, key: KeyPath) -> tuple[Path, ...]:
    """Return the files of a section, in the order of its names; each once.

    Raises:
        PlanError: with every name that leads nowhere, or a file that is there twice.
    """
    files, problems = list[Path](), list[Problem]()
    split = "split_name" if key[0] == "evaluation" else "split"
    at_split = loaded.source.of_value((*key[:-1], split))
    for number, text in enumerate(section.path):
        where = loaded.source.of_value((*key, number) if len(section.path) > 1 else key)
        try:
            name = RowsName(text, section.split, section.subset, split, at_split)
            files += find_rows(name, loaded.path.parent, where)
        except LoraCliError as error:
            problems += error.problems
    twice = [file for file, count in Counter(files).items() if count > 1]
    if twice:
        message = f"`{twice[0].name}` is named twice: its rows would count double"
        problems.append(Problem(loaded.source.of_value(key), message, ONCE))
    if problems:
        raise PlanError.from_problems(problems)
    return tuple(files)


def _row_source(
    files: tuple[Path, ...],
    section: DatasetSection,
    places: Mapping[str, Where],
    kinds: tuple[type[Example], ...],
) -> RowSource:
    return RowSource(
        files=files,
        format=section.format,
        max_rows=section.max_rows,
        system_prompt=section.system_prompt,
        on_bad_row=section.on_bad_row,
        names=section.column_names,
        columns=section.renamed_columns,
        template=section.template_parts,
        kinds=kinds,
        places=places,
    )
