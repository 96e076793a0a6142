"""combine_into_model: several adapters of one base → a merged model that needs none of them.

They are made one adapter first, which lies beside the output until it is folded.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lora_cli.errors import MergeError, Where
from lora_cli.merge.combine.combine import CombineResult, combine_adapters
from lora_cli.merge.combine.options import CombineOptions
from lora_cli.merge.merge import MergeResult, Progress, merge_adapter
from lora_cli.merge.output import CONFIG_FILE
from lora_cli.merge.prepare import MergeOptions
from lora_cli.merge.replacing import check_place

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
    check_place(output, CONFIG_FILE, adapters, overwrite=options.overwrite)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as temporary:
            combined = Path(temporary) / "adapter"
            combination = combine_adapters(adapters, combined, combining)
            with _combination_named(combined, adapters):
                merged = merge_adapter(
                    combined,
                    replace(options, output=output),
                    report=report,
                    account=lambda merged: CombinedModel(combination, merged).told(),
                )
    except OSError as error:
        reason = f"cannot be written: {error.strerror or error}"
        raise MergeError(reason, str(error.filename or output)) from error
    return CombinedModel(combination, merged)


@contextmanager
def _combination_named(combined: Path, adapters: Sequence[Path]) -> Iterator[None]:
    """Say of a problem with the combination what it is made of: its own folder is gone."""
    try:
        yield
    except MergeError as error:
        made = Where(" + ".join(map(str, adapters)))
        raise MergeError.from_problems(
            replace(each, where=made) if Path(each.where.file).is_relative_to(combined) else each
            for each in error.problems
        ) from error
