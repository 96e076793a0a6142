"""One variant on one base of the matrices: what is asked, what is refused, and how it is built."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from lora_cli.adapters import AdapterSpec
from lora_cli.adapters.targeted import TargetedSpec
from lora_cli.adapters.variant import Setting, VariantSpec
from lora_cli.facts.linear_layers import LinearFacts
from lora_cli.model.base import BaseOptions, load_base
from lora_cli.model.build import AdapterOrder, BuiltModel, build_model
from lora_cli.model.evidence import Calibration
from lora_cli.model.layers import has_input_by_output_weight, weight_of
from lora_cli.quantization import QuantizationSpec
from lora_cli.quantization.bitsandbytes import EightBit, FourBit
from lora_cli.quantization.none import Unquantized
from lora_cli.recipe.fields import members, sections_of
from tests.helpers.families import Family, batch

VARIANTS: dict[str, type[VariantSpec]] = members(sections_of(AdapterSpec))  # type: ignore[assignment]
METHODS: dict[str, QuantizationSpec] = {
    "none": Unquantized(),
    "nf4": FourBit(method="nf4"),
    "fp4": FourBit(method="fp4"),
    "int8": EightBit(method="int8"),
}
STEPS = 20
FIELDS: dict[str, dict[str, Any]] = {"fourierft": {"frequencies": 500}}
"""What a variant needs on models of 64 columns; otherwise a rank of 4."""


def cells(families: Iterable[str], always: Mapping[str, Collection[str]]) -> list[Any]:
    """Return (family, variant, way of holding the base) for all; `whole` where not `always`."""
    return [
        pytest.param(
            name, variant, method, marks=[] if name in always[method] else pytest.mark.whole
        )
        for name in families
        for variant in VARIANTS
        for method in METHODS
    ]


@contextmanager
def without_int8_rounding() -> Iterator[None]:
    """Let int8 layers multiply by their dequantised weights.

    They round what goes in to 8 bits: a difference of 1e-7 before can be one of 1e-2 after.
    """
    from bitsandbytes.nn import Linear8bitLt

    def forward(layer: Any, inputs: torch.Tensor) -> torch.Tensor:
        return functional.linear(inputs, weight_of(layer), layer.bias)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Linear8bitLt, "forward", forward)
        yield


class Cell:
    """One variant on one base."""

    def __init__(
        self,
        family: Family,
        folder: Path,
        variant: type[VariantSpec],
        quantization: QuantizationSpec,
    ) -> None:
        self.family, self.folder, self.quantization = family, folder, quantization
        self.options = options(family)
        self.setting = setting_of(family, folder)
        targeted = issubclass(variant, TargetedSpec)
        self.modules = [each.name for each in self.setting.modules] if targeted else []
        self.name = name = variant.model_fields["variant"].default
        usual = {"rank": 4} if "rank" in variant.model_fields else {}
        asked = {"variant": name, **FIELDS.get(name, usual)}
        self.spec: Any = variant.model_validate(asked).settled(self.setting)

    def refusal(self) -> str:
        """Return the declared reason why this cell does not work, if there is one."""
        left_alone = [each for each in self.setting.modules if self.quantization.keeps(each.name)]
        return self.spec.capability.refusal(
            self.quantization.method, conv1d=any(each.conv1d for each in left_alone)
        )

    def build(self) -> BuiltModel:
        """Return base and adapter."""
        order = AdapterOrder(
            spec=self.spec,
            peft_names=self.modules,
            modules=self.modules,
            seed=0,
            calibration=Calibration([batch()], self.family.loss),
            task=self.family.task,
        )
        return build_model(self.folder, self.quantization, self.options, order)

    def fresh_base(self) -> Any:
        """Return the base as anyone would load it."""
        return load_base(self.folder, self.quantization, self.options).model


def options(family: Family) -> BaseOptions:
    return BaseOptions(
        dtype="float32",
        attention="eager",
        device="cpu",
        trust_remote_code=False,
        allow_pickle=False,
        auto_class=family.auto_class,
        heads=family.heads,
    )


@cache
def setting_of(family: Family, folder: Path) -> Setting:
    """Return what a variant is settled for on this model."""
    model = load_base(folder, Unquantized(), options(family)).model
    config = model.config
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or getattr(config, "d_kv", None)
    size = size or config.hidden_size // heads
    shapes = [_shape(name, model.get_submodule(name)) for name in family.modules(model)]
    return Setting(
        modules=shapes,
        feed_forward_ends=[
            each.name for each in shapes if each.name.endswith((".down_proj", ".wo", "mlp.c_proj"))
        ],
        layers=config.num_hidden_layers,
        hidden_size=config.hidden_size,
        key_value_size=size * (getattr(config, "num_key_value_heads", None) or heads),
        steps=STEPS,
    )


def _shape(name: str, module: Any) -> LinearFacts:
    if has_input_by_output_weight(module):
        return LinearFacts(name, module.nx, module.nf, conv1d=True)
    return LinearFacts(name, module.in_features, module.out_features)


def save(built: BuiltModel, folder: Path) -> None:
    """Write the adapter as a run does, tokenizer and origin aside."""
    saved = built.adapter.saved()
    saved.config.inference_mode = True
    saved.config.save_pretrained(str(folder))
    save_file(saved.tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
