"""Rows of any columns: a template in the recipe says what is asked and what is learnt.

`dataset.template` holds Jinja, in a sandbox; what it reads must be there. A value that has no text
of its own (null, a list, a mapping) is never printed as Python would.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from lora_cli.formats.examples import Conversation, Example, Message, Pair, PlainText
from lora_cli.formats.row_format import Cells, Column, RowFormat, RowProblemError, kind_of
from lora_cli.section import Section

if TYPE_CHECKING:
    from jinja2 import nodes
    from jinja2.sandbox import SandboxedEnvironment

Part = Annotated[str, Field(min_length=1)]


class TemplateSection(Section):
    """What a row says, written with its columns: `{{ question }}`."""

    main_field = "text"

    text: Part | None = None
    """Text of which every token is learnt."""
    prompt: Part | None = None
    """What is given; goes with `completion`."""
    completion: Part | None = None
    """What is learnt after the prompt; no chat template is used."""
    system: Part | None = None
    """The system turn of a conversation."""
    user: Part | None = None
    """The user's turn; goes with `assistant`."""
    assistant: Part | None = None
    """The assistant's turn, which is learnt."""

    @property
    def parts(self) -> dict[str, str]:
        """Return the parts that are written."""
        return {name: text for name, text in self if text is not None}


KINDS: Mapping[frozenset[str], type[Example]] = {
    frozenset(("text",)): PlainText,
    frozenset(("prompt", "completion")): Pair,
    frozenset(("user", "assistant")): Conversation,
    frozenset(("system", "user", "assistant")): Conversation,
}
"""The parts that go together, and what they make."""
LEARNT = ("text", "completion", "assistant")


def template_format(parts: Mapping[str, str]) -> RowFormat:
    """Return the format that a template's parts make; they have been checked."""
    names = {name: None for text in parts.values() for name in columns_read(text)}
    return RowFormat(
        name="template",
        kind=KINDS[frozenset(parts)],
        # what a row lacks may stand in a branch that it does not take
        columns=tuple(Column(name, optional=True) for name in names),
        read=_Reader(tuple(parts.items())),
    )


@dataclass(frozen=True, slots=True)
class _Reader:
    """Renders the parts of a template; holds their text, since compiled code cannot be sent."""

    parts: tuple[tuple[str, str], ...]

    def __call__(self, cells: Cells) -> Example:
        """Return the example that the row's columns make."""
        said = {part: self._said(part, text, cells) for part, text in self.parts}
        if "text" in said:
            return PlainText(said["text"])
        if "prompt" in said:
            return Pair(said["prompt"], said["completion"])
        roles = [role for role in ("system", "user", "assistant") if role in said]
        return Conversation(tuple(Message(role, said[role]) for role in roles))

    @staticmethod
    def _said(part: str, text: str, cells: Cells) -> str:
        from jinja2 import UndefinedError

        values = {name: cells.value(name) for name in cells.found}
        try:
            said = str(_compiled(text).render(values))
        except RowProblemError as error:
            raise RowProblemError(f"template.{part} {error}") from error
        except UndefinedError as error:
            raise RowProblemError(f"template.{part} {_lacking(text, values, error)}") from error
        except Exception as error:  # a template is a program: it raises what it likes
            raise RowProblemError(f"template.{part} fails on this row: {error}") from error
        if not said.strip():
            raise RowProblemError(f"template.{part} makes an empty text of this row")
        return said


def _lacking(text: str, values: Mapping[str, Any], error: Exception) -> str:
    """Return what a template looks for in vain: a column, or something inside one."""
    missing = [
        f"`{name}`"
        for name, guarded in columns_read(text).items()
        if name not in values and not guarded
    ]
    if not missing:
        return f"reads what this row does not hold: {error}"
    hint = "write `{% if … is defined %}` around what may be missing"
    return f"reads {', '.join(missing)}, which this row does not have: {hint}"


@lru_cache(maxsize=64)
def columns_read(text: str) -> dict[str, bool]:
    """Return the columns that a template reads, and whether it can do without each.

    Raises:
        jinja2.TemplateSyntaxError: it is no template.
    """
    from jinja2 import meta, nodes

    tree = _environment().parse(text)
    names = sorted(meta.find_undeclared_variables(tree))
    guarded = {
        node.node.name
        for node in (*tree.find_all(nodes.Test), *tree.find_all(nodes.Filter))
        if node.name in ("defined", "undefined", "default", "d")
        and isinstance(node.node, nodes.Name)
    }
    return {name: name in guarded for name in names}


def template_problems(text: str) -> Iterator[tuple[str, str]]:
    """Give what is wrong with a template's text, whatever the rows: messages and hints."""
    from jinja2 import TemplateSyntaxError, nodes

    try:
        tree = _environment().parse(text)
        _compiled(text)  # unknown filters are found only here
    except TemplateSyntaxError as error:
        line = f" in its line {error.lineno}" if "\n" in text.strip("\n") else ""
        yield f"is not a template: {error.message}{line}", "columns are written {{ column }}"
        return
    if _other_files(tree, nodes):
        yield "reads another file", "write all of it here"


def _other_files(tree: nodes.Template, nodes: Any) -> bool:
    return any(tree.find_all((nodes.Include, nodes.Extends, nodes.Import, nodes.FromImport)))


@lru_cache(maxsize=64)
def _compiled(text: str) -> Any:
    return _environment().from_string(text)


@lru_cache(maxsize=1)
def _environment() -> SandboxedEnvironment:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False, finalize=_printed
    )
    environment.globals.clear()  # names are columns, and nothing else
    return environment


def _printed(value: Any) -> Any:
    """Return a value that has a text of its own."""
    if value is None or isinstance(value, list | tuple | dict):
        hint = "`or ''` where it may be missing"
        if value is not None:
            hint = "a field of it, or `| tojson`" if isinstance(value, dict) else "`| join(', ')`"
        raise RowProblemError(f"prints {kind_of(value)}: write {hint}")
    return value
