"""Everything that can go wrong, as data: where it is, what it is, and what to do about it.

This module does not know how errors are drawn (`console`) or which command raised them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Where:
    """A place the user can go to: a position in a file, a command-line flag, or a key.

    `line` and `column` count from 1, as editors do; `key` is the dotted path in the recipe.
    """

    file: str = ""
    line: int = 0
    column: int = 0
    key: str = ""

    @property
    def position(self) -> str:
        """Return `file:line:column`, as much of it as is known."""
        numbers = [str(number) for number in (self.line, self.column) if number]
        return ":".join([self.file, *numbers]) if self.file else ""

    def __str__(self) -> str:
        return " ".join(part for part in (self.position, self.key) if part)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong: where, what, and what to do."""

    where: Where
    message: str
    hint: str = ""
    count: int = 1
    """How many things it stands for: `490 more rows cannot be used` is 490 problems."""

    def __str__(self) -> str:
        place = f"{self.where}: " if str(self.where) else ""
        advice = f" ({self.hint})" if self.hint else ""
        return f"{place}{self.message}{advice}"


class LoraCliError(Exception):
    """An error that the user can act on; carries every problem found, never just the first."""

    exit_code: ClassVar[int] = 1
    title: ClassVar[str] = "error"

    def __init__(self, message: str, where: Where | str = "", hint: str = "") -> None:
        place = Where(file=where) if isinstance(where, str) else where
        self.problems: tuple[Problem, ...] = (Problem(place, message, hint),)
        super().__init__(str(self.problems[0]))

    @classmethod
    def from_problems(cls, problems: Iterable[Problem]) -> LoraCliError:
        """Return one error that carries all of `problems` (at least one)."""
        found = tuple(problems)
        assert found, "an error without a problem"
        error = cls(found[0].message, found[0].where, found[0].hint)
        error.problems = found
        error.args = ("\n".join(str(problem) for problem in found),)
        return error


class RecipeError(LoraCliError):
    """The recipe's text is wrong: nothing outside the file was needed to find out."""

    exit_code = 2
    title = "the recipe is not valid"


class PlanError(LoraCliError):
    """The recipe cannot be planned on this machine, with this model and this data."""

    exit_code = 2
    title = "the recipe cannot be planned"


class InspectError(LoraCliError):
    """A model, or the modules named in it, cannot be inspected."""

    exit_code = 2
    title = "the model cannot be inspected"


class EstimateError(LoraCliError):
    """What is asked for cannot be estimated."""

    exit_code = 2
    title = "nothing can be estimated"


class MissingDependencyError(LoraCliError):
    """A package that the recipe asks for is not installed; the hint holds the command."""

    exit_code = 2
    title = "a package is missing"


class UsageError(LoraCliError):
    """Options of a command that have wrong values, or that its work does not read."""

    exit_code = 2
    title = "wrong usage"


class RunError(LoraCliError):
    """A planned run could not be carried out."""

    title = "the run failed"


class MergeError(LoraCliError):
    """An adapter could not be merged; nothing that looks finished was written."""

    title = "the merge failed"


class ExportError(LoraCliError):
    """An adapter could not be exported; nothing that looks finished was written."""

    title = "the export failed"


class ExtractError(LoraCliError):
    """No LoRA could be extracted; nothing that looks finished was written."""

    title = "the extraction failed"


class PushError(LoraCliError):
    """A folder could not be sent to the hub."""

    title = "the upload failed"


class GuardTrippedError(LoraCliError):
    """A guard stopped the run because going on would have wasted the night."""

    exit_code = 4
    title = "a guard stopped the run"


class InterruptedRunError(LoraCliError):
    """A signal stopped the run after its checkpoint was written."""

    title = "the run was interrupted"

    def __init__(self, message: str, hint: str = "", *, signal_number: int = 2) -> None:
        super().__init__(message, hint=hint)
        self.signal_number = signal_number

    @property
    def signal_exit_code(self) -> int:
        """Return 128 + the signal's number: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.signal_number
