"""What of a conversation is learnt around its answers: nothing, or each part as its turns say.

What a template writes in front of an answer goes with the turn before it, so that the borders of
answers are borders of turns. Where turns between two answers are not alike, the border is where
the text of those before it ends that is rendered without the others: checked, and never assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby

from lora_cli.data.chat.generation_marks import Spans
from lora_cli.data.chat.turns import OTHER_TEMPLATE, Render
from lora_cli.formats import Conversation, Message, RowProblemError
from lora_cli.tasks.masking import LossOn


def check_nothing_is_learnt_around(messages: Sequence[Message], loss_on: LossOn) -> None:
    """Check that no turn but answers asks to be learnt, where only answers are.

    Raises:
        RowProblemError: with the turn's number.
    """
    for number, message in enumerate(messages, 1):
        if message.trained and message.role != "assistant":
            what = f"turn {number} ({message.role}) is marked to be trained on"
            hint = "remove `train`, or use `training.loss_on: everything`"
            raise RowProblemError(f"{what}, and `loss_on: {loss_on}` learns answers alone; {hint}")


def learnt_around(conversation: Conversation, text: str, answers: Spans, render: Render) -> Spans:
    """Return the parts around all answers of a rendered conversation that are learnt.

    Raises:
        RowProblemError: turns side by side are not alike, and where one ends cannot be told.
    """
    messages, found, first, start = conversation.messages, list[tuple[int, int]](), 0, 0
    border = partial(_border, conversation, text, render)
    answering = [number for number, turn in enumerate(messages) if turn.role == "assistant"]
    for answer, (begin, end) in zip(answering, answers, strict=True):
        # without a turn of its own, a part is of the answer that it follows
        turns = range(first, answer) or range(answer - 1, answer)
        found += _learnt_parts(messages, turns, (start, begin), border)
        first, start = answer + 1, end
    return (*found, (start, len(text))) if messages[-1].trained is not False else tuple(found)


def _learnt_parts(
    messages: Sequence[Message], turns: range, span: tuple[int, int], border: Callable[[int], int]
) -> Iterator[tuple[int, int]]:
    """Give the learnt parts of what these turns write."""
    start, stop = span
    for learnt, alike in groupby(turns, lambda turn: messages[turn].trained is not False):
        after = list(alike)[-1] + 1
        end = border(after) if after in turns else stop
        if not start <= end <= stop:
            raise _untold(after)
        if learnt:
            yield start, end
        start = end


def _border(conversation: Conversation, text: str, render: Render, count: int) -> int:
    """Return where the first turns end in the text, the last of which must be in front of it."""
    messages = conversation.messages[:count]
    other = (*messages[:-1], replace(messages[-1], content="Xyzzy"))
    try:
        before, changed = (render(replace(conversation, messages=m)) for m in (messages, other))
    except RowProblemError as error:
        raise _untold(count) from error
    if before == changed or not text.startswith(before):
        raise _untold(count)
    return len(before)


def _untold(count: int) -> RowProblemError:
    message = f"turns {count} and {count + 1}: only one of them is learnt, and the chat template"
    hint = f"mark them alike, or {OTHER_TEMPLATE}"
    return RowProblemError(f"{message} does not show where the first ends; {hint}")
