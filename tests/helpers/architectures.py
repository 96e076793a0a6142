"""Small configs of architectures of transformers, to be built on the meta device."""

from __future__ import annotations

from typing import Any

_SMALL: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "pad_token_id": 0,
}
_GROUPED = {**_SMALL, "num_key_value_heads": 2}
_GPT = {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 32}
_EXPERTS = {**_GROUPED, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_LOCAL = {**_GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2}
_LATENT = {
    **_SMALL,
    "num_key_value_heads": 4,
    "moe_intermediate_size": 16,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
}
_ENDS = {
    "vocab_size": 64,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "pad_token_id": 0,
}
_T5 = {
    "vocab_size": 64,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 4,
}
_STATE = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}

SMALL_CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", _GROUPED),
    "mistral": ("MistralConfig", _GROUPED),
    "qwen2": ("Qwen2Config", _GROUPED),
    "qwen3": ("Qwen3Config", {**_GROUPED, "head_dim": 8}),
    "gpt2": ("GPT2Config", _GPT),
    "gptj": ("GPTJConfig", {**_GPT, "rotary_dim": 4}),
    "bert": ("BertConfig", _SMALL),
    "roberta": ("RobertaConfig", _SMALL),
    "falcon": ("FalconConfig", _SMALL),
    "phi": ("PhiConfig", _SMALL),
    "phi3": ("Phi3Config", _GROUPED),
    "gemma": ("GemmaConfig", {**_GROUPED, "head_dim": 8}),
    "gemma2": ("Gemma2Config", {**_GROUPED, "head_dim": 8}),
    "gemma3_text": ("Gemma3TextConfig", {**_GROUPED, "head_dim": 8}),
    "mixtral": ("MixtralConfig", _LOCAL),
    "qwen2_moe": (
        "Qwen2MoeConfig",
        {**_EXPERTS, "shared_expert_intermediate_size": 16, "mlp_only_layers": [0]},
    ),
    "qwen3_moe": ("Qwen3MoeConfig", {**_EXPERTS, "head_dim": 8}),
    "deepseek_v3": ("DeepseekV3Config", _LATENT),
    "gpt_oss": ("GptOssConfig", {**_LOCAL, "head_dim": 8}),
    "olmoe": ("OlmoeConfig", _EXPERTS),
    "phimoe": ("PhimoeConfig", _LOCAL),
    "granitemoe": ("GraniteMoeConfig", _LOCAL),
    "jamba": (
        "JambaConfig",
        {
            **_LOCAL,
            "num_experts": 4,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "expert_layer_period": 2,
            "mamba_d_state": 8,
            "mamba_dt_rank": 4,
        },
    ),
    "jetmoe": (
        "JetMoeConfig",
        {
            "vocab_size": 64,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_key_value_heads": 2,
            "kv_channels": 8,
            "intermediate_size": 16,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
        },
    ),
    "mamba": ("MambaConfig", _STATE),
    "olmo": ("OlmoConfig", _GROUPED),
    "olmo2": ("Olmo2Config", _GROUPED),
    "stablelm": ("StableLmConfig", _GROUPED),
    "starcoder2": ("Starcoder2Config", _GROUPED),
    "cohere": ("CohereConfig", _GROUPED),
    "granite": ("GraniteConfig", _GROUPED),
    "nemotron": ("NemotronConfig", {**_GROUPED, "head_dim": 8}),
    "persimmon": ("PersimmonConfig", _SMALL),
    "glm": ("GlmConfig", {**_GROUPED, "head_dim": 8}),
    "smollm3": ("SmolLM3Config", _GROUPED),
    "gpt_neox": ("GPTNeoXConfig", _SMALL),
    "gpt_neo": (
        "GPTNeoConfig",
        {
            "vocab_size": 64,
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
        },
    ),
    "gpt_bigcode": ("GPTBigCodeConfig", _GPT),
    "codegen": ("CodeGenConfig", {**_GPT, "rotary_dim": 4}),
    "bloom": ("BloomConfig", {"vocab_size": 64, "hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "mpt": ("MptConfig", {"vocab_size": 64, "d_model": 32, "n_layers": 2, "n_heads": 4}),
    "opt": (
        "OPTConfig",
        {**_SMALL, "ffn_dim": 64, "word_embed_proj_dim": 32, "max_position_embeddings": 32},
    ),
    "biogpt": ("BioGptConfig", _SMALL),
    "xglm": (
        "XGLMConfig",
        {"vocab_size": 64, "d_model": 32, "ffn_dim": 64, "num_layers": 2, "attention_heads": 4},
    ),
    "ctrl": (
        "CTRLConfig",
        {"vocab_size": 64, "n_embd": 32, "dff": 64, "n_layer": 2, "n_head": 4, "n_positions": 32},
    ),
    "distilbert": (
        "DistilBertConfig",
        {"vocab_size": 64, "dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 4},
    ),
    "electra": ("ElectraConfig", {**_SMALL, "embedding_size": 32}),
    "albert": ("AlbertConfig", {**_SMALL, "embedding_size": 16}),
    "deberta-v2": ("DebertaV2Config", _SMALL),
    "modernbert": ("ModernBertConfig", {**_SMALL, "cls_token_id": 1, "sep_token_id": 2}),
    "mpnet": ("MPNetConfig", _SMALL),
    "t5": ("T5Config", _T5),
    "mt5": ("MT5Config", _T5),
    "bart": ("BartConfig", _ENDS),
    "fsmt": (
        "FSMTConfig",
        {
            **_ENDS,
            "langs": ["en", "de"],
            "src_vocab_size": 40,
            "tgt_vocab_size": 48,
            "architectures": ["FSMTForConditionalGeneration"],
        },
    ),
    "pegasus": ("PegasusConfig", _ENDS),
    "whisper": (
        "WhisperConfig",
        {**_ENDS, "num_mel_bins": 8, "architectures": ["WhisperForConditionalGeneration"]},
    ),
    "vit": (
        "ViTConfig",
        {
            **_SMALL,
            "image_size": 16,
            "patch_size": 8,
            "architectures": ["ViTForImageClassification"],
        },
    ),
    "clip": (
        "CLIPConfig",
        {
            "text_config": {**_SMALL, "max_position_embeddings": 16},
            "vision_config": {**_SMALL, "image_size": 16, "patch_size": 8},
            "projection_dim": 16,
            "architectures": ["CLIPModel"],
        },
    ),
    "qwen2_5_vl": (
        "Qwen2_5_VLConfig",
        {
            "text_config": _GROUPED,
            "vision_config": {
                "depth": 2,
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_heads": 4,
                "out_hidden_size": 32,
            },
        },
    ),
    "gemma3": (
        "Gemma3Config",
        {
            "text_config": {**_GROUPED, "head_dim": 8},
            "vision_config": {**_SMALL, "image_size": 16, "patch_size": 8},
            "mm_tokens_per_image": 4,
        },
    ),
}
"""By model type: the class of the config, and its values."""


def model_of(name: str) -> tuple[Any, Any]:
    """Return the model of an architecture and its task, as `loracli inspect-targets` has them."""
    import transformers

    from lora_cli.facts import on_meta
    from lora_cli.tasks.causal_lm import CausalLm

    config_class, values = SMALL_CONFIGS[name]
    config = getattr(transformers, config_class)(**values)
    fitting = [task for task in on_meta.TASKS.values() if on_meta._fits(config, task)]
    fitting.sort(key=lambda task: not task.generates)
    kind = fitting[0].auto_class if fitting else on_meta._class_for(config)
    task = fitting[0] if fitting else CausalLm
    spec = task.model_validate({"name": task.names()[0]})
    transformers.logging.set_verbosity_error()  # of token ids beyond so small a vocabulary
    return on_meta._build(config, kind, trust_remote_code=False), spec
