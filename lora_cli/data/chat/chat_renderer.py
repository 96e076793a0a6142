"""One tokenizer's chat template as a function: conversations → text, errors in words.

Beside that, what it does with every conversation: how it ends an answer, and whether turns stay as
they are when others follow.
"""

from __future__ import annotations

from typing import Any

from jinja2 import TemplateSyntaxError

from lora_cli.data.chat.chat_template import Ending, read_template
from lora_cli.data.chat.clock import at_fixed_date, reads_clock
from lora_cli.data.chat.generation_marks import read_marks, with_marks
from lora_cli.data.chat.turns import plain_message
from lora_cli.facts.tokenizer import template_error
from lora_cli.formats import Conversation, Message, RowProblemError
from lora_cli.words import reason_of

PROBES = (
    ("Xyzzy", ""),
    ("Xyzzy", "Xyzzy thought"),
    ("<think>\nXyzzy thought\n</think>\n\nXyzzy", ""),
)
"""Answers and thoughts that show whether a template rewrites a turn that others follow."""


class ChatRenderer:
    """Renders conversations as one tokenizer's chat template does."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._ending: Ending | None = None
        self._ending_was_read = False
        self._steady: dict[str, bool] = {}
        self.reads_clock = reads_clock(tokenizer.chat_template)
        """Whether the template asks for the date; it always gets the same."""

    @property
    def ending(self) -> Ending | None:
        """Return how the template ends an answer; None if no token does."""
        if not self._ending_was_read:
            self._ending = read_template(self._tokenizer).ending
            self._ending_was_read = True
        return self._ending

    def render(
        self,
        conversation: Conversation,
        *,
        add_generation_prompt: bool = False,
        template: str | None = None,
    ) -> str:
        """Return the conversation's text, by `template` if one is given.

        Raises:
            RowProblemError: the template refuses it.
            PlanError: the template is no Jinja, whatever the conversation.
        """
        turns = [plain_message(message) for message in conversation.messages]
        if self.reads_clock:
            template = at_fixed_date(template or self.template_for(conversation))
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    turns,
                    tools=list(conversation.tools) or None,
                    chat_template=template,
                    tokenize=False,
                    add_generation_prompt=add_generation_prompt,
                )
            )
        except TemplateSyntaxError as error:
            error.lineno -= self.reads_clock
            raise template_error(self._tokenizer, error) from error
        except Exception as error:  # a template is a program: it raises what it likes
            raise RowProblemError(f"the chat template refuses it: {reason_of(error)}") from error

    def template_for(self, conversation: Conversation) -> str:
        """Return the template's text: of several named ones, that for tools where it has one."""
        try:
            return str(self._tokenizer.get_chat_template(tools=list(conversation.tools) or None))
        except ValueError as error:
            raise RowProblemError(f"no chat template fits: {reason_of(error)}") from error

    def without_trailer(self, text: str) -> str:
        """Return a conversation's text up to the token that ends its last answer."""
        ending = self.ending
        if ending and text.endswith(ending.text + ending.trailer):
            return text[: len(text) - len(ending.trailer)]
        return text

    def is_steady(self, template: str) -> bool:
        """Return whether turns stay as they are when others follow, and marks change no text."""
        if template not in self._steady:
            self._steady[template] = all(self._stays(template, *probe) for probe in PROBES)
        return self._steady[template]

    def _stays(self, template: str, content: str, reasoning: str) -> bool:
        pair = (Message("user", "Xyzzy"), Message("assistant", content, reasoning=reasoning))
        try:
            once = self.render(Conversation(pair))
            twice = self.render(Conversation(pair * 2))
            marked = read_marks(self.render(Conversation(pair * 2), template=with_marks(template)))
        except RowProblemError:
            return False
        return (
            twice.startswith(self.without_trailer(once))
            and marked is not None
            and marked[0] == twice
        )
