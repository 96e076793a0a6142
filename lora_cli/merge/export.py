"""export_lora: any adapter that changes weights → a plain LoRA that servers read rightly.

Exact where the method is a product of small rank; else the nearest one within a limit, which has
to be given.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lora_cli.errors import ExportError, MergeError
from lora_cli.files import new_folder
from lora_cli.merge.adapter_config import CONFIG
from lora_cli.merge.adapter_folder import find_adapter
from lora_cli.merge.base import fetch_base, full_precision
from lora_cli.merge.canonical import write_canonical
from lora_cli.merge.exportable import INSTEAD, Exportable, read_exportable
from lora_cli.merge.factors import factors_of
from lora_cli.merge.fits import ModuleFit, figures_of, module_fits
from lora_cli.merge.place import check_place, told_as
from lora_cli.merge.servers import Server, ServingFacts, servers_for
from lora_cli.merge.truncate import Fit, Limit, fit_factors, fit_weight
from lora_cli.merge.weight_change import AdaptedBase

Progress = Callable[[int, int], None]
"""Told how many modules of how many are done."""


@dataclass(frozen=True)
class ExportResult:
    """What an export wrote."""

    adapter: str
    method: str
    base: str
    output: str
    exact: bool
    rank: int
    error: float
    """‖ΔW − B·A‖ / ‖ΔW‖ over all modules, in the Frobenius norm."""
    largest_error: float
    """The same for the module where it is largest."""
    modules: dict[str, ModuleFit]
    notes: list[str]
    servers: list[Server]
    bytes_written: int
    seconds: float


def export_lora(
    adapter_or_run: Path,
    output: Path,
    limit: Limit,
    *,
    overwrite: bool = False,
    report: Progress = lambda _done, _total: None,
) -> ExportResult:
    """Write `output`: the adapter as a canonical LoRA, whole or not at all.

    Raises:
        ExportError: the output is taken, or the adapter has no such form within the limit.
    """
    with told_as(ExportError, output):
        check_place(output, CONFIG, [adapter_or_run], overwrite=overwrite)
        return _export(adapter_or_run, output, limit, report)


def _export(adapter_or_run: Path, output: Path, limit: Limit, report: Progress) -> ExportResult:
    started = time.perf_counter()
    adapter = read_exportable(find_adapter(adapter_or_run))
    fits = fits_of(adapter, limit, report)
    pairs = {module: fit.pair for module, fit in fits.items()}
    figures = figures_of(fits)
    origin = {**adapter.origin, "exported": {"method": adapter.method, **figures}}
    with new_folder(output) as new:
        write_canonical(new, pairs, adapter.config, origin)
        size = sum(path.stat().st_size for path in new.iterdir())
    return ExportResult(
        adapter=str(adapter.path),
        method=adapter.method,
        base=adapter.base_name,
        output=str(output),
        modules=module_fits(fits),
        notes=adapter.notes(),
        servers=servers_for(
            base=adapter.config.base_name or adapter.base_name,
            adapter=str(output),
            facts=ServingFacts(
                rank=figures["rank"],
                quantization=adapter.quantization,
                double_quantization=adapter.doubly_quantized,
                own_base="base_made_from" in adapter.origin,
                input_by_output=bool(adapter.config.settings.get("fan_in_fan_out")),
                experts=any(".experts." in module for module in pairs),
            ),
        ),
        bytes_written=size,
        seconds=time.perf_counter() - started,
        **figures,
    )


def fits_of(adapter: Exportable, limit: Limit, report: Progress) -> dict[str, Fit]:
    """Return each module's pair: exact where the method has one, else the nearest in the limit.

    Raises:
        MergeError: there is no exact pair, and no limit.
    """
    exact = factors_of(adapter.config, adapter.tensors, adapter.find_base)
    if exact is not None:
        return {module: fit_factors(pair, limit) for module, pair in exact.items()}
    if not limit.given:
        message = f"no LoRA is known that is exactly the same as {adapter.method}"
        hint = f"say how near is enough: --error 0.05, or a rank as in --rank 32; or {INSTEAD}"
        raise MergeError(message, str(adapter.config.path), hint)
    fits = {}
    with full_precision(fetched := fetch_base(adapter.find_base())) as base:
        adapted = AdaptedBase(adapter if base == fetched else adapter.on_full_precision(), base)
        for done, (module, delta) in enumerate(adapted.changes(), 1):
            fits[module] = fit_weight(delta, limit)
            report(done, len(adapted))
    return fits
