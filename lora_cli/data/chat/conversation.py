"""Conversations → text, and which parts of it are learnt, by one tokenizer's chat template.

What is learnt is what the template marks with `{% generation %}`, where its marks can be trusted;
else what it adds after the generation prompt. The second holds only if the prompt is a prefix of
the answered conversation, which is checked for each row and never assumed.

Some templates write a turn differently once the conversation goes on: they leave its thoughts out.
Such a turn is learnt from the rendering that ends with it, as it will be generated, and the
conversation becomes several rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lora_cli.data.chat.around_answers import check_nothing_is_learnt_around, learnt_around
from lora_cli.data.chat.chat_renderer import ChatRenderer
from lora_cli.data.chat.chat_template import Ending
from lora_cli.data.chat.generation_marks import has_marks, read_marks, with_marks
from lora_cli.data.chat.rendering import Rendering
from lora_cli.data.chat.turns import (
    OTHER_TEMPLATE,
    check_nothing_is_left_out,
    holds,
    thought_and_spoken,
    with_opened_thought,
    with_system,
    without_reasoning,
)
from lora_cli.formats import Conversation, Message, RowProblemError
from lora_cli.tasks.masking import LossOn, Reasoning

MARK_IT = "or mark its answers with {% generation %}"
UNLEARNT = "mark it `train: false`, or write a turn before it"
LEARN_ANSWERS = "use `training.loss_on: assistant`"


class ConversationRenderer:
    """Renders conversations with one tokenizer's chat template."""

    def __init__(self, tokenizer: Any, *, loss_on: LossOn, reasoning: Reasoning) -> None:
        self._chat = ChatRenderer(tokenizer)
        self._loss_on = loss_on
        self._reasoning = reasoning

    @property
    def ending(self) -> Ending | None:
        """Return how the template ends an answer; None if no token does."""
        return self._chat.ending

    @property
    def reads_clock(self) -> bool:
        """Return whether the template asks for the date, which is always the same here."""
        return self._chat.reads_clock

    def renderings(
        self, conversation: Conversation, system_prompt: str | None = None
    ) -> list[Rendering]:
        """Return the texts to train on: one, or more where answered turns are rewritten later.

        Raises:
            RowProblemError: the template refuses the conversation, leaves a part of it out, or
                renders an answer in a way that cannot be told from what surrounds it.
            PlanError: the template is no Jinja, whatever the conversation.
        """
        if self._loss_on != "everything":
            check_nothing_is_learnt_around(conversation.messages, self._loss_on)
        conversation = with_system(conversation, system_prompt)
        if self._reasoning == "drop":
            conversation = without_reasoning(conversation)
        turns = _turns_to_learn(conversation.messages, last_only=self._loss_on == "last_turn")
        if not turns:
            raise RowProblemError("no turn of the assistant is trained on: mark one `train: true`")
        if self._loss_on == "everything":
            _check_first(conversation.messages, f"remove it, or {LEARN_ANSWERS}")
            return [self._everything(conversation)]
        if turns[0] == 0:
            _check_first(conversation.messages, UNLEARNT)
        return self._answers(conversation, turns)

    def first_learnt_turn(self, conversation: Conversation) -> int:
        """Return the index of the first message that is an answer and learnt."""
        last_only = self._loss_on == "last_turn"
        return _turns_to_learn(conversation.messages, last_only=last_only)[0]

    def prompt(self, conversation: Conversation, system_prompt: str | None = None) -> str:
        """Return the text that inference generates the next answer of a conversation from."""
        conversation = with_system(conversation, system_prompt)
        if self._reasoning == "drop":
            conversation = without_reasoning(conversation)
        return self._chat.render(conversation, add_generation_prompt=True)

    def _everything(self, conversation: Conversation) -> Rendering:
        answers = _answers_of(conversation.messages)
        found = self._answers(conversation, answers)
        if len(found) > 1:
            message = "the chat template renders answers differently once the conversation goes on"
            raise RowProblemError(f"{message}: no one text holds everything; {LEARN_ANSWERS}")
        (whole,) = found
        said = (conversation.messages[n].trained for n in answers)
        read_only = frozenset(n for n, trained in enumerate(said) if trained is False)
        around = learnt_around(conversation, whole.text, whole.answers, self._chat.render)
        return replace(whole, read_only=read_only, also_learnt=around)

    def _answers(self, conversation: Conversation, turns: Sequence[int]) -> list[Rendering]:
        by_marks = self._by_marks(conversation, turns)
        return [by_marks] if by_marks else self._by_prefixes(conversation, turns)

    def _by_marks(self, conversation: Conversation, turns: Sequence[int]) -> Rendering | None:
        """Return the rendering that marks every answer once; None if the template does not."""
        template = self._chat.template_for(conversation)
        if not has_marks(template):
            return None
        if turns != [len(conversation.messages) - 1] and not self._chat.is_steady(template):
            return None
        read = read_marks(self._chat.render(conversation, template=with_marks(template)))
        answers = _answers_of(conversation.messages)
        if read is None or len(read[1]) != len(answers):
            return None
        text, spans = read
        check_nothing_is_left_out(conversation, text, self._chat.render)
        by_turn = dict(zip(answers, spans, strict=True))
        return Rendering(
            text, tuple(self._answer(conversation, n, text, by_turn[n]) for n in turns)
        )

    def _by_prefixes(self, conversation: Conversation, turns: Sequence[int]) -> list[Rendering]:
        """Return the fewest renderings in which every turn stands as it is generated."""
        text = whole = self._chat.render(conversation)
        check_nothing_is_left_out(conversation, text, self._chat.render)
        found: list[Rendering] = []
        spans: list[tuple[int, int]] = []
        for turn in reversed(turns):
            before, after = self._before_and_after(conversation, turn, whole)
            answered = self._chat.without_trailer(after)
            if not text.startswith(answered):
                found += [Rendering(text, tuple(reversed(spans)))] if spans else []
                text, spans = after, []
            spans.append(self._answer(conversation, turn, text, (len(before), len(answered))))
        return [Rendering(text, tuple(reversed(spans))), *reversed(found)]

    def _before_and_after(
        self, conversation: Conversation, turn: int, whole: str
    ) -> tuple[str, str]:
        """Return the prompt that an answer is generated from, and the text that ends with it."""
        before = self._chat.render(_first(conversation, turn), add_generation_prompt=True)
        is_last = turn + 1 == len(conversation.messages)
        after = whole if is_last else self._chat.render(_first(conversation, turn + 1))
        if after.startswith(before):
            return before, after
        thinking = with_opened_thought(before, after, conversation.messages[turn])
        if thinking is None:
            raise _untrusted(turn, "does not begin it with the prompt it generates from")
        return before, thinking

    def _answer(
        self, conversation: Conversation, turn: int, text: str, span: tuple[int, int]
    ) -> tuple[int, int]:
        """Return an answer's part of the text, to the end of its stop token, once checked."""
        message, (start, end) = conversation.messages[turn], span
        stop = self._chat.ending.text if self._chat.ending else ""
        if stop:
            end = _end_of_stop(text, start, end, stop)
        answer = text[start:end]
        thought, spoken = thought_and_spoken(message)
        if not answer.strip() or not holds(answer, spoken):
            raise _untrusted(turn, "leaves out what the assistant says")
        if not (holds(answer, thought) and holds(answer, message.reasoning)):
            what = f"turn {turn + 1}: the chat template leaves out the reasoning"
            hint = "or train without it, with `training.reasoning: drop`"
            raise RowProblemError(f"{what}; {OTHER_TEMPLATE}, {hint}")
        if stop and stop in answer[: -len(stop)]:
            what = f"an answer holds `{stop}`, which ends a turn"
            raise RowProblemError(f"{what}: nothing after it would ever be generated")
        return start, end


def _check_first(messages: Sequence[Message], hint: str) -> None:
    """Raise if the first turn is an answer: a model generates after a prompt."""
    if messages and messages[0].role == "assistant":
        message = "turn 1 is an answer before any question"
        raise RowProblemError(f"{message}: there is no prompt to learn it from; {hint}")


def _turns_to_learn(messages: Sequence[Message], *, last_only: bool) -> list[int]:
    """Return the indices of the answers to learn: as each says itself, else as the recipe does."""
    answers = _answers_of(messages)
    usual = answers[-1:] if last_only else answers
    said = {n: messages[n].trained for n in answers}
    return [n for n in answers if said[n] or (said[n] is None and n in usual)]


def _answers_of(messages: Sequence[Message]) -> list[int]:
    return [n for n, message in enumerate(messages) if message.role == "assistant"]


def _first(conversation: Conversation, count: int) -> Conversation:
    return replace(conversation, messages=conversation.messages[:count])


def _end_of_stop(text: str, start: int, end: int, stop: str) -> int:
    """Return where the stop token ends that closes this part of the text, or follows it."""
    last = text.rfind(stop, start, end)
    if last >= 0 and not text[last + len(stop) : end].strip():
        return last + len(stop)
    return end + len(stop) if text.startswith(stop, end) else end


def _untrusted(turn: int, problem: str) -> RowProblemError:
    message = f"turn {turn + 1}: the chat template {problem}, so that no mask can be trusted"
    return RowProblemError(f"{message}; {OTHER_TEMPLATE}, {MARK_IT}")
