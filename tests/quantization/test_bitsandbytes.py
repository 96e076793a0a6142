"""Quantized bases on a CPU: what is quantized, what is not, and gradients that stay true."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from transformers import AutoModelForCausalLM, AutoTokenizer

from lora_cli.adapters.lora import Lora
from lora_cli.quantization import QuantizationSpec
from lora_cli.quantization.bitsandbytes import EightBit, FourBit
from lora_cli.quantization.none import Unquantized
from tests.helpers.model_folders import TINY

TinyModel = Callable[[str], Path]
Spec = FourBit | EightBit
LAYERS = 14
KINDS: list[tuple[Spec, type[torch.nn.Module]]] = [
    (FourBit(method="nf4"), Linear4bit),
    (FourBit(method="fp4", double_quantization=False), Linear4bit),
    (EightBit(method="int8"), Linear8bitLt),
]

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated"),
    pytest.mark.filterwarnings("ignore:MatMul8bitLt. inputs will be cast"),
]


def load(folder: Path, spec: Spec, *, heads: tuple[str, ...] = ()) -> Any:
    dtype = torch.float32
    model = AutoModelForCausalLM.from_pretrained(
        str(folder), dtype=dtype, device_map={"": "cpu"}, **spec.load_kwargs(dtype, heads)
    )
    spec.after_load(model)
    return model.requires_grad_(False)


def adapted(folder: Path, spec: Spec) -> Any:
    from peft import get_peft_model

    torch.manual_seed(0)
    model = get_peft_model(load(folder, spec), Lora(rank=4).peft_config(["q_proj", "down_proj"]))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    return model


def gradients(model: Any) -> dict[str, torch.Tensor]:
    ids = torch.arange(24).reshape(2, 12) + 40
    model.zero_grad()
    model(input_ids=ids, labels=ids).loss.backward()
    return {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


@pytest.mark.parametrize(("spec", "kind"), KINDS)
@pytest.mark.parametrize("architecture", ["llama", "tied_llama"])
def test_every_layer_is_quantized_but_the_head(
    tiny_model: TinyModel, spec: Spec, kind: type[torch.nn.Module], architecture: str
) -> None:
    model = load(tiny_model(architecture), spec)
    quantized = [name for name, module in model.named_modules() if isinstance(module, kind)]
    assert len(quantized) == LAYERS
    assert type(model.lm_head) is torch.nn.Linear
    assert model.lm_head.weight.dtype == torch.float32
    tied = model.lm_head.weight is model.get_input_embeddings().weight
    assert tied == (architecture == "tied_llama")


def test_a_head_of_another_name_is_left_alone_too(tmp_path: Path) -> None:
    from transformers import GPTNeoXConfig

    AutoModelForCausalLM.from_config(GPTNeoXConfig(**TINY)).save_pretrained(tmp_path)
    model = load(tmp_path, FourBit(method="nf4"))
    assert type(model.get_output_embeddings()) is torch.nn.Linear
    assert isinstance(model.gpt_neox.layers[0].attention.dense, Linear4bit)


@pytest.mark.parametrize(("spec", "kind"), KINDS)
@pytest.mark.parametrize(
    ("names", "kept"),
    [
        (("o_proj",), {"o_proj"}),
        (("self_attn.v_proj", "mlp"), {"v_proj", "gate_proj", "up_proj", "down_proj"}),
    ],
)
def test_what_is_named_stays_as_it_is_and_so_does_the_head(
    tiny_model: TinyModel,
    spec: Spec,
    kind: type[torch.nn.Module],
    names: tuple[str, ...],
    kept: set[str],
) -> None:
    spec = spec.model_copy(update={"full_precision_modules": names})
    model = load(tiny_model("llama"), spec, heads=("lm_head",))
    assert type(model.lm_head) is torch.nn.Linear
    linears = {
        name: module
        for name, module in model.model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    assert len(linears) == LAYERS
    for name, module in linears.items():
        is_kept = name.rpartition(".")[2] in kept
        assert type(module) is (torch.nn.Linear if is_kept else kind), name
        assert spec.keeps(f"model.{name}") == is_kept


def test_one_layer_can_be_kept_whole(tiny_model: TinyModel) -> None:
    spec = FourBit(method="nf4", full_precision_modules=("layers.1",))
    model = load(tiny_model("llama"), spec, heads=("lm_head",)).model
    kinds = [type(each.mlp.up_proj) for each in model.layers]
    assert kinds == [Linear4bit, torch.nn.Linear]


NAMES = st.lists(st.sampled_from(["a", "b", "proj", "o_proj", "layers", "0", "10"]), min_size=1)


@given(module=NAMES, name=NAMES)
def test_transformers_leaves_out_what_we_say_it_does(module: list[str], name: list[str]) -> None:
    from transformers.quantizers.quantizers_utils import should_convert_module

    full, asked = ".".join(module), ".".join(name)
    spec = FourBit(method="nf4", full_precision_modules=(asked,))
    length = len(name)
    parts = [module[start : start + length] for start in range(len(module))]
    assert spec.keeps(full) == (name in parts)
    assert should_convert_module(full, spec.skipped(())) == (not spec.keeps(full))


def test_a_classification_head_is_never_quantized(tmp_path: Path) -> None:
    """transformers would leave out its bias only, by name, and quantize the head."""
    from transformers import AutoModelForSequenceClassification, BertConfig

    AutoModelForSequenceClassification.from_config(BertConfig(**TINY)).save_pretrained(tmp_path)
    for heads, kind in {("classifier",): torch.nn.Linear, (): Linear4bit}.items():
        options = FourBit(method="nf4").load_kwargs(torch.float32, heads)
        model = AutoModelForSequenceClassification.from_pretrained(tmp_path, **options)
        assert type(model.classifier) is kind
        assert isinstance(model.bert.encoder.layer[0].attention.self.query, Linear4bit)


def test_the_recipes_settings_reach_the_layers(tiny_model: TinyModel) -> None:
    spec = FourBit(method="fp4", double_quantization=False, compute_dtype="bfloat16")
    layer = load(tiny_model("llama"), spec).model.layers[0].mlp.up_proj
    assert layer.weight.quant_type == "fp4"
    assert layer.weight.compress_statistics is False
    assert layer.compute_dtype == torch.bfloat16
    other = load(tiny_model("llama"), FourBit(method="nf4")).model.layers[0].mlp.up_proj
    assert other.weight.quant_type == "nf4"
    assert other.weight.compress_statistics is True
    assert other.compute_dtype == torch.float32, "the model's own dtype"


def test_quantized_weights_are_near_the_real_ones(tiny_model: TinyModel) -> None:
    from bitsandbytes.functional import dequantize_4bit

    real = AutoModelForCausalLM.from_pretrained(str(tiny_model("llama")))
    weight = load(tiny_model("llama"), FourBit(method="nf4")).model.layers[1].mlp.down_proj.weight
    restored = dequantize_4bit(weight.data, weight.quant_state)
    expected = real.model.layers[1].mlp.down_proj.weight.detach()
    error = (restored - expected).norm() / expected.norm()
    assert 0 < error < 0.15


@pytest.mark.parametrize(("spec", "kind"), KINDS)
def test_an_evaluation_does_not_change_the_gradients_after_it(
    tiny_model: TinyModel, spec: Spec, kind: type[torch.nn.Module]
) -> None:
    model = adapted(tiny_model("llama"), spec)
    before = gradients(model.train())
    with torch.no_grad():
        model.eval()(input_ids=torch.arange(12).reshape(1, 12))
        model(input_ids=torch.tensor([[65]]))
    after = gradients(model.train())
    assert len(before) == 2 * 2 * 2, "A and B of two modules in two layers"
    assert min(gradient.abs().max() for gradient in before.values()) > 0
    for name, gradient in before.items():
        torch.testing.assert_close(after[name], gradient, rtol=1e-5, atol=1e-7)


def test_generation_does_not_change_the_gradients_after_it(tiny_model: TinyModel) -> None:
    folder = tiny_model("llama")
    model = adapted(folder, FourBit(method="nf4"))
    before = gradients(model.train())
    prompt = AutoTokenizer.from_pretrained(str(folder))("Hi", return_tensors="pt")
    model.eval().generate(**prompt, max_new_tokens=3, do_sample=False)
    after = gradients(model.train())
    for name, gradient in before.items():
        torch.testing.assert_close(after[name], gradient, rtol=1e-5, atol=1e-7)


def test_what_is_left_open_is_settled_once() -> None:
    left_open = FourBit(method="nf4")
    assert left_open.settled("bfloat16") == FourBit(method="nf4", compute_dtype="bfloat16")
    named = FourBit(method="nf4", compute_dtype="float32")
    assert named.settled("bfloat16") is named
    for spec in (EightBit(method="int8"), Unquantized()):
        assert spec.settled("bfloat16") is spec


def test_no_quantization_asks_for_nothing() -> None:
    model = torch.nn.Linear(2, 2)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert Unquantized().load_kwargs(torch.float32) == {}
    Unquantized().after_load(model)
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("none", Unquantized()),
        ("nf4", FourBit(method="nf4")),
        ("int8", EightBit(method="int8")),
        (
            {"method": "fp4", "double_quantization": False},
            FourBit(method="fp4", double_quantization=False),
        ),
    ],
)
def test_a_family_by_name(value: Any, expected: Any) -> None:
    family: TypeAdapter[Any] = TypeAdapter(QuantizationSpec)
    assert family.validate_python(value) == expected
    assert family.validate_json(family.dump_json(expected)) == expected
