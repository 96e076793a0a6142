"""merge_adapter: from an adapter's folder alone to a merged checkpoint, or to nothing at all."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lora_cli.errors import MergeError
from lora_cli.files import new_folder, write_text
from lora_cli.merge.adapter_folder import AdapterFolder, find_adapter, read_adapter
from lora_cli.merge.base import doubt_about, fetch_base, find_base, full_precision, made_from
from lora_cli.merge.checkpoint import companions_size
from lora_cli.merge.output import REPORT, write_companions
from lora_cli.merge.place import check_place, check_room, told_as
from lora_cli.merge.prepare import MergeOptions, Prepared, prepare_merge
from lora_cli.merge.writing import lay_out, write_layout

if TYPE_CHECKING:
    from lora_cli.merge.proof import Proof

Phase = Literal["reading", "writing", "checking"]
Progress = Callable[[Phase, int, int], None]
"""Told what begins or goes on, and how many bytes of how many are written; from any thread."""


@dataclass(frozen=True)
class MergeResult:
    """What a merge wrote."""

    adapter: str
    method: str
    base: str
    base_doubt: str
    """Why it is not known to be the base that the adapter was trained on; empty where it is."""
    base_made_from: str
    """The model that a run made a base of its own of; empty where it did not."""
    output: str
    files: list[str]
    """The names of all files in it: what is put there since is not theirs to be replaced."""
    adapter_tensors: int
    tensors: int
    changed_tensors: int
    requantized_tensors: int
    """Those that are as the quantized base held them, though no adapter is on them."""
    untied: tuple[str, ...]
    dropped: tuple[str, ...]
    bytes_written: int
    proof: Proof | None
    difference_to_training: float | None
    """How far the logits are from those on the quantized base that the adapter was trained on,
    relative to their spread, where it was folded into the original weights."""
    notes: list[str]
    """What has to be known of it beside the figures."""
    seconds: float


def merge_adapter(
    adapter_or_run: Path,
    options: MergeOptions,
    *,
    report: Progress = lambda _phase, _done, _total: None,
    account: Callable[[MergeResult], dict[str, Any]] = asdict,
) -> MergeResult:
    """Write a folder: the base of the adapter with the adapter folded in, ready to load.

    What `account` makes of the result is kept in it as `merge_report.json`.

    Raises:
        MergeError: the output is taken, any tensor of the adapter would be lost, or the written
            checkpoint is not base and adapter.
    """
    started = time.perf_counter()
    folder = find_adapter(adapter_or_run)
    output = options.output or _beside(adapter_or_run, folder)
    check_place(output, REPORT, [adapter_or_run], overwrite=options.overwrite)
    adapter = read_adapter(folder)
    report("reading", 0, 0)
    source = find_base(adapter.config, adapter.origin, options.base, any_base=options.any_base)
    check_place(output, REPORT, [source.gguf or source.folder], overwrite=options.overwrite)
    fetched = fetch_base(source)
    with full_precision(fetched) as base, told_as(MergeError, output):
        prepared = prepare_merge(adapter, base, options, dequantised=base != fetched)
        check_room(output, prepared.plan.size + companions_size(base))
        with new_folder(output) as new:
            _write(prepared, new, options, report)
            proof = drift = None
            if options.verify:
                report("checking", 0, 0)
                proof = _prove(prepared, new)
                drift = _drift(adapter, prepared, new)
            result = MergeResult(
                adapter=str(folder),
                method=adapter.method,
                base=str(source.gguf or source.folder),
                base_doubt=doubt_about(adapter.origin, source),
                base_made_from=made_from(adapter.origin),
                output=str(output),
                files=sorted([REPORT, *(path.name for path in new.iterdir())]),
                adapter_tensors=len(adapter.tensors),
                tensors=len(prepared.plan.tensors),
                changed_tensors=prepared.plan.changed,
                requantized_tensors=prepared.plan.requantized,
                untied=prepared.plan.untied,
                dropped=prepared.plan.dropped,
                bytes_written=sum(path.stat().st_size for path in new.iterdir()),
                proof=proof,
                difference_to_training=drift,
                notes=_notes(adapter, options),
                seconds=time.perf_counter() - started,
            )
            write_text(new / REPORT, json.dumps(account(result), indent=2) + "\n")
    return result


def _beside(named: Path, folder: Path) -> Path:
    """Return where to write when nothing is said: inside a run, or beside an adapter's folder."""
    named, folder = named.absolute(), folder.absolute()
    return named / "merged" if folder != named else folder.with_name(f"{folder.name}-merged")


def _write(prepared: Prepared, new: Path, options: MergeOptions, report: Progress) -> None:
    plan, total, written = prepared.plan, prepared.plan.size, 0

    def count(size: int) -> None:
        nonlocal written
        written += size
        report("writing", written, total)

    write_companions(prepared.base, prepared.adapter.path, new, prepared.settings)
    layout = lay_out(prepared.files, plan.tensors, options.max_shard_bytes)
    write_layout(new, layout, plan.rewrites, count)


def _prove(prepared: Prepared, new: Path) -> Proof:
    from lora_cli.merge.proof import prove

    proof = prove(prepared.adapter, prepared.base, new, prepared.coarsest())
    if proof.holds:
        return proof
    message = (
        f"the merged checkpoint is not base and adapter: its logits differ by "
        f"{proof.relative_difference:.2%} of their spread, and rounding explains "
        f"{proof.tolerance:.2%}"
    )
    hint = "nothing was written; please report it with the adapter's config, or use --no-verify"
    if proof.relative_difference <= proof.tolerance:
        message = (
            "the merged checkpoint has nothing of the adapter: rounding takes away all that it "
            f"changes, {proof.effect:.2g} of the logits' spread"
        )
        hint = "merge with --dtype float32, which keeps it"
    raise MergeError(message, str(prepared.adapter.path), hint)


def _notes(adapter: AdapterFolder, options: MergeOptions) -> list[str]:
    if options.onto == "original" and adapter.quantization == "none":
        return ["--onto original changes nothing: no training on a quantized base is recorded"]
    return []


def _drift(trained: AdapterFolder, prepared: Prepared, new: Path) -> float | None:
    """Return how far the merged model is from the one that was trained, where they are two."""
    if trained.quantization == prepared.adapter.quantization or not prepared.on_original:
        return None
    from lora_cli.merge.proof import prove

    return prove(trained, prepared.base, new, prepared.coarsest()).relative_difference
