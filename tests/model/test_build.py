"""Base, start and adapter in the right order: what the model holds before its first step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lora_cli.adapters import Corda, Eva, LoftQ, Lora, LoraGa, OLora, Pissa
from lora_cli.model import build as module
from lora_cli.model.base import BaseOptions, load_base
from lora_cli.model.build import AdapterOrder, BuiltModel, build_model
from lora_cli.model.evidence import Calibration, mean_inputs
from lora_cli.model.layers import weight_of
from lora_cli.model.start import load_starts, save_starts
from lora_cli.quantization.bitsandbytes import EightBit, FourBit
from lora_cli.quantization.none import Unquantized
from tests.helpers.families import FAMILIES, batch, logits, mean_loss
from tests.helpers.starts import product, smallest_cosine

NONE = Unquantized()
METHODS: dict[str, Any] = {
    "nf4": FourBit(method="nf4"),
    "fp4": FourBit(method="fp4", double_quantization=False),
    "int8": EightBit(method="int8"),
}
TAKING = [Pissa(rank=4), Pissa(rank=4, svd="fast"), OLora(rank=4), LoftQ(rank=4, iterations=3)]


class Site:
    """A model folder of a family, and what is built on it."""

    def __init__(self, name: str, folder: Path, dtype: str = "float32") -> None:
        self.family, self.folder = FAMILIES[name], FAMILIES[name].write(folder)
        self.options = BaseOptions(
            dtype=dtype,
            attention="eager",
            device="cpu",
            trust_remote_code=False,
            allow_pickle=False,
            auto_class=self.family.auto_class,
        )
        self.plain = self.base(NONE)
        self.names = self.family.modules(self.plain)

    def base(self, quantization: Any) -> Any:
        return load_base(self.folder, quantization, self.options).model

    def weight(self, name: str) -> torch.Tensor:
        return weight_of(self.plain.get_submodule(name))

    def build(self, spec: Any, quantization: Any = NONE, **options: Any) -> BuiltModel:
        order = AdapterOrder(
            spec=spec,
            peft_names=self.names,
            modules=self.names,
            seed=0,
            calibration=Calibration([batch()], mean_loss),
            task=self.family.task,
        )
        return build_model(self.folder, quantization, self.options, order, **options)


def held(built: BuiltModel, name: str) -> torch.Tensor:
    """Return the weight of the base's own layer."""
    layer = built.adapter.model.base_model.model.get_submodule(name)
    return weight_of(layer.base_layer)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize(
    "spec",
    [
        *TAKING[:3],
        Eva(rank=4),
        LoraGa(rank=4),
        Corda(rank=4),
        Corda(rank=4, mode="knowledge_preserved"),
    ],
    ids=lambda spec: spec.variant,
)
def test_before_the_first_step_the_model_is_the_base(
    tmp_path: Path, architecture: str, spec: Any
) -> None:
    site = Site(architecture, tmp_path)
    built = site.build(spec)
    before = logits(site.plain, site.family)
    assert float(before.abs().max()) > 1, "an error of 1e-5 is small beside it"
    after = logits(built.adapter.model, site.family)
    assert float((after - before).abs().max()) <= 1e-5
    assert not built.adapter.own_base
    assert built.adapter.starts.keys() == set(site.names)
    with built.adapter.model.disable_adapter():
        without = logits(built.adapter.model, site.family)
    gave_up = float((without - before).abs().max()) > 1e-2
    assert gave_up is spec.takes_from_base


@pytest.mark.parametrize(
    ("architecture", "method", "spec"),
    [
        *(("llama", method, spec) for method in METHODS for spec in TAKING[1:]),
        *(("gpt2", method, TAKING[0]) for method in METHODS),
    ],
)
def test_what_is_left_is_what_is_quantized(
    tmp_path: Path, architecture: str, method: str, spec: Any
) -> None:
    site = Site(architecture, tmp_path)
    built = site.build(spec, METHODS[method])
    assert built.adapter.own_base
    for name in site.names:
        taken = built.adapter.starts[name].taken
        assert taken is not None
        expected = METHODS[method].requantized(site.weight(name) - spec.scaling * product(taken))
        assert held(built, name).equal(expected)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", METHODS)
def test_loftq_of_one_iteration_is_on_the_base_that_everyone_has(
    tmp_path: Path, dtype: str, method: str
) -> None:
    site = Site("llama", tmp_path, dtype)
    built, everyones = site.build(LoftQ(rank=4), METHODS[method]), site.base(METHODS[method])
    assert not built.adapter.own_base
    for name in site.names:
        assert held(built, name).equal(weight_of(everyones.get_submodule(name)))
        weight, pair = site.weight(name), built.adapter.starts[name].first
        before = (weight - held(built, name)).norm()
        assert (weight - held(built, name) - 2 * product(pair)).norm() < 0.95 * before


@pytest.mark.parametrize("spec", TAKING[:3], ids=lambda spec: spec.variant)
def test_a_quantized_rest_is_nearer_to_the_weight_than_a_quantized_weight(
    tmp_path: Path, spec: Any
) -> None:
    """The reason to take a part out first; OLoRA's is no principal part, and gains less."""
    site = Site("llama", tmp_path)
    built = site.build(spec, METHODS["nf4"])
    alone = made = 0.0
    for name in site.names:
        weight, pair = site.weight(name), built.adapter.starts[name].first
        alone += float((weight - METHODS["nf4"].requantized(weight)).square().sum())
        made += float((weight - held(built, name) - 2 * product(pair)).square().sum())
    assert made < (0.99 if spec.variant == "olora" else 0.9) * alone


@pytest.mark.parametrize("iterations", [1, 3])
def test_a_layer_that_is_not_quantized_loses_nothing_and_starts_from_the_seed(
    tmp_path: Path, iterations: int
) -> None:
    """T5 keeps its `wo` in full precision."""
    site = Site("t5", tmp_path)
    built = site.build(LoftQ(rank=4, iterations=iterations), METHODS["nf4"])
    kept = [name for name in site.names if name.endswith(".wo")]
    assert kept
    assert built.adapter.starts.keys() == set(site.names) - set(kept)
    for name in kept:
        layer = built.adapter.model.base_model.model.get_submodule(name)
        assert held(built, name).equal(site.weight(name))
        assert layer.lora_B["default"].weight.abs().max() == 0
        assert layer.lora_A["default"].weight.abs().max() > 0


@pytest.mark.parametrize("method", METHODS)
def test_inputs_are_those_of_the_quantized_base(tmp_path: Path, method: str) -> None:
    site = Site("llama", tmp_path)
    built, base = site.build(Eva(rank=4), METHODS[method]), site.base(METHODS[method]).eval()
    inputs = mean_inputs(base, site.names, Calibration([batch()], mean_loss))
    for name in site.names:
        leading = torch.linalg.eigh(inputs[name]).eigenvectors[:, -4:].T
        assert smallest_cosine(built.adapter.starts[name].first.a, leading) > 0.999
        assert held(built, name).equal(weight_of(base.get_submodule(name)))


@pytest.mark.parametrize(
    ("spec", "method"),
    [
        (Pissa(rank=4), "none"),
        (Pissa(rank=4, svd="fast"), "nf4"),
        (OLora(rank=4), "int8"),
        (LoftQ(rank=4), "fp4"),
        (LoftQ(rank=4, iterations=3), "nf4"),
    ],
)
def test_saved_starts_make_the_same_model_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: Any, method: str
) -> None:
    site, quantization = Site("llama", tmp_path), METHODS.get(method, NONE)
    first = site.build(spec, quantization)
    save_starts(tmp_path / "starts.safetensors", first.adapter.starts)
    monkeypatch.setattr(module, "compute_starts", None)
    starts = load_starts(tmp_path / "starts.safetensors")
    again = site.build(spec, quantization, starts=starts)
    assert again.adapter.own_base is first.adapter.own_base
    for name in site.names:
        assert held(again, name).equal(held(first, name))
    mine, other = first.adapter.state(), again.adapter.state()
    assert all(mine[name].equal(other[name]) for name in mine)


def test_an_adapter_without_a_start_is_on_the_untouched_base(tmp_path: Path) -> None:
    site = Site("llama", tmp_path)
    built = site.build(Lora(rank=4), METHODS["nf4"])
    assert built.adapter.starts == {}
    assert not built.adapter.own_base
    for name in site.names:
        assert held(built, name).equal(METHODS["nf4"].requantized(site.weight(name)))
