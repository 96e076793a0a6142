"""The base model: exactly the weights in its files, frozen, or an error that names the fault."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from safetensors.torch import load_file, save_file

from lora_cli.errors import RunError
from lora_cli.model.base import BaseOptions, LoadedBase, load_base
from lora_cli.quantization.bitsandbytes import FourBit
from lora_cli.quantization.none import Unquantized

TinyModel = Callable[[str], Path]
Q_PROJ = "model.layers.0.self_attn.q_proj.weight"


def load(folder: Path, **options: Any) -> LoadedBase:
    values = {
        "dtype": "float32",
        "attention": "sdpa",
        "device": "cpu",
        "trust_remote_code": False,
        "allow_pickle": False,
    }
    return load_base(folder, Unquantized(), BaseOptions(**{**values, **options}))


@pytest.fixture
def base(tmp_path: Path, tiny_model: TinyModel) -> Path:
    """A copy of a tiny llama that may be spoilt."""
    return Path(shutil.copytree(tiny_model("llama"), tmp_path / "base"))


def rewrite(base: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(base / "model.safetensors")
    change(tensors)
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("architecture", ["llama", "tied_llama", "qwen2", "gpt2"])
def test_every_weight_is_the_one_in_the_file(tiny_model: TinyModel, architecture: str) -> None:
    loaded = load(tiny_model(architecture))
    stored = load_file(tiny_model(architecture) / "model.safetensors")
    held = loaded.model.state_dict()
    assert all(held[name].equal(tensor) for name, tensor in stored.items())
    assert loaded.unused == ()


def test_the_base_is_frozen_and_on_its_device(tiny_model: TinyModel) -> None:
    model = load(tiny_model("llama")).model
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_base_has_the_planned_precision(tiny_model: TinyModel, dtype: str) -> None:
    model = load(tiny_model("llama"), dtype=dtype).model
    assert {parameter.dtype for parameter in model.parameters()} == {getattr(torch, dtype)}


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_base_has_the_planned_attention(tiny_model: TinyModel, attention: str) -> None:
    model = load(tiny_model("llama"), attention=attention).model
    assert model.config._attn_implementation == attention


def test_weights_that_are_quantized_in_the_files_are_read_so_and_keep_their_backward(
    base: Path, tmp_path: Path
) -> None:
    """A forward without gradients must not repack them for a kernel that has no backward."""
    method = FourBit(method="nf4", compute_dtype="bfloat16")
    options = BaseOptions("bfloat16", "eager", "cpu", False, False, heads=("lm_head",))
    load_base(base, method, options).model.save_pretrained(tmp_path / "held")
    model = load_base(tmp_path / "held", method, options).model
    ids = torch.arange(2, 18)[None]
    with torch.no_grad():
        before = model(input_ids=ids).logits
    layers = [each for each in model.modules() if isinstance(each, Linear4bit)]
    assert len(layers) == 14
    assert not any(each.support_avx512bf16_for_cpu for each in layers)
    inputs = model.get_input_embeddings()(ids).detach().requires_grad_()
    model(inputs_embeds=inputs).logits.float().sum().backward()
    assert inputs.grad is not None
    assert inputs.grad.abs().sum() > 0
    assert model(input_ids=ids).logits.equal(before)


def test_missing_weights_are_not_made_up(base: Path) -> None:
    """Transformers would draw them at random, and only warn."""

    def drop(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if "q_proj" in name or "k_proj" in name]:
            del tensors[name]

    rewrite(base, drop)
    with pytest.raises(RunError) as caught:
        load(base)
    message = str(caught.value)
    assert "are missing in its files: `model.layers.0.self_attn.k_proj.weight`, " in message
    assert f"`{Q_PROJ}`, `model.layers.1.self_attn.k_proj.weight` and 1 more" in message
    assert str(base) in message


def test_a_head_that_is_not_tied_must_be_there(base: Path) -> None:
    def drop(tensors: dict[str, torch.Tensor]) -> None:
        del tensors["lm_head.weight"]

    rewrite(base, drop)
    with pytest.raises(
        RunError, match=r"tensors of the model are missing in its files: `lm_head\.weight`"
    ):
        load(base)


def test_weights_of_another_shape_are_named_with_both_shapes(base: Path) -> None:
    rewrite(base, lambda tensors: tensors.update({Q_PROJ: torch.zeros(16, 32)}))
    with pytest.raises(RunError) as caught:
        load(base)
    message = str(caught.value)
    assert (
        f"tensors do not fit config.json: `{Q_PROJ}` is (16, 32), the model's is (32, 32)"
        in message
    )
    assert "two models" in caught.value.problems[0].hint


def test_tensors_without_a_place_are_named(base: Path) -> None:
    more = {"zeta.weight": torch.zeros(1), "alpha.weight": torch.zeros(1)}
    rewrite(base, lambda tensors: tensors.update(more))
    assert load(base).unused == ("alpha.weight", "zeta.weight")


@pytest.mark.parametrize("kept", [0, 5, 1000, 20_000])
def test_a_broken_file_is_an_error_with_its_folder(base: Path, kept: int) -> None:
    file = base / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(RunError, match=r"base: the base model cannot be loaded: ."):
        load(base)


def test_a_lost_shard_is_an_error(base: Path) -> None:
    index = {
        "metadata": {"total_size": 1},
        "weight_map": {Q_PROJ: "model-00001-of-00002.safetensors"},
    }
    (base / "model.safetensors.index.json").write_text(json.dumps(index))
    (base / "model.safetensors").unlink()
    with pytest.raises(RunError, match="the base model cannot be loaded"):
        load(base)


def test_an_unknown_architecture_is_an_error(base: Path) -> None:
    (base / "config.json").write_text('{"model_type": "unheard-of"}')
    with pytest.raises(RunError, match=r"cannot be loaded: .*unheard-of"):
        load(base)


def test_pickle_is_opened_only_where_it_is_allowed(base: Path) -> None:
    tensors = load_file(base / "model.safetensors")
    torch.save(tensors, base / "pytorch_model.bin")
    (base / "model.safetensors").unlink()
    with pytest.raises(RunError, match=r"cannot be loaded: .*safetensors"):
        load(base)
    held = load(base, allow_pickle=True).model.state_dict()
    assert held[Q_PROJ].equal(tensors[Q_PROJ])


def test_a_pickle_that_would_run_code_is_refused_even_then(base: Path) -> None:
    (base / "model.safetensors").unlink()
    torch.save({"weight": Runs()}, base / "pytorch_model.bin")
    with pytest.raises(RunError, match="cannot be loaded"):
        load(base, allow_pickle=True)
    assert not Runs.ran


class Runs:
    """Runs code when it is unpickled."""

    ran = False

    def __reduce__(self) -> Any:
        return setattr, (Runs, "ran", True)


def test_an_adapter_beside_the_weights_is_refused(base: Path) -> None:
    """Transformers would load it into the base without a word."""
    (base / "adapter_config.json").write_text("{}")
    with pytest.raises(RunError, match=r"base: holds an adapter beside the weights.*merge"):
        load(base)
