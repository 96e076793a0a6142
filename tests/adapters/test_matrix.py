"""The capability matrix against reality: every variant on every family and quantization.

A cell is refused with the variant's declared reason, or it trains: the loss falls, an evaluation in
between changes no gradient, and what is saved reloads in plain peft to the same logits.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
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
from lora_cli.facts.base_model import LinearFacts
from lora_cli.model.base import BaseOptions, load_base, save_base
from lora_cli.model.build import AdapterOrder, BuiltModel, build_model
from lora_cli.model.evidence import Calibration
from lora_cli.model.layers import has_input_by_output_weight, weight_of
from lora_cli.quantization import QuantizationSpec
from lora_cli.quantization.bitsandbytes import EightBit, FourBit
from lora_cli.quantization.none import Unquantized
from lora_cli.recipe.fields import members, sections_of
from tests.helpers.families import FAMILIES, Family, batch, logits
from tests.helpers.runs import PLAIN_PEFT

pytestmark = PLAIN_PEFT

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
RATES: dict[str, float] = {
    "vera": 0.05,
    "loha": 0.03,
    "lokr": 0.03,
    "ia3": 0.05,
    "fourierft": 0.3,
    "prompt_tuning": 0.1,
    "p_tuning": 0.01,
    "prefix_tuning": 0.1,
}
"""Learning rates at which 20 steps on random weights show; otherwise 0.01."""
RELOADS_WITHIN = 1e-4


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model folder of each family."""
    return {name: family.write(tmp_path_factory.mktemp(name)) for name, family in FAMILIES.items()}


@pytest.fixture(scope="module")
def counts(request: pytest.FixtureRequest) -> Iterator[Counter[str]]:
    """How many cells train and how many are refused; every one is one or the other."""
    counted: Counter[str] = Counter()
    yield counted
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    if reporter:  # the worker of several processes has none
        reporter.write_line(f"\ncells of the matrix: {dict(counted)}")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", FAMILIES)
def test_a_cell_works_or_is_refused(
    bases: dict[str, Path],
    counts: Counter[str],
    tmp_path: Path,
    name: str,
    variant: str,
    method: str,
) -> None:
    family = FAMILIES[name]
    cell = Cell(family, bases[name], VARIANTS[variant], METHODS[method])
    if cell.refusal():
        counts["refused"] += 1
        return
    built = cell.build()
    losses = cell.train(built)
    assert losses[-1] < losses[0] - 0.05, f"{losses[0]:.3f} → {losses[-1]:.3f}"
    save(built, tmp_path)
    with without_int8_rounding():
        ours = logits(built.adapter.model, family)
        reloaded = logits(cell.reload(built, tmp_path), family)
    difference = float((reloaded - ours).abs().max())
    assert difference <= RELOADS_WITHIN
    counts["trains and reloads"] += 1


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
        name = variant.model_fields["variant"].default
        usual = {"rank": 4} if "rank" in variant.model_fields else {}
        asked = {"variant": name, **FIELDS.get(name, usual)}
        self.rate = RATES.get(name, 0.01)
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

    def train(self, built: BuiltModel) -> list[float]:
        """Take the steps, an evaluation in the middle; return the losses."""
        model, losses = built.adapter.model, []
        parameters = [each for each in model.parameters() if each.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=self.rate, weight_decay=0.0)
        for step in range(1, STEPS + 1):
            model.train()
            loss = self._backward(model)
            if step == STEPS // 2:
                self._check_evaluation_changes_no_gradient(model, parameters)
            optimizer.step()
            self.spec.after_step(model, step)
            optimizer.zero_grad(set_to_none=True)
            losses.append(loss)
        assert all(map(math.isfinite, losses))
        return losses

    def _backward(self, model: Any) -> float:
        loss = self.family.loss(model, batch())
        loss.backward()
        penalty = self.spec.penalty(model)
        if penalty is not None:
            penalty.backward()
        return float(loss.detach())

    def _check_evaluation_changes_no_gradient(self, model: Any, parameters: list[Any]) -> None:
        before = [each.grad.clone() for each in parameters]
        assert all(gradient.any() for gradient in before), "every tensor learns"
        logits(model, self.family)
        model.train()
        for each in parameters:
            each.grad = None
        self._backward(model)
        for each, gradient in zip(parameters, before, strict=True):
            assert each.grad.equal(gradient)

    def fresh_base(self) -> Any:
        """Return the base as anyone would load it."""
        return load_base(self.folder, self.quantization, self.options).model

    def reload(self, built: BuiltModel, adapter: Path) -> Any:
        """Return base and adapter as plain peft loads them."""
        from peft import PeftModel

        base = self.own_base(built, adapter) if built.adapter.own_base else self.fresh_base()
        return PeftModel.from_pretrained(base, adapter)

    def own_base(self, built: BuiltModel, adapter: Path) -> Any:
        """Return the quantized base that nobody else has, written and read again."""
        save_base(built.adapter.model, adapter / "base")
        base = load_base(adapter / "base", Unquantized(), self.options).model
        self.quantization.after_load(base)
        return base


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
