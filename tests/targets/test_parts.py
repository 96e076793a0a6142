"""Parts and towers by name: customs that the table of architectures does not show."""

from __future__ import annotations

import pytest

from lora_cli.targets.parts import part_of, tower_of

PARTS = {
    "q": [
        "encoder.layers.0.self_attn.linear_q",
        "gpt.h.0.multi_head_attention.Wq",
        "vit.encoder.0.attention.projection_query",
        "vision.layers.0.self_attn.q_proj.linear",
    ],
    "k": ["esm.encoder.layer.0.attention.self.key", "encoder.0.self_attention.project_k"],
    "kv": ["encoder.0.attn.to_kv", "model.layers.0.self_attn.kv_b_proj"],
    "qkv": ["visual.blocks.0.attn.qkv", "model.layers.0.linear_attn.in_proj_qkvz"],
    "o": [
        "visual.blocks.0.attn.proj",
        "encoder.layers.0.self_attn.linear_out",
        "bert.encoder.layer.0.attention.output.dense",
        "gpt_neox.layers.0.attention.dense",
    ],
    "gate": ["model.layers.0.feed_forward.w1", "decoder.block.0.layer.2.DenseReluDense.wi_0"],
    "up": ["bert.encoder.layer.0.intermediate.dense", "model.layers.0.feed_forward.w3"],
    "down": ["bert.encoder.layer.0.output.dense", "encoder.layers.0.feed_forward1.linear2"],
    "in_proj": ["backbone.layers.0.mixer.in_proj"],
    "ffn": ["transformer.h.0.ffn.2"],
    "lm_head": ["lm_head"],
}
TOWERS = {
    "vision": [
        "model.visual.blocks.0.attn.qkv",
        "vision_tower.vision_model.encoder.layers.0.mlp.fc1",
        "model.vision_tower.encoder.layers.3.self_attn.q_proj",
    ],
    "audio": ["audio_tower.layers.0.fc1", "model.speech_encoder.layers.0.fc1"],
    "connector": [
        "multi_modal_projector.linear_1",
        "model.visual.merger.mlp.0",
        "model.connector.modality_projection.proj",
        "language_projection",
        "qformer.encoder.layer.0.attention.attention.query",
    ],
    "": [
        "model.language_model.layers.0.self_attn.q_proj",
        "model.layers.0.mlp.down_proj",
        "text_model.encoder.layers.0.mlp.fc1",
        "lm_head",
    ],
}


@pytest.mark.parametrize(("part", "name"), [(p, n) for p, names in PARTS.items() for n in names])
def test_a_name_tells_its_part(part: str, name: str) -> None:
    assert part_of(name) == part


@pytest.mark.parametrize(("tower", "name"), [(t, n) for t, names in TOWERS.items() for n in names])
def test_a_name_tells_its_tower(tower: str, name: str) -> None:
    assert tower_of(name) == tower
