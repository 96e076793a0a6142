"""Training text against inference text: does a row begin with what a server will feed the model."""

from __future__ import annotations

from dataclasses import dataclass

from lora_cli.data.encoding.tokenize import Tokenizer
from lora_cli.formats import Conversation


@dataclass(frozen=True, slots=True)
class InferenceComparison:
    """The beginning of a training row, and the prompt of its first learnt answer at inference."""

    training: list[int]
    """The row's tokens before its first answer that is learnt."""
    inference: list[int]
    """The tokens of the conversation up to there, rendered with the generation prompt."""

    @property
    def same(self) -> bool:
        """Return whether an answer is learnt exactly where it will be generated."""
        return self.training == self.inference

    @property
    def first_difference(self) -> int | None:
        """Return the first position, from 0, at which they differ; None if they do not."""
        if self.same:
            return None
        pairs = zip(self.training, self.inference, strict=False)
        shorter = min(len(self.training), len(self.inference))
        return next((n for n, (one, other) in enumerate(pairs) if one != other), shorter)


def compare_with_inference(
    tokenizer: Tokenizer, conversation: Conversation, system_prompt: str | None = None
) -> InferenceComparison:
    """Return how the conversation's first row compares with the prompt of its first learnt answer.

    Raises:
        RowProblemError: the conversation cannot be rendered so that its mask can be trusted.
        PlanError: no conversation can be.
    """
    row = tokenizer.encode_all(conversation, system_prompt)[0]
    training: list[int] = row.input_ids[: row.prompt_tokens].tolist()
    return InferenceComparison(
        training, tokenizer.prompt_of_first_answer(conversation, system_prompt)
    )
