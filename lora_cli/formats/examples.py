"""What a row says, once its format has been read: one kind of example each, as plain values.

An example knows text and labels, not tokens: rendering and masking are the work of `data`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    """`system`, `user`, `assistant` or `tool`."""
    content: str
    trained: bool | None = None
    """Whether it is trained on; None leaves it to the recipe."""
    reasoning: str = ""
    """What the assistant thought before it answered."""
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    """What the assistant calls: `{"name": …, "arguments": {…}}` each, maybe with an `id`."""
    name: str = ""
    """The tool whose result this is."""
    tool_call_id: str = ""
    """The call whose result this is."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns for the tokenizer's chat template; `tools` are definitions as OpenAI writes them."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()

    @property
    def answer(self) -> str:
        """Return the first answer: what generation is compared with."""
        return next(turn.content for turn in self.messages if turn.role == "assistant")


@dataclass(frozen=True, slots=True)
class Pair:
    """`prompt` is given and `completion` is learnt, as they stand; no chat template."""

    prompt: str
    completion: str

    @property
    def answer(self) -> str:
        """Return the text expected after the prompt."""
        return self.completion


@dataclass(frozen=True, slots=True)
class PlainText:
    """Text of which every token is learnt: continued pre-training."""

    text: str

    @property
    def answer(self) -> str:
        """Return nothing: there is no prompt to answer."""
        return ""


Label = str | int | float


@dataclass(frozen=True, slots=True)
class LabelledText:
    """A text, or a pair of texts, and its label, number or labels."""

    text: str
    label: Label | tuple[Label, ...]
    second_text: str = ""

    @property
    def answer(self) -> str:
        """Return the label, or the labels, as text."""
        labels = self.label if isinstance(self.label, tuple) else (self.label,)
        return ", ".join(map(str, labels))


@dataclass(frozen=True, slots=True)
class LabelledTokens:
    """Words and a tag for each."""

    words: tuple[str, ...]
    tags: tuple[str | int, ...]

    @property
    def answer(self) -> str:
        """Return the tags in turn."""
        return " ".join(map(str, self.tags))


@dataclass(frozen=True, slots=True)
class SourceTarget:
    """`source` goes into the encoder, `target` is what the decoder learns to write."""

    source: str
    target: str

    @property
    def answer(self) -> str:
        """Return the text expected."""
        return self.target


Example = Conversation | Pair | PlainText | LabelledText | LabelledTokens | SourceTarget
