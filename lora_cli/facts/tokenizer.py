"""The tokenizer, as its folder describes it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lora_cli.errors import PlanError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_tokenizer(folder: Path, *, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    """Return the tokenizer; it always has an end-of-sequence token.

    Raises:
        PlanError: there is none that transformers can read, or it marks no end.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=trust_remote_code)
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).strip().split("\n")[0]
        raise PlanError(f"the tokenizer in {folder} cannot be loaded: {reason}") from error
    if tokenizer.eos_token_id is None:
        message = "the tokenizer has no end-of-sequence token: a model trained with it never stops"
        raise PlanError(message, hint='set "eos_token" in its tokenizer_config.json')
    return tokenizer
