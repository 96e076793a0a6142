"""A base is written as it is held, under an adapter that stays where it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from lora_cli.model.base import BaseOptions, load_base, save_base
from lora_cli.quantization.bitsandbytes import EightBit, FourBit
from lora_cli.quantization.none import Unquantized
from tests.helpers.families import FAMILIES, Family
from tests.helpers.runs import PLAIN_PEFT

pytestmark = PLAIN_PEFT
METHODS: dict[str, Any] = {
    "none": Unquantized(),
    "nf4": FourBit(method="nf4"),
    "fp4": FourBit(method="fp4", double_quantization=False, compute_dtype="bfloat16"),
    "int8": EightBit(method="int8"),
}


def adapted(family: Family, folder: Path, method: str, **settings: Any) -> tuple[Any, Any]:
    """Return the state of a base, and the base with an adapter that does something."""
    options = BaseOptions(
        dtype="float32",
        attention="eager",
        device="cpu",
        trust_remote_code=False,
        allow_pickle=False,
    )
    base = load_base(family.write(folder / "model"), METHODS[method], options).model
    state = {name: each.clone() for name, each in base.state_dict().items()}
    config = LoraConfig(
        target_modules=list(family.leaves),
        init_lora_weights=False,
        fan_in_fan_out=family is FAMILIES["gpt2"] and method == "none",
        **settings,
    )
    return state, get_peft_model(base, config)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("method", METHODS)
def test_what_is_read_again_is_what_was_held_to_the_bit(
    tmp_path: Path, name: str, method: str
) -> None:
    state, model = adapted(FAMILIES[name], tmp_path, method)
    layers = dict(model.named_modules())
    save_base(model, tmp_path / "base")
    assert all(each is layers[name] for name, each in model.named_modules())
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    held = again.state_dict()
    assert held.keys() == state.keys()
    assert all(held[name].equal(tensor) for name, tensor in state.items())
    assert not (tmp_path / "base" / "adapter_config.json").exists()
    config = getattr(again.config, "quantization_config", None)
    assert (config is None) is (method == "none")
    if method in ("nf4", "fp4"):
        assert config.bnb_4bit_quant_type == method
        assert config.bnb_4bit_compute_dtype == (
            torch.float32 if method == "nf4" else torch.bfloat16
        )


def test_modules_and_tokens_that_are_trained_beside_the_pairs_stay_out_of_it(
    tmp_path: Path,
) -> None:
    state, model = adapted(
        FAMILIES["llama"],
        tmp_path,
        "nf4",
        modules_to_save=["norm"],
        trainable_token_indices={"embed_tokens": [3, 5]},
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(1)
    layers = dict(model.named_modules())
    save_base(model, tmp_path / "base")
    assert all(each is layers[name] for name, each in model.named_modules())
    stored = load_file(tmp_path / "base" / "model.safetensors")
    assert stored.keys() == state.keys()
    assert all(tensor.equal(state[name]) for name, tensor in stored.items())
