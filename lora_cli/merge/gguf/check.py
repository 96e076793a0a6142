"""A written GGUF file, opened again: is all in it, and does it tokenize as the model's tokenizer?

transformers' loader reads the tokenizer back; how text is cut, which it does not always know by
llama.cpp's names, is put in by its rules. What llama.cpp itself makes of the file is not run here.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lora_cli.errors import ExportError
from lora_cli.merge.gguf.pre_tokenizer import pre_tokenizer
from lora_cli.merge.gguf.vocabulary import Vocabulary
from lora_cli.merge.gguf.write import Layout

PROBES = (
    "Hello, world! It's 2026: they'll pay 1234567 € for  two   spaces.",
    "def f(x):\n    return x**2  # naïve café\n\n\tend\r\n",
    "日本語のテキスト, привет мир, مرحبا, 🙂👍🏽 ½ ² IV",
    "WE'RE don't I'VE  42nd\u00a0place… 'quoted' \"double\" [x] {y} <z>",
    "a",
    "x" * 40,
)
"""Letters, digits, blanks, contractions, scripts and signs: what rules of cutting differ in."""


def check_tensors(file: Path, layout: Layout) -> None:
    """Check that the file holds every tensor of the layout, and no other.

    Raises:
        ExportError: it does not.
    """
    from gguf import GGUFReader

    found = {
        tensor.name: (tuple(int(size) for size in reversed(tensor.shape)), tensor.tensor_type)
        for tensor in GGUFReader(file).tensors
    }
    if found != dict(layout):
        odd = next(name for name in {*found, *layout} if found.get(name) != dict(layout).get(name))
        raise ExportError(f"`{odd}` was written and cannot be read back", str(file))


def check_tokenizer(
    file: Path, tokenizer: Any, vocabulary: Vocabulary, chats: Iterable[str]
) -> int:
    """Return how many texts the file's tokenizer and the model's make the same tokens of.

    Raises:
        ExportError: one of them is other tokens.
    """
    from transformers import AutoTokenizer

    written = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
    if vocabulary.model == "gpt2":
        written.backend_tokenizer.pre_tokenizer = pre_tokenizer(vocabulary.pre)
        written.backend_tokenizer.normalizer = tokenizer.backend_tokenizer.normalizer
    else:
        written.backend_tokenizer.normalizer = tokenizer.backend_tokenizer.normalizer
        written.backend_tokenizer.pre_tokenizer = tokenizer.backend_tokenizer.pre_tokenizer
    texts = [*PROBES, *chats]
    for text in texts:
        before = tokenizer(text, add_special_tokens=False).input_ids
        after = written(text, add_special_tokens=False).input_ids
        if before != after:
            message = f"the file's tokenizer makes other tokens of {text[:40]!r}"
            raise ExportError(message, str(file), f"{after[:12]} …, not {before[:12]} …")
    return len(texts)
