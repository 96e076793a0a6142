"""Tiny random models for tasks other than causal language modelling, with their tokenizers."""

from __future__ import annotations

from pathlib import Path
from string import ascii_lowercase
from typing import Any

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


def bert_tokenizer() -> Any:
    """Return a WordPiece tokenizer of letters that marks the second of two texts."""
    from transformers import BertTokenizerFast

    pieces = [*SPECIAL, *ascii_lowercase, *(f"##{letter}" for letter in ascii_lowercase), ".", "?"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    return BertTokenizerFast(vocab=vocabulary, do_lower_case=True)


def t5_tokenizer() -> Any:
    """Return a byte-level tokenizer that ends every text, as T5's does."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = ["<pad>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    vocabulary = {token: index for index, token in enumerate(alphabet)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="</s>")


def make_bert(folder: Path, auto_class: str = "AutoModelForMaskedLM", **config: Any) -> Path:
    """Write a random BERT with its tokenizer into `folder`; return it."""
    import transformers

    tokenizer = bert_tokenizer()
    settings = transformers.BertConfig(
        vocab_size=len(tokenizer),
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.2,  # so that a few steps show
        pad_token_id=0,
        **{**SIZE, **config},
    )
    return _write(folder, auto_class, settings, tokenizer)


def make_t5(folder: Path) -> Path:
    """Write a random T5 with its tokenizer into `folder`; return it."""
    import transformers

    tokenizer = t5_tokenizer()
    settings = transformers.T5Config(
        vocab_size=len(tokenizer),
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        decoder_start_token_id=0,
    )
    return _write(folder, "AutoModelForSeq2SeqLM", settings, tokenizer)


def _write(folder: Path, auto_class: str, config: Any, tokenizer: Any) -> Path:
    import torch
    import transformers

    torch.manual_seed(0)
    getattr(transformers, auto_class).from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
