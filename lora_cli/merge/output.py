"""What merging and exporting have in common when they write: a free place, and the tokenizer."""

from __future__ import annotations

from pathlib import Path

from lora_cli.errors import MergeError

COMPANIONS = (".json", ".jinja", ".model", ".txt", ".py")
TOKENIZER_FILES = (
    "tokenizer",
    "special_tokens",
    "chat_template",
    "vocab",
    "merges",
    "added_tokens",
)


GENERATION = "generation_config.json"
"""What ends an answer: it goes with the chat template, not with the weights."""


def check_free(output: Path) -> None:
    """Check that nothing would be overwritten.

    Raises:
        MergeError: something is there already.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise MergeError("exists already", str(output), "name another --output, or remove it")


def tokenizer_files(folder: Path) -> list[Path]:
    """Return the files of a tokenizer, its chat template and what ends an answer, if any."""
    names = (*TOKENIZER_FILES, GENERATION)
    return [
        path
        for path in sorted(folder.iterdir())
        if path.is_file() and path.suffix in COMPANIONS and path.name.startswith(names)
    ]
