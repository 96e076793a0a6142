"""A model that is asked module by module answers as the loaded one, and holds no weight then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from transformers import (
    AutoModelForCausalLM,
    DeepseekV3Config,
    FalconH1Config,
    Gemma3TextConfig,
    GemmaConfig,
    JambaConfig,
    Lfm2Config,
    LlamaConfig,
    Mamba2Config,
    Mamba2ForCausalLM,
    Qwen2MoeConfig,
    Qwen3NextConfig,
)

from lora_cli.errors import MergeError
from lora_cli.merge.adapter_folder import read_adapter
from lora_cli.merge.checkpoint import open_checkpoint
from lora_cli.merge.probes import Probes, probes_for
from lora_cli.merge.proof import answers, ask_checkpoint
from lora_cli.merge.storage import by_parameter, storages
from lora_cli.merge.streamed import reader, streaming
from lora_cli.merge.weightless import is_weightless, load_config, weightless_model
from tests.helpers.adapters import TARGETS, make_adapter
from tests.helpers.runs import PLAIN_PEFT

pytestmark = PLAIN_PEFT
TinyModel = Callable[[str], Path]


@pytest.mark.parametrize("architecture", ["llama", "tied_llama", "gpt2", "qwen2"])
def test_answers_are_those_of_the_loaded_model(
    tmp_path: Path, tiny_model: TinyModel, architecture: str
) -> None:
    base = tiny_model(architecture)
    adapter = read_adapter(make_adapter(tmp_path / "adapter", base, TARGETS[architecture]))
    probes = probes_for(adapter, load_config(base))
    streamed = ask_checkpoint(base, "AutoModelForCausalLM", probes)
    loaded = AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.float32, attn_implementation="eager"
    )
    torch.testing.assert_close(streamed, answers(loaded.eval(), probes), atol=1e-6, rtol=0)


LIKE_LLAMA = {
    "vocab_size": 61,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "pad_token_id": 0,
}
EXPERTS = {"num_experts": 4, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32}
LATENT = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8}
ROUTED = {"n_routed_experts": 8, "n_group": 2, "topk_group": 1, "num_experts_per_tok": 2}
STATES = {"num_heads": 8, "head_dim": 16, "state_size": 8, "n_groups": 1, "chunk_size": 16}
SCALED = {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_ssm": 128, "mamba_d_state": 8}
MIXED = {"attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 2, "mamba_d_state": 8}
GATED = {"linear_num_value_heads": 4, "linear_num_key_heads": 2, "num_experts_per_tok": 2}
ODD = {
    "a convolution that is not called": (
        Lfm2Config,
        {"layer_types": ["conv", "full_attention"], "block_multiple_of": 8},
        "CausalLM",
    ),
    "the same, and parameters of its own": (Mamba2Config, STATES, "CausalLM"),
    "a linear layer that is not called": (JambaConfig, MIXED, "CausalLM"),
    "linear attention": (
        Qwen3NextConfig,
        EXPERTS
        | GATED
        | {
            "layer_types": ["linear_attention", "full_attention"],
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
        },
        "CausalLM",
    ),
    "buffers that a parent fills": (
        FalconH1Config,
        SCALED | {"mamba_n_groups": 1, "ssm_multipliers": [0.5, 2.0, 0.5, 2.0, 1.5]},
        "CausalLM",
    ),
    "embeddings with a factor in a buffer": (GemmaConfig, {}, "CausalLM"),
    "the same, and two bodies in one": (Gemma3TextConfig, {}, "CausalLM"),
    "a gate of one row": (Qwen2MoeConfig, EXPERTS, "CausalLM"),
    "a head of one row": (LlamaConfig, {"num_labels": 1}, "SequenceClassification"),
    "a buffer that is stored": (
        DeepseekV3Config,
        LATENT
        | ROUTED
        | {
            "head_dim": 8,
            "qk_rope_head_dim": 8,
            "v_head_dim": 16,
            "moe_intermediate_size": 32,
            "num_key_value_heads": 4,
        },
        "CausalLM",
    ),
}


@pytest.mark.parametrize("oddity", ODD)
def test_models_that_hold_more_than_weights_answer_as_loaded(tmp_path: Path, oddity: str) -> None:
    config, more, kind = ODD[oddity]
    auto_class = f"AutoModelFor{kind}"
    loader = getattr(transformers, auto_class)
    model = loader.from_config(config(**(LIKE_LLAMA | more)), attn_implementation="eager")
    for name, buffer in model.named_buffers():
        if name.endswith("e_score_correction_bias"):
            buffer.copy_(torch.linspace(-1, 1, len(buffer)))
    model.save_pretrained(tmp_path)
    tokens = torch.randint(1, 61, (3, 10), generator=torch.Generator().manual_seed(0))
    probes = Probes(tokens, torch.ones_like(tokens))
    streamed = ask_checkpoint(tmp_path, auto_class, probes)
    assert streamed.std() > 1e-3
    torch.testing.assert_close(streamed, answers(model.eval(), probes), atol=1e-5, rtol=0)


def test_weights_are_there_only_while_their_module_works(tiny_model: TinyModel) -> None:
    base = tiny_model("llama")
    model = weightless_model(load_config(base), "AutoModelForCausalLM")
    places = by_parameter(storages(model, open_checkpoint(base))[0])
    read = reader(places, {})
    most: list[int] = []

    def counted(name: str) -> torch.Tensor:
        held = [each for each in model.parameters() if any(each.stride())]
        most.append(len(held))
        return read(name)

    with streaming(dict(model.named_modules()), counted):
        model(input_ids=torch.arange(2, 10)[None])
    assert len(most) == len(places)
    assert max(most) == 0  # each module of a Llama has one parameter of its own
    assert not any(any(each.stride()) for each in model.parameters())
    with torch.no_grad():
        assert model(input_ids=torch.arange(2, 10)[None]).logits.isnan().all()


def test_weights_that_no_call_asks_for_are_there_only_while_their_parent_works() -> None:
    """Beside what a mixer holds itself, the weight and the bias of its convolution."""
    torch.manual_seed(0)
    loaded = Mamba2ForCausalLM(Mamba2Config(**(LIKE_LLAMA | STATES))).eval()
    numbers = dict(loaded.named_parameters())
    model = weightless_model(loaded.config, "AutoModelForCausalLM")
    most: list[int] = []

    def counted(name: str) -> torch.Tensor:
        most.append(sum(not is_weightless(each) for each in model.parameters()))
        return numbers[name].data

    with streaming(dict(model.named_modules()), counted), torch.no_grad():
        given = model(input_ids=torch.arange(2, 10)[None]).logits
    torch.testing.assert_close(given, loaded(input_ids=torch.arange(2, 10)[None]).logits)
    own = sum(1 for _ in loaded.backbone.layers[0].mixer.parameters(recurse=False))
    assert max(most) == own + 2
    assert all(map(is_weightless, model.parameters()))
    assert not any(hasattr(module, "_hf_hook") for module in model.modules())


def test_weights_are_taken_out_again_when_a_module_fails(tiny_model: TinyModel) -> None:
    model = weightless_model(load_config(tiny_model("llama")), "AutoModelForCausalLM")
    with (
        pytest.raises(MergeError, match=r"`model\.embed_tokens\.weight` is not in the files"),
        streaming(dict(model.named_modules()), reader({}, {})),
    ):
        model(input_ids=torch.arange(2, 10)[None])
    assert not any(module._forward_hooks for module in model.modules())


def test_a_model_without_its_weights_cannot_be_taken_for_alike(
    tmp_path: Path, tiny_model: TinyModel
) -> None:
    """What was not streamed is no number, and so no answer."""
    base = tiny_model("llama")
    model = weightless_model(load_config(base), "AutoModelForCausalLM")
    adapter = read_adapter(make_adapter(tmp_path / "adapter", base, ["q_proj"]))
    with pytest.raises(MergeError, match="cannot be asked module by module"):
        answers(model, probes_for(adapter, model.config))
