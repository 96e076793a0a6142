"""Pairs from an adapter's own tensors: those of peft's layers, and no tensor left over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AdaLoraConfig, MissConfig, PeftModel, VeraConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import AutoModelForCausalLM

from lora_cli.adapters.variant import Factors
from lora_cli.errors import MergeError
from lora_cli.facts.model_source import find_model
from lora_cli.merge.adapter_config import read_any_config
from lora_cli.merge.adapter_folder import read_tensors
from lora_cli.merge.factors import factors_of
from tests.helpers.adapters import change_config, change_tensors
from tests.helpers.methods import APPROXIMATE, EXACT, EXACT_ON_LINEAR, NOTICES, Make, method

pytestmark = NOTICES
TinyModel = Callable[[str], Path]
LAYER = "base_model.model.model.layers.0.mlp.down_proj"


def factors(adapter: Path, base: Path | None = None) -> dict[str, Factors] | None:
    """Return the pairs; asking for a base that was not given is a failure."""

    def find() -> Any:
        assert base is not None, "the base was asked for"
        return find_model(str(base), revision=None, base_dir=Path.cwd())

    return factors_of(read_any_config(adapter), read_tensors(adapter), find)


@pytest.mark.parametrize(
    ("architecture", "name"),
    [
        ("llama", "adalora"),
        ("gpt2", "adalora"),
        ("llama", "vera"),
        ("gpt2", "vera"),
        ("llama", "loha"),
    ],
)
def test_pairs_are_what_peft_makes_of_them(
    tmp_path: Path, tiny_model: TinyModel, architecture: str, name: str
) -> None:
    base = tiny_model(architecture)
    adapter = (EXACT | EXACT_ON_LINEAR)[name](tmp_path / "adapter", base, architecture)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    loaded = PeftModel.from_pretrained(model, adapter).base_model.model
    layers = {n: each for n, each in loaded.named_modules() if isinstance(each, BaseTunerLayer)}
    pairs = factors(adapter, base)
    assert pairs is not None
    assert pairs.keys() == layers.keys()
    for module, pair in pairs.items():
        theirs = layers[module].get_delta_weight("default").detach()
        ours = pair.b @ pair.a
        torch.testing.assert_close(ours.T if architecture == "gpt2" else ours, theirs)


@pytest.mark.parametrize("name", [*EXACT, "olora"])
def test_only_vera_and_miss_ask_for_the_base(
    tmp_path: Path, tiny_model: TinyModel, name: str
) -> None:
    adapter = (EXACT | EXACT_ON_LINEAR)[name](tmp_path / "adapter", tiny_model("llama"), "llama")
    if name == "vera":
        with pytest.raises(AssertionError, match="was asked for"):
            factors(adapter)
    else:
        assert factors(adapter)


@pytest.mark.parametrize("name", APPROXIMATE)
def test_all_other_methods_have_no_pairs(tmp_path: Path, tiny_model: TinyModel, name: str) -> None:
    adapter = APPROXIMATE[name](tmp_path / "adapter", tiny_model("llama"), "llama")
    assert factors(adapter, tiny_model("llama")) is None


def test_ranks_that_adalora_took_away_are_gone(tmp_path: Path, tiny_model: TinyModel) -> None:
    adapter = EXACT["adalora"](tmp_path / "adapter", tiny_model("llama"), "llama")
    before = factors(adapter)

    def prune(tensors: dict[str, torch.Tensor]) -> None:
        tensors[f"{LAYER}.lora_E"][1:4] = 0

    change_tensors(adapter, prune)
    after = factors(adapter)
    assert before
    assert after
    down, up = "model.layers.0.mlp.down_proj", "model.layers.0.mlp.up_proj"
    assert (len(after[down].a), after[down].b.shape[1]) == (3, 3)
    assert after[up].a.equal(before[up].a)
    kept = before[down].b[:, [0, 4, 5]] @ before[down].a[[0, 4, 5]]
    torch.testing.assert_close(after[down].b @ after[down].a, kept)


@pytest.mark.parametrize("inputs", [5, 32, 64])
def test_miss_sums_every_rth_input(tmp_path: Path, tiny_model: TinyModel, inputs: int) -> None:
    """At ranks that divide the inputs, and at one that does not."""
    base = tiny_model("llama")
    rank = min(inputs, 32)
    adapter = method(MissConfig, r=rank)(tmp_path / "adapter", base, "llama")
    pairs = factors(adapter, base)
    assert pairs
    lora_a = pairs["model.layers.0.mlp.down_proj"].a
    assert lora_a.shape == (rank, 64)
    x = torch.randn(64)
    sums = torch.stack([x[index::rank].sum() for index in range(rank)])
    torch.testing.assert_close(lora_a @ x, sums)


@pytest.mark.parametrize(
    ("make", "change", "said"),
    [
        (
            EXACT["adalora"],
            lambda t: t.pop(f"{LAYER}.lora_E"),
            f"`{LAYER}.lora_E` is missing",
        ),
        (EXACT["adalora"], lambda t: t.update(extra=torch.ones(1)), "`extra` would be lost"),
        (
            EXACT["adalora"],
            lambda t: t.update({f"{LAYER}.lora_E": torch.ones(5, 1)}),
            "the tensors of `model.layers.0.mlp.down_proj` do not fit: lora_A (6, 64), lora_B",
        ),
        (EXACT["adalora"], lambda t: t.clear(), "holds no lora_A"),
        (
            EXACT["vera"],
            lambda t: t.update({f"{LAYER}.vera_lambda_d": torch.ones(3)}),
            "vera_lambda_b (32,), vera_lambda_d (3,)",
        ),
        (
            EXACT["vera"],
            lambda t: t.update({f"{LAYER}.vera_lambda_b": torch.ones(31)}),
            "do not fit: vera_lambda_b (31,)",
        ),
        (
            EXACT["vera"],
            lambda t: t.update({"base_model.vera_A": torch.ones(16, 63)}),
            "do not fit",
        ),
        (
            EXACT["vera"],
            lambda t: t.update({"base_model.vera_B": torch.ones(63, 16)}),
            "do not fit",
        ),
        (
            EXACT["vera"],
            lambda t: rename(t, ".layers.0.", ".layers.9."),
            "the base has no linear layer `model.layers.9.mlp.down_proj`",
        ),
        (
            EXACT_ON_LINEAR["miss"],
            lambda t: t.update({f"{LAYER}.miss_block": torch.ones(4, 33)}),
            "miss_block (4, 33)",
        ),
        (
            EXACT_ON_LINEAR["miss"],
            lambda t: t.update({f"{LAYER}.miss_block": torch.ones(8, 4, 4)}),
            "miss_block (8, 4, 4)",
        ),
    ],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path,
    tiny_model: TinyModel,
    make: Make,
    change: Callable[[dict[str, torch.Tensor]], None],
    said: str,
) -> None:
    adapter = make(tmp_path / "adapter", tiny_model("llama"), "llama")
    change_tensors(adapter, change)
    with pytest.raises(MergeError) as caught:
        factors(adapter, tiny_model("llama"))
    assert said in str(caught.value)
    assert str(adapter / "adapter_model.safetensors") in str(caught.value)


def rename(tensors: dict[str, torch.Tensor], old: str, new: str) -> None:
    for name in list(tensors):
        tensors[name.replace(old, new)] = tensors.pop(name)


def test_a_seed_is_not_trusted_for_veras_projections(tmp_path: Path, tiny_model: TinyModel) -> None:
    make = method(VeraConfig, r=16, save_projection=False)
    with pytest.warns(UserWarning, match="PRNG"):
        adapter = make(tmp_path / "adapter", tiny_model("llama"), "llama")
    with pytest.raises(MergeError, match=r"projections were not saved.*save_projection=True"):
        factors(adapter, tiny_model("llama"))


@pytest.mark.parametrize("key", ["lora_alpha", "init_r"])
def test_a_scaling_that_is_no_number_is_an_error(
    tmp_path: Path, tiny_model: TinyModel, key: str
) -> None:
    make = method(AdaLoraConfig, init_r=6, target_r=3, total_step=9, tinit=1, tfinal=2)
    adapter = make(tmp_path / "adapter", tiny_model("llama"), "llama")
    change_config(adapter, **{key: 0})
    with pytest.raises(MergeError, match=f"`{key}` is 0, not a number over 0"):
        factors(adapter)
