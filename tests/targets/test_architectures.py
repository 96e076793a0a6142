"""Which modules of which architecture are what: each built on the meta device from a small config.

The table is written by hand from the names of transformers' layers, and is what presets, the
table of `loracli inspect-targets` and its advice rest on.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from lora_cli.adapters.lora import Lora
from lora_cli.facts.base_model import BaseModelFacts, facts_of
from lora_cli.facts.inventory import inventory
from lora_cli.facts.model_source import ModelSource
from lora_cli.recipe.source import Source
from lora_cli.targets.cost import choose
from lora_cli.targets.groups import Group, grouped
from tests.helpers.architectures import SMALL_CONFIGS, model_of

QKVO = "q self_attn.q_proj, k self_attn.k_proj, v self_attn.v_proj, o self_attn.o_proj"
OUT = QKVO.replace("o_proj", "out_proj")
GATED = "gate mlp.gate_proj, up mlp.up_proj, down mlp.down_proj"
LLAMA = f"{QKVO}, {GATED}"
FUSED = "gate_up_proj mlp.experts.gate_up_proj, down_proj mlp.experts.down_proj"
ROUTED = f"gate mlp.gate.weight, {FUSED}"
BERT = (
    "q attention.self.query, k attention.self.key, v attention.self.value, "
    "o attention.output.dense, up intermediate.dense, down output.dense"
)
NEOX_MLP = "up mlp.dense_h_to_4h, down mlp.dense_4h_to_h"
GPT2 = "qkv attn.c_attn, o attn.c_proj, up mlp.c_fc, down mlp.c_proj"
BOTH_ENDS = (
    "q self_attn.q_proj, q encoder_attn.q_proj, k self_attn.k_proj, k encoder_attn.k_proj, "
    "v self_attn.v_proj, v encoder_attn.v_proj, o self_attn.out_proj, o encoder_attn.out_proj, "
    "up fc1, down fc2"
)
T5_ATTENTION = ", ".join(
    f"{part} {block}.{part}" for part in "qkvo" for block in ("SelfAttention", "EncDecAttention")
)
VIT_MLP = "vision up mlp.fc1, vision down mlp.fc2"


def shared(name: str) -> str:
    return ", ".join(
        f"{part} mlp.{part}_proj, {part} mlp.{name}.{part}_proj" for part in ("gate", "up", "down")
    )


TABLE = {
    "llama": LLAMA,
    "mistral": LLAMA,
    "qwen2": LLAMA,
    "qwen3": LLAMA,
    "gpt2": GPT2,
    "gptj": "q attn.q_proj, k attn.k_proj, v attn.v_proj, o attn.out_proj, "
    "up mlp.fc_in, down mlp.fc_out",
    "bert": BERT,
    "roberta": BERT,
    "falcon": f"qkv self_attention.query_key_value, o self_attention.dense, {NEOX_MLP}",
    "phi": "q self_attn.q_proj, k self_attn.k_proj, v self_attn.v_proj, o self_attn.dense, "
    "up mlp.fc1, down mlp.fc2",
    "phi3": "qkv self_attn.qkv_proj, o self_attn.o_proj, gate_up mlp.gate_up_proj, "
    "down mlp.down_proj",
    "gemma": LLAMA,
    "gemma2": LLAMA,
    "gemma3_text": LLAMA,
    "mixtral": f"{QKVO}, {ROUTED}",
    "qwen2_moe": f"{QKVO}, {shared('shared_expert')}, gate mlp.gate.weight, "
    f"shared_expert_gate mlp.shared_expert_gate, {FUSED}",
    "qwen3_moe": f"{QKVO}, {ROUTED}",
    "deepseek_v3": "q self_attn.q_a_proj, q self_attn.q_b_proj, "
    "kv self_attn.kv_a_proj_with_mqa, kv self_attn.kv_b_proj, o self_attn.o_proj, "
    f"{shared('shared_experts')}, {ROUTED}",
    "gpt_oss": f"{QKVO}, router mlp.router.weight, {FUSED}",
    "olmoe": f"{QKVO}, {ROUTED}",
    "phimoe": f"{QKVO}, router mlp.router, {FUSED}",
    "granitemoe": f"{QKVO}, router block_sparse_moe.router.weight, "
    + FUSED.replace("mlp", "block_sparse_moe"),
    "jamba": f"{QKVO}, gate feed_forward.gate_proj, up feed_forward.up_proj, "
    "down feed_forward.down_proj, router feed_forward.router.weight, "
    + FUSED.replace("mlp", "feed_forward"),
    "jetmoe": "kv self_attention.kv_proj, layer mlp.router.layer, "
    "layer self_attention.experts.router.layer, input_linear mlp.input_linear.weight, "
    "output_linear mlp.output_linear.weight, "
    "input_linear self_attention.experts.input_linear.weight, "
    "output_linear self_attention.experts.output_linear.weight",
    "mamba": "",
    "olmo": LLAMA,
    "olmo2": LLAMA,
    "stablelm": LLAMA,
    "starcoder2": f"{QKVO}, up mlp.c_fc, down mlp.c_proj",
    "cohere": LLAMA,
    "granite": LLAMA,
    "nemotron": f"{QKVO}, up mlp.up_proj, down mlp.down_proj",
    "persimmon": f"qkv self_attn.query_key_value, o self_attn.dense, {NEOX_MLP}",
    "glm": f"{QKVO}, gate_up mlp.gate_up_proj, down mlp.down_proj",
    "smollm3": LLAMA,
    "gpt_neox": f"qkv attention.query_key_value, o attention.dense, {NEOX_MLP}",
    "gpt_neo": "q attn.attention.q_proj, k attn.attention.k_proj, v attn.attention.v_proj, "
    "o attn.attention.out_proj, up mlp.c_fc, down mlp.c_proj",
    "gpt_bigcode": GPT2,
    "codegen": "qkv attn.qkv_proj, o attn.out_proj, up mlp.fc_in, down mlp.fc_out",
    "bloom": f"qkv self_attention.query_key_value, o self_attention.dense, {NEOX_MLP}",
    "mpt": "qkv attn.Wqkv, o attn.out_proj, up ffn.up_proj, down ffn.down_proj",
    "opt": f"{OUT}, up fc1, down fc2",
    "biogpt": f"{OUT}, up fc1, down fc2",
    "xglm": f"{OUT}, up fc1, down fc2",
    "ctrl": "q multi_head_attention.Wq, k multi_head_attention.Wk, v multi_head_attention.Wv, "
    "o multi_head_attention.dense, ffn ffn.*",
    "distilbert": "q attention.q_lin, k attention.k_lin, v attention.v_lin, o attention.out_lin, "
    "up ffn.lin1, down ffn.lin2",
    "electra": BERT,
    "albert": "q attention.query, k attention.key, v attention.value, o attention.dense, "
    "up ffn, down ffn_output",
    "deberta-v2": "q attention.self.query_proj, k attention.self.key_proj, "
    "v attention.self.value_proj, o attention.output.dense, up intermediate.dense, "
    "down output.dense",
    "modernbert": "qkv attn.Wqkv, o attn.Wo, gate_up mlp.Wi, down mlp.Wo",
    "mpnet": "q attention.attn.q, k attention.attn.k, v attention.attn.v, o attention.attn.o, "
    "up intermediate.dense, down output.dense",
    "t5": f"{T5_ATTENTION}, up DenseReluDense.wi, down DenseReluDense.wo",
    "mt5": f"{T5_ATTENTION}, gate DenseReluDense.wi_0, up DenseReluDense.wi_1, "
    "down DenseReluDense.wo",
    "bart": BOTH_ENDS,
    "fsmt": BOTH_ENDS,
    "pegasus": BOTH_ENDS,
    "whisper": BOTH_ENDS,
    "vit": "vision q attention.q_proj, vision k attention.k_proj, vision v attention.v_proj, "
    f"vision o attention.o_proj, {VIT_MLP}",
    "clip": f"{OUT}, up mlp.fc1, down mlp.fc2, vision q self_attn.q_proj, "
    "vision k self_attn.k_proj, vision v self_attn.v_proj, vision o self_attn.out_proj, " + VIT_MLP,
    "qwen2_5_vl": "vision qkv attn.qkv, vision o attn.proj, vision gate mlp.gate_proj, "
    "vision up mlp.up_proj, vision down mlp.down_proj, "
    f"connector mlp model.visual.merger.mlp.*, {LLAMA}",
    "gemma3": "vision q self_attn.q_proj, vision k self_attn.k_proj, vision v self_attn.v_proj, "
    "vision o self_attn.out_proj, vision o model.vision_tower.head.attention.out_proj, "
    "vision up mlp.fc1, vision up model.vision_tower.head.mlp.fc1, vision down mlp.fc2, "
    f"vision down model.vision_tower.head.mlp.fc2, {LLAMA}",
}
"""Its tower (the main one has no name), its part, and its name from the last number on."""


@cache
def inspected(name: str) -> tuple[BaseModelFacts, tuple[Group, ...]]:
    model, task = model_of(name)
    base = facts_of(model, ModelSource("folder", Path("nowhere"), "", "none"), task)
    weights = inventory(model)
    assert sum(each.parameters for each in weights) == base.parameters, "a weight is left out"
    return base, grouped(weights, base)


def said(group: Group) -> str:
    tail = group.pattern.rpartition("*.")[2]
    return " ".join(filter(None, (group.tower, group.part, tail)))


def test_there_are_enough() -> None:
    assert TABLE.keys() == SMALL_CONFIGS.keys()
    assert len(TABLE) >= 40


@pytest.mark.parametrize("name", TABLE)
def test_the_parts_of_an_architecture(name: str) -> None:
    _, groups = inspected(name)
    parts = [g for g in groups if g.role in ("attention", "mlp", "router", "experts")]
    assert list(dict.fromkeys(map(said, parts))) == list(filter(None, TABLE[name].split(", ")))


@pytest.mark.parametrize("name", TABLE)
def test_all_linear_takes_every_layer_but_routers(name: str) -> None:
    base, groups = inspected(name)
    taken = choose(Lora(), base, Source("")).taken
    for group in groups:
        adapted = taken.intersection(group.names)
        linear = group.kind in ("Linear", "Conv1D") and group.role not in ("router", "head")
        if name == "vit" and group.role == "head":
            linear = True  # none of our tasks puts it there: it is a layer like the others
        if group.pattern == "pooler.dense":
            linear = False  # a part of DeBERTa's new head
        if group.pattern.endswith("head.attention.out_proj"):
            linear = False  # SigLIP's, whose weight torch's own attention reads
        if group.pattern.endswith(".dt_proj"):
            linear = False  # the mixer of a Mamba reads its weight
        assert len(adapted) == (group.count if linear else 0), group.pattern


LACKING = {
    "jamba": {"1": "0"},
    "qwen2_moe": {"0": "1", "1": "0"},
    "deepseek_v3": {"0": "1", "1": "0"},
}


@pytest.mark.parametrize(
    ("name", "of"),
    [("mixtral", "experts"), ("jamba", "attention"), ("qwen2_moe", "mlp"), ("deepseek_v3", "mlp")],
)
def test_layers_that_are_not_alike_stand_out(name: str, of: str) -> None:
    _, groups = inspected(name)
    layers = {group.layers: group.missing for group in groups if group.role == of}
    assert layers == ({"0-1": ""} if name == "mixtral" else LACKING[name])
