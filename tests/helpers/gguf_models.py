"""Tiny models with tokenizers that GGUF can hold, made in moments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tests.helpers.tiny_models import CHAT_TEMPLATE

WORDS = ("the", "in", "er", "on", "12", "is", "re")
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
BLANK = "▁"


def byte_level_tokenizer(pre: str = "gpt-2", *, whole_pieces: bool | None = None) -> Any:
    """Return a byte-level BPE tokenizer that cuts text by the rules of this name."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from lora_cli.merge.gguf.pre_tokenizer import KNOWN, pre_tokenizer

    merges = [*_merges(WORDS), ("Ġ", "Ġ"), ("ĠĠ", "ĠĠ"), ("Ġ", "the")]
    tokens = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens += [token for token in dict.fromkeys(a + b for a, b in merges) if token not in tokens]
    ignore = KNOWN[pre][1] if whole_pieces is None else whole_pieces
    vocabulary = {token: index for index, token in enumerate(tokens)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=ignore))
    backend.pre_tokenizer = pre_tokenizer(pre)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=SPECIAL[1],
        eos_token=SPECIAL[2],
        pad_token=SPECIAL[2],
        unk_token=SPECIAL[0],
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _merges(words: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return the merges that make each word, letter after letter."""
    found: dict[tuple[str, str], None] = {}
    for word in words:
        for end in range(1, len(word)):
            found[word[:end], word[end]] = None
    return list(found)


def sentencepiece_tokenizer(*, prefix: str = "normalizer") -> Any:
    """Return a BPE tokenizer with blanks as ▁ and bytes to fall back to, as Llama 2's.

    `prefix` says how a text gets its first blank: `normalizer`, or Metaspace's `always`, `first`
    or `never`.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = [BLANK, *"abcdefghijklmnopqrstuvwxyz.,"]
    joined = ["th", "the", f"{BLANK}the", "in", f"{BLANK}in", "ing", "er", f"{BLANK}{BLANK}"]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += [*joined, *letters]
    plain = {*joined, *letters}
    merges = [
        (token[:cut], token[cut:])
        for token in joined
        for cut in range(1, len(token))
        if token[:cut] in plain and token[cut:] in plain
    ]
    model = models.BPE(
        vocab={token: index for index, token in enumerate(tokens)},
        merges=merges,
        unk_token="<unk>",
        fuse_unk=True,
        byte_fallback=True,
    )
    backend = Tokenizer(model)
    if prefix == "normalizer":
        backend.normalizer = normalizers.Sequence(
            [normalizers.Prepend(BLANK), normalizers.Replace(" ", BLANK)]
        )
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(
            replacement=BLANK, prepend_scheme=prefix, split=False
        )
    backend.decoder = decoders.Sequence(
        [decoders.Replace(BLANK, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def make_gguf_source(
    folder: Path,
    class_name: str = "LlamaForCausalLM",
    *,
    tokenizer: Any = None,
    dtype: torch.dtype = torch.float32,
    **settings: Any,
) -> Path:
    """Write a random model of a transformers class with a tokenizer; return its folder."""
    import transformers

    tokenizer = tokenizer or byte_level_tokenizer()
    values = {
        "vocab_size": len(tokenizer) + 5,  # rows that no token has, as many models have them
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "rms_norm_eps": 1e-5,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        **settings,
    }
    model_class = getattr(transformers, class_name)
    torch.manual_seed(0)
    model = model_class(model_class.config_class(**values))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = 0.3 if parameter.ndim == 1 else 3.0  # norms and biases that matter, too
            noise = torch.randn_like(parameter) if parameter.ndim == 1 else 0.0
            parameter.mul_(1.0 if "norm" in name else scale).add_(noise, alpha=0.3)
    model.to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def read_back(file: Path) -> Any:
    """Return the model of a GGUF file as transformers reads it, in float32."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        str(file.parent), gguf_file=file.name, dtype=torch.float32
    ).eval()
