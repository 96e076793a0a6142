"""How a byte-level tokenizer cuts text before it merges: by name, for that is all GGUF can say.

llama.cpp knows each name's rules by heart. A name is given only where the tokenizer's rules are
those that llama.cpp's source has under it (src/llama-vocab.cpp); any other tokenizer is refused,
for a wrong name is silently other tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

THREE_DIGITS = rf"{CONTRACTIONS}|{WORDS}|\p{{N}}{{1,3}}|{REST}"
SINGLE_DIGITS = rf"{CONTRACTIONS}|{WORDS}|\p{{N}}|{REST}"

Json = Mapping[str, Any]


def _byte_level(*, use_regex: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "use_regex": use_regex}


def _split(regex: str) -> list[Json]:
    cut = {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}
    return [cut, _byte_level(use_regex=False)]


_DIGITS = {"type": "Digits", "individual_digits": True}

KNOWN: dict[str, tuple[list[Json], bool]] = {
    "gpt-2": ([_byte_level(use_regex=True)], False),
    "smollm": ([_DIGITS, _byte_level(use_regex=True)], False),
    "qwen2": (_split(SINGLE_DIGITS), False),
    "llama-bpe": (_split(THREE_DIGITS), True),
    "smaug-bpe": (_split(THREE_DIGITS), False),
}
"""By name: the steps, and whether a piece that is a token is one without any merge."""


def pre_tokenizer_name(rules: Json) -> str | None:
    """Return llama.cpp's name for a tokenizer's rules (its tokenizer.json); None if it has none."""
    steps = [_essence(step) for step in steps_of(rules.get("pre_tokenizer"))]
    whole = bool(rules["model"].get("ignore_merges"))
    return next((name for name, known in KNOWN.items() if known == (steps, whole)), None)


def steps_of(part: Json | None) -> list[Json]:
    """Return the steps of a part of a tokenizer.json, a sequence of them laid open."""
    if part is None:
        return []
    if part["type"] == "Sequence":
        inner = part.get("pretokenizers") or part.get("normalizers") or []
        return [step for each in inner for step in steps_of(each)]
    return [part]


def _essence(step: Json) -> Json:
    """Return a step without what only matters for offsets."""
    return {key: value for key, value in step.items() if key != "trim_offsets"}


def pre_tokenizer(name: str) -> Any:
    """Return the rules of a name as `tokenizers` carries them out."""
    from tokenizers import Regex, pre_tokenizers

    made: list[Any] = []
    for step in KNOWN[name][0]:
        if step["type"] == "Digits":
            made.append(pre_tokenizers.Digits(individual_digits=True))
        elif step["type"] == "Split":
            made.append(pre_tokenizers.Split(Regex(step["pattern"]["Regex"]), "isolated"))
        else:
            plain = {key: step[key] for key in ("add_prefix_space", "use_regex")}
            made.append(pre_tokenizers.ByteLevel(**plain))
    return pre_tokenizers.Sequence(made)
