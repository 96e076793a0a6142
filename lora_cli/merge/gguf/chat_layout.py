"""What a chat template writes around questions, answers and a system turn, read off its renderings.

Most templates are a few fixed texts around what is said. They are found by rendering conversations
of marked words, and proven by rendering others: a template that does more has no layout. Tools,
thoughts and blanks around what is said are not tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Turns = Sequence[tuple[str, str]]
"""(role, what is said)."""

MARKS = ("Qxyzzya", "Axyzzyb", "Qxyzzyc", "Sxyzzyd")
PROBES: tuple[Turns, ...] = (
    [("user", "How many?")],
    [("user", 'Say "no".'), ("assistant", "No {{ x }}"), ("user", "{%  %}")],
    [("system", "Be brief.\nAlways."), ("user", "<b>1</b>")],
    [
        ("system", "S"),
        ("user", "one\n\ntwo"),
        ("assistant", "three"),
        ("user", "four"),
        ("assistant", "five\nsix"),
        ("user", "seven"),
    ],
)


@dataclass(frozen=True, slots=True)
class ChatLayout:
    """The fixed texts of a chat template."""

    opening: str
    """Before the first question, where there is no system turn."""
    system: tuple[str, str] | None
    """Before a system turn, and between it and the first question; None if it takes none."""
    answer: str
    """Between a question and its answer."""
    question: str
    """Between an answer and the next question."""
    prompt: str
    """After the last question, before what is generated."""

    def render(self, turns: Turns) -> str:
        """Return the text that an answer to these turns is generated from."""
        text = self.opening
        asked = False
        for role, said in turns:
            if role == "system":
                assert self.system, "a template with a system turn"
                text = self.system[0] + said + self.system[1]
            elif role == "user":
                text += (self.question if asked else "") + said
                asked = True
            else:
                text += self.answer + said
        return text + self.prompt


def render_chat(tokenizer: Any, turns: Turns) -> str | None:
    """Return what the tokenizer's template makes of turns; None if it refuses them."""
    messages = [{"role": role, "content": said} for role, said in turns]
    try:
        return str(
            tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        )
    except Exception:  # noqa: BLE001  # a template is a program: it raises what it likes
        return None


def read_layout(tokenizer: Any, *, begins: bool) -> ChatLayout | None:
    """Return the layout of the tokenizer's chat template, proven on `PROBES`; None if it has none.

    `begins` says that the tokenizer puts its begin token before every text: the server does so too,
    and the layout leaves it to the server.
    """
    begin = tokenizer.bos_token if begins and tokenizer.bos_token else ""
    question, answer, again, system = MARKS
    once = _parts(tokenizer, begin, [("user", question)])
    pair = [("user", question), ("assistant", answer), ("user", again)]
    twice = _parts(tokenizer, begin, pair)
    if once is None or twice is None:
        return None
    led = _parts(tokenizer, begin, [("system", system), ("user", question)])
    layout = ChatLayout(
        opening=once[0],
        system=(led[0], led[1]) if led else None,
        answer=twice[1],
        question=twice[2],
        prompt=once[1],
    )
    for turns in PROBES:
        if turns[0][0] != "system" or layout.system:
            rendered = render_chat(tokenizer, turns)
            if rendered is None or rendered.removeprefix(begin) != layout.render(turns):
                return None
    return layout


def _parts(tokenizer: Any, begin: str, turns: Turns) -> list[str] | None:
    """Return what stands around the turns' words; None if one is missing or said twice."""
    rest = render_chat(tokenizer, turns)
    if rest is None:
        return None
    rest = rest.removeprefix(begin)
    parts = []
    for _, said in turns:
        before, found, rest = rest.partition(said)
        if not found or said in rest:
            return None
        parts.append(before)
    return [*parts, rest]
