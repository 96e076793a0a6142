"""Base and adapter together: the order in which they are loaded, started and attached.

A start that needs the original weights of a base that will be quantized is computed on the base in
full precision, on the CPU; what the base gives up for it is taken out before it is quantized. That
makes a base that nobody else has: it belongs to what the run leaves behind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lora_cli.adapters import AdapterSpec
from lora_cli.adapters.low_rank import LowRankSpec
from lora_cli.adapters.variant import Start
from lora_cli.events import Report
from lora_cli.model.adapter import AttachedAdapter, attach_adapter
from lora_cli.model.base import BaseOptions, LoadedBase, load_base
from lora_cli.model.evidence import Calibration
from lora_cli.model.layers import is_quantized
from lora_cli.model.start import compute_starts, take_from_base
from lora_cli.quantization import QuantizationSpec
from lora_cli.quantization.none import Unquantized


@dataclass(frozen=True)
class AdapterOrder:
    """Which adapter is put where; every value final."""

    spec: AdapterSpec
    peft_names: Sequence[str]
    modules: Sequence[str]
    seed: int
    calibration: Calibration | None = None
    task: str = "CAUSAL_LM"


@dataclass(frozen=True)
class BuiltModel:
    """A base with its adapter."""

    adapter: AttachedAdapter
    unused: tuple[str, ...]
    """Names of the tensors in the base's files that the model has no place for."""


def build_model(
    weights: Path,
    quantization: QuantizationSpec,
    options: BaseOptions,
    order: AdapterOrder,
    *,
    starts: Mapping[str, Start] | None = None,
    report: Report = lambda _event: None,
) -> BuiltModel:
    """Return the base in `weights` with a new adapter, started by `starts` or as its method says.

    Raises:
        RunError: the weights or the modules are not what was ordered.
    """
    making = _Making(weights, quantization, options, order, report)
    base, starts = making.base_and_starts(starts)
    adapter = attach_adapter(
        base.model,
        order.spec,
        peft_names=order.peft_names,
        modules=order.modules,
        seed=order.seed,
        starts=starts,
        task=order.task,
    )
    own_base = making.quantizes and order.spec.takes_from_base
    return BuiltModel(replace(adapter, own_base=own_base), base.unused)


@dataclass(frozen=True)
class _Making:
    """A base and the starts on it, in the making."""

    weights: Path
    quantization: QuantizationSpec
    options: BaseOptions
    order: AdapterOrder
    report: Report

    @property
    def quantizes(self) -> bool:
        return self.quantization.method != "none"

    def base_and_starts(
        self, starts: Mapping[str, Start] | None
    ) -> tuple[LoadedBase, Mapping[str, Start]]:
        kind = self.order.spec.start_from
        if self.quantizes and kind == "original weights":
            return self._changed_base(starts, self.order.modules)
        if self.quantizes and kind == "quantization error":
            return self._base_and_its_error(starts)
        base = self._load()
        if starts is None:
            starts = self._starts(base.model, self.order.modules)
        take_from_base(base.model, self.order.spec, starts)
        return base, starts

    def _changed_base(
        self, starts: Mapping[str, Start] | None, modules: Sequence[str]
    ) -> tuple[LoadedBase, Mapping[str, Start]]:
        """Take out of the weights in full precision, then quantize what is left."""
        plain = self._load_plain()
        if starts is None:
            starts = self._starts(plain, modules)
        take_from_base(plain, self.order.spec, starts)
        return load_base(self.weights, self.quantization, self.options, changed=plain), starts

    def _base_and_its_error(
        self, starts: Mapping[str, Start] | None
    ) -> tuple[LoadedBase, Mapping[str, Start]]:
        """Start the modules that are quantized; others lose nothing, and start from the seed."""
        if self.order.spec.takes_from_base:
            return self._changed_base(starts, () if starts else self._lossy(self._load()))
        base = self._load()
        if starts is None:
            starts = self._starts(self._load_plain(), self._lossy(base))
        return base, starts

    def _lossy(self, base: LoadedBase) -> list[str]:
        names = self.order.modules
        return [name for name in names if is_quantized(base.model.get_submodule(name))]

    def _load(self) -> LoadedBase:
        return load_base(self.weights, self.quantization, self.options)

    def _load_plain(self) -> Any:
        options = replace(self.options, device="cpu")
        return load_base(self.weights, Unquantized(), options).model

    def _starts(self, model: Any, modules: Sequence[str]) -> Mapping[str, Start]:
        spec = self.order.spec
        if spec.start_from == "seed":
            return {}
        assert isinstance(spec, LowRankSpec), "pairs are what starts are computed for"
        return compute_starts(
            model,
            spec,
            modules,
            calibration=self.order.calibration,
            requantized=self.quantization.requantized,
            report=self.report,
        )
