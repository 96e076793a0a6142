"""combine_into_model: several adapters of one base → a merged model that needs none of them.

They are made one adapter first, which lies beside the output until it is folded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lora_cli.errors import MergeError, Where
from lora_cli.files import scratch_folder
from lora_cli.merge.combine.combine import CombineResult, combine_adapters
from lora_cli.merge.combine.options import CombineOptions
from lora_cli.merge.merge import MergeResult, Progress, merge_adapter
from lora_cli.merge.output import REPORT
from lora_cli.merge.place import check_place, told_as
from lora_cli.merge.prepare import MergeOptions

_OF_ITS_FOLDER = ("base", "output", "bytes_written", "seconds")


@dataclass(frozen=True)
class CombinedModel:
    """What several adapters and their base came to."""

    combination: CombineResult
    """The adapter that was folded; its folder is gone."""
    merged: MergeResult

    def told(self) -> dict[str, Any]:
        """Return what is told of the merge, and of the combination under `combined`."""
        merged, combined = asdict(self.merged), asdict(self.combination)
        del merged["adapter"]
        for key in _OF_ITS_FOLDER:
            del combined[key]
        return {**merged, "combined": combined}


def combine_into_model(
    adapters: Sequence[Path],
    output: Path,
    combining: CombineOptions,
    options: MergeOptions,
    *,
    report: Progress = lambda _phase, _done, _total: None,
) -> CombinedModel:
    """Write `output`: the base of the adapters (or runs) with their combination folded in.

    Raises:
        MergeError: the output is taken, the adapters cannot be combined, or not be merged.
        UsageError: there are more or fewer weights than adapters.
    """
    check_place(output, REPORT, adapters, overwrite=options.overwrite)
    with told_as(MergeError, output), scratch_folder(output) as scratch:
        combined = scratch / "adapter"
        with _named(combined, str(output)):
            combination = combine_adapters(adapters, combined, combining)
        with _named(combined, " + ".join(map(str, adapters))):
            merged = merge_adapter(
                combined,
                replace(options, output=output),
                report=report,
                account=lambda merged: CombinedModel(combination, merged).told(),
            )
    return CombinedModel(combination, merged)


@contextmanager
def _named(combined: Path, name: str) -> Iterator[None]:
    """Give problems with the combination a name that says something: its own folder is gone."""
    try:
        yield
    except MergeError as error:
        raise MergeError.from_problems(
            replace(each, where=Where(name))
            if Path(each.where.file).is_relative_to(combined.parent)
            else each
            for each in error.problems
        ) from error
