"""The tokenizer, as its folder describes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_cli.errors import PlanError, Where
from lora_cli.files import sha256_of_text
from lora_cli.words import reason_of

if TYPE_CHECKING:
    from jinja2 import TemplateSyntaxError
    from transformers import PreTrainedTokenizerBase


def load_tokenizer(
    folder: Path,
    *,
    trust_remote_code: bool,
    generates: bool = True,
    chat_template: str | None = None,
) -> PreTrainedTokenizerBase:
    """Return the tokenizer; for a model that writes text, it has an end-of-sequence token.

    `chat_template` takes the place of its own.

    Raises:
        PlanError: there is none that transformers can read, or it marks no end.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=trust_remote_code)
    except Exception as error:  # a broken file breaks its readers in any way
        message = f"the tokenizer in {folder} cannot be loaded: {reason_of(error)}"
        hint = "fetch the model's tokenizer files again, tokenizer.json among them"
        raise PlanError(message, hint=hint) from error
    if generates and tokenizer.eos_token_id is None:
        message = "the tokenizer has no end-of-sequence token: a model trained with it never stops"
        raise PlanError(message, hint='set "eos_token" in its tokenizer_config.json')
    if chat_template is not None:
        tokenizer.chat_template = chat_template
    return tokenizer


def padding_id(tokenizer: Any) -> int:
    """Return the token to pad with: padding is masked by position, and any token would do.

    A classifier on a decoder takes the last token that is another one for the end of the text.
    """
    known = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return int(next(token for token in known if token is not None))


def tokenizer_sha256(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a digest of how a text becomes tokens: vocabulary, rules and special tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = _rules(backend) if backend else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    named = json.dumps(tokenizer.special_tokens_map, sort_keys=True, default=str)
    return sha256_of_text(rules + named)


def _rules(backend: Any) -> str:
    """Return a fast tokenizer's rules, less the lengths that its last call cut and padded to."""
    truncation, padding = backend.truncation, backend.padding
    backend.no_truncation()
    backend.no_padding()
    rules = str(backend.to_str())
    if truncation is not None:
        backend.enable_truncation(**truncation)
    if padding is not None:
        backend.enable_padding(**padding)
    return rules


def chat_template_sha256(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Return a digest of the chat template (or templates); None if there is none."""
    template = tokenizer.chat_template
    return sha256_of_text(json.dumps(template, sort_keys=True)) if template else None


def template_error(tokenizer: PreTrainedTokenizerBase, error: TemplateSyntaxError) -> PlanError:
    """Return the error of a chat template that is no Jinja, at its line where it has a file."""
    folder = Path(tokenizer.name_or_path)
    own_file = folder / "chat_template.jinja"
    hint = "mend the template, or fetch the model's tokenizer files again"
    if own_file.is_file():
        message = f"the chat template is not valid Jinja: {error.message}"
        return PlanError(message, Where(str(own_file), error.lineno), hint)
    message = f"line {error.lineno} of the chat template is not valid Jinja: {error.message}"
    return PlanError(message, str(folder / "tokenizer_config.json"), hint)
