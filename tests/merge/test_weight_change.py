"""ΔW by asking peft's layers: what they add to the model, for any method, on any base."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import (
    C3AConfig,
    DeloraConfig,
    GraloraConfig,
    HiraConfig,
    IA3Config,
    LNTuningConfig,
    LoraConfig,
    OSFConfig,
    PeftModel,
    PsoftConfig,
    RoadConfig,
    ShiraConfig,
    VBLoRAConfig,
    VeraConfig,
    WaveFTConfig,
)
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from lora_cli.errors import MergeError
from lora_cli.merge.adapter_folder import read_adapter
from lora_cli.merge.base import full_precision
from lora_cli.merge.weight_change import AdaptedBase
from tests.helpers.adapters import (
    TARGETS,
    adapted_logits,
    change_tensors,
    logits,
    make_peft_adapter,
    save_as,
)
from tests.helpers.methods import APPROXIMATE, EXACT, NOTICES, Make, method

pytestmark = NOTICES
TinyModel = Callable[[str], Path]
FOREIGN: dict[str, Make] = {
    "c3a": method(C3AConfig, block_size=8),
    "delora": method(DeloraConfig, r=4),
    "gralora": method(GraloraConfig, r=4),
    "hira": method(HiraConfig, r=4),
    "osf": method(OSFConfig),
    "psoft": method(PsoftConfig, r=4),
    "road": method(RoadConfig, group_size=8),
    "shira": method(ShiraConfig, r=4),
    "vblora": method(VBLoRAConfig, vector_length=8, num_vectors=16, topk=2, r=4),
    "waveft": method(WaveFTConfig, n_frequency=50),
}
"""Methods that loracli does not train."""

CASES = [
    *[("llama", name) for name in (*EXACT, *APPROXIMATE, *FOREIGN)],
    *[("gpt2", name) for name in ("patterns", "dora", "vera", "randlora", "fourierft", "hira")],
]
METHODS = EXACT | APPROXIMATE | FOREIGN


def changes_of(base: Path, adapter: Path, **quantization: Any) -> dict[str, torch.Tensor]:
    read = replace(read_adapter(adapter), origin={"quantization": quantization})
    return dict(AdaptedBase(read, base).changes())


def changed_logits(base: Path, changes: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the logits of the base in float32 with each ΔW added."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    for name, delta in changes.items():
        layer = model.get_submodule(name)
        layer.weight.data += delta.T if isinstance(layer, Conv1D) else delta
    return logits(model)


@pytest.mark.parametrize(("architecture", "name"), CASES)
def test_the_base_with_every_change_is_the_adapted_model(
    tmp_path: Path, tiny_model: TinyModel, architecture: str, name: str
) -> None:
    base = tiny_model(architecture)
    adapter = METHODS[name](tmp_path / "adapter", base, architecture)
    adapted, changed = (
        adapted_logits(base, adapter),
        changed_logits(base, changes_of(base, adapter)),
    )
    torch.testing.assert_close(changed, adapted, atol=1e-5, rtol=0)
    plain = logits(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32))
    assert not torch.allclose(adapted, plain, atol=1e-2)


@pytest.mark.parametrize("name", ["dora", "ia3", "oft", "boft", "lokr"])
def test_a_base_in_16_bits_is_asked_in_32(tmp_path: Path, tiny_model: TinyModel, name: str) -> None:
    base = save_as(tiny_model("llama"), tmp_path / "base", torch.bfloat16)
    adapter = METHODS[name](tmp_path / "adapter", base, "llama")
    adapted, changed = (
        adapted_logits(base, adapter),
        changed_logits(base, changes_of(base, adapter)),
    )
    torch.testing.assert_close(changed, adapted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_on_a_quantized_base_the_change_is_that_of_its_weights(
    tmp_path: Path, tiny_model: TinyModel, architecture: str, double: bool
) -> None:
    """DoRA's change holds W itself, so the weights that the base keeps are the ones to ask."""
    from transformers import BitsAndBytesConfig

    base = tiny_model(architecture)
    adapter = METHODS["dora"](tmp_path / "adapter", base, architecture)
    held = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=double
    )
    quantized = AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.float32, quantization_config=held
    )
    for module in quantized.modules():
        module.support_avx512bf16_for_cpu = False
    plain = dict(quantized.named_modules())
    adapted = PeftModel.from_pretrained(quantized, adapter).base_model.model
    right = changes_of(base, adapter, method="nf4", double_quantization=double)
    wrong = changes_of(base, adapter)
    for name, delta in right.items():
        unit = torch.eye(delta.shape[1])
        with torch.no_grad():
            added = (adapted.get_submodule(name)(unit) - plain[name](unit)).T
        torch.testing.assert_close(delta, added, atol=1e-5, rtol=0)
        assert not torch.allclose(wrong[name], added, atol=1e-3)


def test_a_bias_that_changes_too_is_refused(tmp_path: Path, tiny_model: TinyModel) -> None:
    """IA3 scales what comes out of a layer, its bias with it; GPT-2's layers have one."""
    base = Path(shutil.copytree(tiny_model("gpt2"), tmp_path / "base"))
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    for name, parameter in model.named_parameters():
        if name.endswith("c_attn.bias"):
            torch.nn.init.normal_(parameter)
    model.save_pretrained(base)
    config = IA3Config(
        task_type="CAUSAL_LM",
        target_modules=["c_attn"],
        feedforward_modules=[],
        fan_in_fan_out=True,
    )
    adapter = make_peft_adapter(tmp_path / "adapter", base, config)
    with pytest.raises(MergeError, match=r"h\.0\.attn\.c_attn` changes a bias too.*merge it"):
        changes_of(base, adapter)


def test_more_than_a_change_of_weight_is_refused(
    tmp_path: Path, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft.tuners.lora.layer import Linear

    base = tiny_model("llama")
    adapter = EXACT["lora"](tmp_path / "adapter", base, "llama")
    forward = Linear.forward

    def bent(self: Any, x: torch.Tensor, *arguments: Any, **named: Any) -> torch.Tensor:
        result: torch.Tensor = forward(self, x, *arguments, **named)
        return result + 0.01 * x.square().sum(-1, keepdim=True)

    monkeypatch.setattr(Linear, "forward", bent)
    with pytest.raises(MergeError, match="does more to its layer than change the weight"):
        changes_of(base, adapter)


def test_layers_that_are_not_linear_are_refused(tmp_path: Path, tiny_model: TinyModel) -> None:
    base = tiny_model("llama")
    config = LNTuningConfig(task_type="CAUSAL_LM", target_modules=["input_layernorm"])
    adapter = make_peft_adapter(tmp_path / "adapter", base, config)
    with pytest.raises(MergeError, match=r"input_layernorm` is a LlamaRMSNorm.*serve it with peft"):
        changes_of(base, adapter)


def test_a_method_that_changes_the_base_as_it_loads_is_refused(
    tmp_path: Path, tiny_model: TinyModel
) -> None:
    base = tiny_model("llama")
    config = LoraConfig(
        task_type="CAUSAL_LM", target_modules=TARGETS["llama"], init_lora_weights="pissa", r=4
    )
    adapter = make_peft_adapter(tmp_path / "adapter", base, config)
    with pytest.raises(MergeError, match=r"starts by .pissa., which changes the base"):
        changes_of(base, adapter)


NAME = "base_model.model.model.layers.0.mlp.down_proj.ia3_l"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.update(extra=torch.ones(1)), "`extra` would be lost: peft does not load it"),
        (lambda t: t.pop(NAME), f"`{NAME}` is missing: peft would make it up"),
        (lambda t: t.update({NAME: torch.ones(1, 5)}), "peft cannot load it: "),
    ],
)
def test_an_adapter_that_peft_does_not_load_whole_is_refused(
    tmp_path: Path,
    tiny_model: TinyModel,
    change: Callable[[dict[str, torch.Tensor]], None],
    said: str,
) -> None:
    base = tiny_model("llama")
    adapter = APPROXIMATE["ia3"](tmp_path / "adapter", base, "llama")
    change_tensors(adapter, change)
    with pytest.raises(MergeError) as caught:
        changes_of(base, adapter)
    assert said in str(caught.value)


def test_a_base_that_is_quantized_in_its_files_is_refused(
    tmp_path: Path, tiny_model: TinyModel
) -> None:
    base = Path(shutil.copytree(tiny_model("llama"), tmp_path / "base"))
    config = json.loads((base / "config.json").read_text("utf-8"))
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (base / "config.json").write_text(json.dumps(config))
    with (
        pytest.raises(MergeError, match="is held in gptq, which is not dequantised here"),
        full_precision(base),
    ):
        pass


def test_a_quantization_that_is_not_known_is_refused(tmp_path: Path, tiny_model: TinyModel) -> None:
    base = tiny_model("llama")
    adapter = APPROXIMATE["ia3"](tmp_path / "adapter", base, "llama")
    with pytest.raises(MergeError, match="a quantization that this version does not know"):
        changes_of(base, adapter, method="int2")


def test_a_base_that_cannot_be_loaded_says_why(tmp_path: Path, tiny_model: TinyModel) -> None:
    base = Path(shutil.copytree(tiny_model("llama"), tmp_path / "base"))
    adapter = APPROXIMATE["ia3"](tmp_path / "adapter", base, "llama")
    (base / "model.safetensors").unlink()
    with pytest.raises(MergeError, match=r"has no weights in model\.safetensors"):
        changes_of(base, adapter)


def test_shared_tensors_outlive_the_first_layer(tmp_path: Path, tiny_model: TinyModel) -> None:
    """VeRA's projections hang under every layer; letting one layer go must leave them."""
    base = tiny_model("llama")
    adapter = method(VeraConfig, r=8)(tmp_path / "adapter", base, "llama")
    adapted = AdaptedBase(read_adapter(adapter), base)
    changes = dict(adapted.changes())
    assert len(changes) == len(adapted) == 14
    assert all(float(delta.norm()) > 0 for delta in changes.values())
