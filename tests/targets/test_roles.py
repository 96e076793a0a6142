"""Naming customs of many architectures, one line each."""

from __future__ import annotations

import pytest

from lora_cli.targets.roles import Role, role_of

NAMES: dict[Role, list[str]] = {
    "attention": [
        "model.layers.0.self_attn.q_proj",  # Llama, Mistral, Qwen2, Gemma
        "model.layers.0.self_attn.o_proj",
        "model.layers.0.self_attn.qkv_proj",  # Phi-3
        "model.layers.0.self_attn.dense",  # Phi
        "model.layers.0.self_attn.kv_a_proj_with_mqa",  # DeepSeek
        "model.layers.0.linear_attn.in_proj_qkvz",  # Qwen3-Next
        "model.decoder.layers.0.self_attn.out_proj",  # OPT
        "transformer.h.0.attn.c_attn",  # GPT-2
        "transformer.h.0.attn.c_proj",
        "transformer.h.0.attn.attention.k_proj",  # GPT-Neo
        "transformer.h.0.attn.out_proj",  # GPT-J
        "transformer.h.0.self_attention.query_key_value",  # Falcon, Bloom
        "transformer.h.0.self_attention.dense",
        "transformer.blocks.0.attn.Wqkv",  # MPT
        "gpt_neox.layers.0.attention.query_key_value",  # GPT-NeoX
        "gpt_neox.layers.0.attention.dense",
        "bert.encoder.layer.0.attention.self.query",  # BERT
        "bert.encoder.layer.0.attention.output.dense",
        "distilbert.transformer.layer.0.attention.q_lin",  # DistilBERT
        "encoder.block.0.layer.0.SelfAttention.q",  # T5
        "decoder.block.0.layer.1.EncDecAttention.v",
        "transformer.encoder.layers.0.self_attention.query_key_value",  # ChatGLM
        "c_attn",
    ],
    "mlp": [
        "model.layers.0.mlp.gate_proj",
        "model.layers.0.mlp.gate_up_proj",  # Phi-3
        "model.layers.0.mlp.fc1",  # Phi
        "model.layers.0.mlp.experts.3.down_proj",  # Qwen2-MoE
        "model.layers.0.mlp.shared_expert.up_proj",
        "model.layers.0.block_sparse_moe.experts.7.w2",  # Mixtral before transformers 5
        "model.layers.0.feed_forward.w1",  # Llama 4 style
        "model.decoder.layers.0.fc2",  # OPT
        "transformer.h.0.mlp.c_fc",  # GPT-2
        "transformer.h.0.mlp.c_proj",
        "transformer.h.0.mlp.fc_in",  # GPT-J
        "transformer.h.0.mlp.dense_h_to_4h",  # Falcon
        "transformer.blocks.0.ffn.up_proj",  # MPT
        "gpt_neox.layers.0.mlp.dense_4h_to_h",
        "bert.encoder.layer.0.intermediate.dense",  # BERT
        "bert.encoder.layer.11.output.dense",
        "distilbert.transformer.layer.0.ffn.lin1",
        "encoder.block.0.layer.1.DenseReluDense.wi_0",  # T5
    ],
    "router": [
        "model.layers.0.block_sparse_moe.gate",  # Mixtral
        "model.layers.0.mlp.gate",  # Qwen2-MoE
        "model.layers.0.mlp.shared_expert_gate",
        "model.layers.0.mlp.router",  # gpt-oss
        "transformer.blocks.0.ffn.router.layer",  # DBRX
    ],
    "other": [
        "backbone.layers.0.mixer.in_proj",  # Mamba
        "model.embed_projection",
        "score",
        "dense",
    ],
}


@pytest.mark.parametrize(
    ("role", "name"), [(role, name) for role, names in NAMES.items() for name in names]
)
def test_a_name_tells_its_role(role: Role, name: str) -> None:
    assert role_of(name) == role
