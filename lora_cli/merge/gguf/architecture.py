"""The architectures that are written, and their hyperparameters as llama.cpp reads them.

Each one has a test that reads a written model back with transformers and compares logits. A key of
the config that changes what the model computes, and is not written, is refused by its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lora_cli.errors import ExportError
from lora_cli.merge.gguf.rope import write_rope

if TYPE_CHECKING:
    from gguf import GGUFWriter


@dataclass(frozen=True, slots=True)
class Architecture:
    """What GGUF calls an architecture, and how its weights lie there."""

    name: str
    """GGUF's own name for it."""
    interleaved_rotary: bool = False
    """Rotary pairs are neighbours in a head's rows, not half a head apart as in transformers."""


ARCHITECTURES = {
    "LlamaForCausalLM": Architecture("llama", interleaved_rotary=True),
    "MistralForCausalLM": Architecture("llama", interleaved_rotary=True),
    "Qwen2ForCausalLM": Architecture("qwen2"),
    "Qwen3ForCausalLM": Architecture("qwen3"),
}
"""By transformers' class."""

WRITTEN = frozenset(
    [
        "head_dim",
        "hidden_size",
        "intermediate_size",
        "layer_types",
        "max_position_embeddings",
        "max_window_layers",
        "num_attention_heads",
        "num_hidden_layers",
        "num_key_value_heads",
        "rms_norm_eps",
        "rope_parameters",
        "sliding_window",
        "tie_word_embeddings",
        "use_sliding_window",
        "vocab_size",
    ]
)
"""Keys that are written, or seen to."""

HARMLESS = frozenset(
    [
        "attention_dropout",
        "bos_token_id",
        "eos_token_id",
        "initializer_range",
        "pad_token_id",
        "pretraining_tp",
        "use_cache",
    ]
)
"""Keys that only matter while training or generating, or that the tokenizer says better."""


def architecture_of(config: Any, place: str) -> Architecture:
    """Return the architecture of a model.

    Raises:
        ExportError: it is not one that is proven.
    """
    names = getattr(config, "architectures", None) or [_causal_class(config)]
    if names[0] not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        message = f"{names[0]} is not written as GGUF by this version"
        raise ExportError(message, place, f"proven by reading them back: {known}")
    return ARCHITECTURES[names[0]]


def _causal_class(config: Any) -> str:
    from transformers import AutoModelForCausalLM

    mapping = AutoModelForCausalLM._model_mapping  # noqa: SLF001  # transformers has no public way
    return str(mapping[type(config)].__name__) if type(config) in mapping else type(config).__name__


def check_config(config: Any, place: str) -> None:
    """Check that nothing in a config would be lost.

    Raises:
        ExportError: a key changes what the model computes and has no place in GGUF.
    """
    from transformers import PreTrainedConfig

    plain = type(config)().to_dict()
    seen_to = WRITTEN | HARMLESS | PreTrainedConfig().to_dict().keys()
    lost = [
        f"`{key}: {value}`"
        for key, value in config.to_dict().items()
        if key in plain and key not in seen_to and value != plain[key]
    ]
    if lost:
        message = f"the file could not say {', '.join(lost)}"
        raise ExportError(message, place, "serve it with transformers or vLLM")


def write_hyperparameters(
    writer: GGUFWriter, architecture: Architecture, config: Any, place: str
) -> list[str]:
    """Write what llama.cpp builds the model from; return what is to be known of it.

    Raises:
        ExportError: the rotary embedding is of a kind that llama.cpp does not have.
    """
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    context, notes = _context(config)
    writer.add_context_length(context)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_rope_dimension_count(size)
    return notes + write_rope(writer, architecture.name, config, place)


def _context(config: Any) -> tuple[int, list[str]]:
    """Return the longest text, no longer than a sliding window: llama.cpp has none here."""
    longest: int = config.max_position_embeddings
    window = getattr(config, "sliding_window", None)
    layers = getattr(config, "layer_types", None) or ["sliding_attention"]
    if not window or window >= longest or "sliding_attention" not in layers:
        return longest, []
    note = (
        f"the context is {window} tokens, not {longest}: beyond it the model attends to a sliding "
        "window, which llama.cpp does not have for this architecture"
    )
    return window, [note]
