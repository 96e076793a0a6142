"""extract_lora: what full tuning changed in the linear layers of a base, as a LoRA.

Tensor by tensor from both checkpoints. What a LoRA cannot hold is looked at first, so that nobody
learns after an hour that it was most of the change.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lora_cli.errors import ExtractError
from lora_cli.files import new_folder
from lora_cli.merge.adapter_config import CONFIG
from lora_cli.merge.canonical import write_canonical
from lora_cli.merge.extract.compare import Change, Tensors, weight_change
from lora_cli.merge.extract.layout import LinearLayer
from lora_cli.merge.extract.models import Models, open_models
from lora_cli.merge.extract.options import ExtractOptions
from lora_cli.merge.extract.rest import changes_outside, refuse_rest
from lora_cli.merge.fits import ModuleFit, figures_of, module_fits
from lora_cli.merge.output import CONFIG_FILE
from lora_cli.merge.place import check_place, told_as
from lora_cli.merge.sketch import nearest_pair
from lora_cli.merge.truncate import Fit, Limit

Progress = Callable[[int, int], None]
"""Told how many layers of how many are done."""


@dataclass(frozen=True)
class ExtractResult:
    """What an extraction wrote."""

    tuned: str
    base: str
    output: str
    exact: bool
    """Whether no singular value was cut off."""
    rank: int
    error: float
    """‖ΔW − B·A‖ / ‖ΔW‖ over all extracted layers, in the Frobenius norm."""
    largest_error: float
    """The same for the layer where it is largest."""
    whole_error: float
    """The same over all tensors of the model: what the LoRA cannot hold is lost."""
    modules: dict[str, ModuleFit]
    whole: list[str]
    """Modules that are held as they are in the tuned model: the head of its task."""
    rest: list[Change]
    """What changed and is not in the LoRA."""
    settings: list[str]
    """Settings of the model that changed, in words."""
    unchanged: list[str]
    """Tensors that did not change at all."""
    bytes_written: int
    seconds: float


def extract_lora(
    tuned: str,
    base: str,
    output: Path,
    options: ExtractOptions,
    *,
    overwrite: bool = False,
    report: Progress = lambda _done, _total: None,
) -> ExtractResult:
    """Write `output`: tuned − base as a canonical LoRA on the base, whole or not at all.

    Both are named as a recipe names a model: hub id, folder, GGUF file, `package://…`.

    Raises:
        ExtractError: the output is taken, the models do not belong together, or something changed
            that a LoRA cannot hold.
        UsageError: a target is no linear layer of the models.
    """
    started = time.perf_counter()
    with told_as(ExtractError, output):
        check_place(output, CONFIG, (Path(tuned), Path(base)), overwrite=overwrite)
        models = open_models(tuned, base)
        layers = models.layout.chosen(options.targets)
        rest, unchanged = changes_outside(models, layers)
        if not options.allow_rest:
            refuse_rest(rest, models.settings, tuned)
        fits = _fits(models.tensors, layers, options.limit, report)
        if not fits:
            raise _nothing_changed(tuned, with_head=bool(models.layout.whole))
        size = _write(output, models, [layers[name] for name in fits], fits)
    return ExtractResult(
        tuned=tuned,
        base=base,
        output=str(output),
        whole_error=_whole_error(fits, rest),
        modules=module_fits({layers[name].module: fit for name, fit in fits.items()}),
        whole=list(models.layout.whole),
        rest=rest,
        settings=models.settings,
        unchanged=[*unchanged, *(name for name in layers if name not in fits)],
        bytes_written=size,
        seconds=time.perf_counter() - started,
        **figures_of(fits),
    )


def _fits(
    tensors: Tensors, layers: Mapping[str, LinearLayer], limit: Limit, report: Progress
) -> dict[str, Fit]:
    """Return the pairs of the layers that changed, by the names of their weights."""
    fits = {}
    for done, (name, layer) in enumerate(layers.items(), 1):
        change = weight_change(tensors, name)
        if change is not None:
            delta = change.delta.T if layer.input_by_output else change.delta
            fits[name] = nearest_pair(delta, limit, change.rounding)
        report(done, len(layers))
    return fits


def _nothing_changed(tuned: str, *, with_head: bool) -> ExtractError:
    if with_head:
        hint = "a LoRA of its head alone would adapt nothing: load the tuned model as it is"
        return ExtractError("changes no linear layer but its head: no LoRA is in it", tuned, hint)
    hint = "is the first the tuned model, and the second its base?"
    return ExtractError("changes no linear layer: nothing to extract", tuned, hint)


def _write(
    output: Path, models: Models, layers: Sequence[LinearLayer], fits: Mapping[str, Fit]
) -> int:
    """Write the adapter's folder; return its size."""
    tuned = {"tuned": str(models.tuned.folder), "tuned_fingerprint": models.tuned.fingerprint}
    origin = {**models.origin(), "extracted": {**tuned, **figures_of(fits)}}
    pairs = {layer.module: fit.pair for layer, fit in zip(layers, fits.values(), strict=True)}
    with new_folder(output) as new:
        whole = models.tensors.whole()
        write_canonical(new, pairs, models.adapter_config(layers), origin, whole=whole)
        if whole:  # the labels, and with them the size of the head
            shutil.copyfile(models.tuned.folder / CONFIG_FILE, new / CONFIG_FILE)
        return sum(path.stat().st_size for path in new.iterdir())


def _whole_error(fits: Mapping[str, Fit], rest: Sequence[Change]) -> float:
    beside = sum(each.squared for each in rest)
    lost, total = sum(fit.lost for fit in fits.values()), sum(fit.total for fit in fits.values())
    return math.sqrt((lost + beside) / (total + beside)) if total + beside else 0.0
