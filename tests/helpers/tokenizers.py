"""Small tokenizers with one peculiarity each, to hold the masks against."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from tests.helpers.tiny_models import CHAT_TEMPLATE

Merges = Sequence[tuple[str, str]]
SPECIAL = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"}

PLAIN_TEMPLATE = (
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
"""A template that marks no end of a turn."""

INSTRUCT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)
"""A template without a generation prompt: the answer follows the question's own end."""


def byte_tokenizer(
    merges: Merges = (), *, template: str | None = CHAT_TEMPLATE, trim_offsets: bool = False
) -> Any:
    """Return a byte-level BPE tokenizer with `merges`; ids of single bytes come first, in order."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(first + second for first, second in merges)]
    backend = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=list(merges)))
    # no pieces: a merge may reach from any text into the next
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    if trim_offsets:
        backend.post_processor = processors.ByteLevel(trim_offsets=True)
    return _wrapped(backend, template)


def chat_tokenizer(
    template: str | dict[str, str] | None,
    *,
    begin: str | None = "<s>",
    end: str = "</s>",
    special: Sequence[str] = (),
    merges: Merges = (),
) -> Any:
    """Return a byte-level tokenizer with the control tokens that a chat template writes."""
    from transformers import PreTrainedTokenizerFast

    backend = byte_tokenizer(merges).backend_tokenizer
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_without_added(backend.to_str())),
        bos_token=begin,
        eos_token=end,
        pad_token=end,
        extra_special_tokens=list(special),
    )
    tokenizer.chat_template = template
    return tokenizer


def _without_added(rules: str) -> str:
    return json.dumps({**json.loads(rules), "added_tokens": []})


def beginning_tokenizer(beginning: Sequence[str]) -> Any:
    """Return a byte-level tokenizer that writes these special tokens before a text."""
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"extra_special_tokens": list(beginning)})
    backend = tokenizer.backend_tokenizer
    single = " ".join([*beginning, "$A"])
    ids = [(token, backend.token_to_id(token)) for token in beginning]
    backend.post_processor = processors.TemplateProcessing(single=single, special_tokens=ids)
    return tokenizer


def word_tokenizer(words: Sequence[str], template: str | None = None) -> Any:
    """Return a tokenizer of whole words that marks the beginning of every text, as Llama 2 does."""
    vocabulary = [("▁" + word, -1.0) for word in words] + [(word, -2.0) for word in words]
    letters = sorted({letter for word in words for letter in word} | {"▁"})
    pieces = [*vocabulary, *((letter, -9.0) for letter in letters), ("<unk>", -20.0)]
    unique = list(dict(pieces).items())
    unknown = [piece for piece, _ in unique].index("<unk>")
    backend = Tokenizer(models.Unigram(unique, unk_id=unknown))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    backend.decoder = decoders.Metaspace(prepend_scheme="always", split=False)
    return _wrapped(backend, template)


def space_tokenizer(kind: str, template: str | None = None) -> Any:
    """Return a tokenizer of letters and some merges that puts a space before a text.

    `kind` is when it does: `first` and `always` as Llama 2, T5 and Mistral do, `unsplit` without
    cutting texts into words, `legacy` by its normalizer.
    """
    letters = [*map(chr, range(33, 127)), "\n", "▁"]
    merges = [("▁", "2"), ("▁", "A"), (":", "▁"), ("▁", "▁"), ("a", "b")]
    tokens = [*letters, *(first + second for first, second in merges), "<unk>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>"))
    if kind == "legacy":
        parts = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        backend.normalizer = normalizers.Sequence(parts)
        steps = [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        backend.decoder = decoders.Sequence(steps)
    else:
        scheme, split = ("first" if kind == "unsplit" else kind), kind != "unsplit"
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=split)
        backend.decoder = decoders.Metaspace(prepend_scheme=scheme, split=split)
    return _wrapped(backend, template)


def lower_case_tokenizer() -> Any:
    """Return a tokenizer of words in lower case and their endings, as BERT's is."""
    letters = [chr(each) for each in range(33, 127)]
    words = ["[UNK]", "abc", *letters, *(f"##{letter}" for letter in letters)]
    vocabulary = {word: number for number, word in enumerate(words)}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(cleanup=False)
    return _wrapped(backend, None)


def _wrapped(backend: Tokenizer, template: str | None) -> Any:
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **SPECIAL)
    tokenizer.chat_template = template
    return tokenizer
