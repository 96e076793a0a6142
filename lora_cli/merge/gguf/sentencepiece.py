"""SentencePiece's kind of BPE: the scores that tokens had, out of the merges they became.

tokenizer.json has merges and no scores, llama.cpp's `llama` tokenizer scores and no merges: it
joins the neighbours whose joined token scores highest, the leftmost of equals. Scores that fall
from merge to merge say the same, if the merges are all that the vocabulary allows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from lora_cli.merge.gguf.pre_tokenizer import steps_of

BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))

Json = Mapping[str, Any]
Merge = tuple[str, str]


def scores_of(
    vocabulary: Mapping[str, int], merges: Sequence[Merge], not_joined: Collection[str]
) -> dict[str, float] | None:
    """Return each token's score; None where no scores make the same merges.

    `not_joined` are tokens that no merge makes: special ones and bytes.
    """
    rank: dict[str, int] = {}
    for left, right in merges:
        joined = left + right
        if joined in rank and rank[joined] != len(rank) - 1:
            return None  # made by two merges with another between them
        rank.setdefault(joined, len(rank))
    plain = vocabulary.keys() - set(not_joined)
    if set(merges) != _all_merges(plain):
        return None
    below = len(rank)
    others = {token: below + place for place, token in enumerate(sorted(plain - rank.keys()))}
    last = below + len(others)
    return {token: -float(rank.get(token, others.get(token, last))) for token in vocabulary}


def _all_merges(tokens: Collection[str]) -> set[Merge]:
    """Return every pair of tokens that a token can be cut into."""
    return {
        (token[:cut], token[cut:])
        for token in tokens
        for cut in range(1, len(token))
        if token[:cut] in tokens and token[cut:] in tokens
    }


def adds_blank(rules: Json) -> bool | None:
    """Return whether a text begins with a blank of its own; None where rules are not known."""
    normalizer = [step["type"] for step in steps_of(rules.get("normalizer"))]
    steps = steps_of(rules.get("pre_tokenizer"))
    if normalizer == ["Prepend", "Replace"] and not steps:
        return True
    if normalizer == ["Replace"] and all(step["type"] == "Split" for step in steps):
        return False
    if (
        not normalizer
        and [step["type"] for step in steps] == ["Metaspace"]
        and not steps[0]["split"]
    ):
        return bool(steps[0]["prepend_scheme"] != "never")
    return None


def notes_on_blanks(rules: Json) -> list[str]:
    """Return where llama.cpp adds a blank that the tokenizer does not."""
    for step in steps_of(rules.get("pre_tokenizer")):
        if step["type"] == "Metaspace" and step["prepend_scheme"] != "never":
            first = step["prepend_scheme"] == "first"
            places = "after special tokens, and " * first + "before a text that begins with one"
            return [f"llama.cpp adds a blank {places}; the tokenizer does not"]
    return []
