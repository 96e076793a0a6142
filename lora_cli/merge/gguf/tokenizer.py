"""A tokenizer and its chat template → a GGUF file's metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lora_cli.data.chat.chat_template import read_template
from lora_cli.errors import ExportError
from lora_cli.merge.gguf.vocabulary import Vocabulary, read_vocabulary
from lora_cli.words import reason_of

if TYPE_CHECKING:
    from pathlib import Path

    from gguf import GGUFWriter

PROBE = "Xyzzy"


def load_tokenizer(folder: Path) -> Any:
    """Return the tokenizer in `folder`.

    Raises:
        ExportError: there is none.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportError(f"has no tokenizer: {reason_of(error)}", str(folder)) from error


def write_tokenizer(writer: GGUFWriter, tokenizer: Any, size: int, place: str) -> Vocabulary:
    """Write the tokenizer of a model with `size` rows in its embedding; return its vocabulary.

    Raises:
        ExportError: GGUF could not say what the tokenizer does.
    """
    vocabulary = read_vocabulary(tokenizer, size, place)
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if vocabulary.model == "gpt2":
        writer.add_token_merges(vocabulary.merges)
    else:
        writer.add_token_scores(vocabulary.scores)
        writer.add_add_space_prefix(bool(vocabulary.adds_blank))
    _write_special_tokens(writer, tokenizer, place)
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = [{"name": name, "template": text} for name, text in template.items()]
    if template:
        writer.add_chat_template(template)
    return vocabulary


def _write_special_tokens(writer: GGUFWriter, tokenizer: Any, place: str) -> None:
    begins, ends = begins_and_ends(tokenizer, place)
    for index, write in (
        (tokenizer.bos_token_id, writer.add_bos_token_id),
        (tokenizer.eos_token_id, writer.add_eos_token_id),
        (tokenizer.unk_token_id, writer.add_unk_token_id),
        (tokenizer.pad_token_id, writer.add_pad_token_id),
        (_end_of_turn(tokenizer), writer.add_eot_token_id),
    ):
        if index is not None:
            write(index)
    writer.add_add_bos_token(begins)
    writer.add_add_eos_token(ends)


def _end_of_turn(tokenizer: Any) -> int | None:
    """Return what the chat template ends an answer with, where it is not the end token."""
    ending = read_template(tokenizer).ending if tokenizer.chat_template else None
    return None if ending is None or ending.token_id == tokenizer.eos_token_id else ending.token_id


def begins_and_ends(tokenizer: Any, place: str = "") -> tuple[bool, bool]:
    """Return whether the tokenizer puts its begin token before a text, and its end token after.

    Raises:
        ExportError: it adds any other token.
    """
    plain = tokenizer(PROBE, add_special_tokens=False).input_ids
    whole = tokenizer(PROBE).input_ids
    begins = len(whole) > len(plain) and whole[0] == tokenizer.bos_token_id
    ends = len(whole) > len(plain) + begins and whole[-1] == tokenizer.eos_token_id
    expected = [*[tokenizer.bos_token_id] * begins, *plain, *[tokenizer.eos_token_id] * ends]
    if whole != expected:
        message = "the tokenizer adds tokens to a text other than its begin and end token"
        raise ExportError(message, place, "llama.cpp adds no others")
    return begins, ends
