"""Chat templates by name or file, and what one tells of a tokenizer: its stop token, its tokens."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_cli.data.chat.clock import reads_clock
from lora_cli.data.chat.generation_marks import has_marks
from lora_cli.errors import PlanError, Where

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FOLDER = Path(__file__).parent / "chat_templates"
SUFFIX = ".jinja"
CONTROL_TOKEN = re.compile(r"<\|[^|<>\s]+\|>|</?s>|<(?:start|end)_of_\w+>")
"""What looks like one token in a template's text."""
PLAIN_HEADINGS = frozenset(["zephyr"])
"""Built-in templates whose roles are text, not tokens, in the models that they are of too."""
QUESTION, ANSWER = "Xyzzy question", "Xyzzy answer"


def built_in_names() -> list[str]:
    """Return the names of the built-in templates, in order."""
    return sorted(path.stem for path in FOLDER.glob(f"*{SUFFIX}"))


def find_chat_template(name: str, base_dir: Path, where: Where) -> str:
    """Return the text of a built-in template, or of a `.jinja` file looked for from `base_dir`.

    Raises:
        PlanError: there is neither, or the file is no Jinja.
    """
    if name in built_in_names():
        return (FOLDER / f"{name}{SUFFIX}").read_text("utf-8")
    path = base_dir / name
    if not name.endswith(SUFFIX):
        near = difflib.get_close_matches(name, built_in_names(), n=1)
        hint = f"did you mean `{near[0]}`?" if near else _known()
        raise PlanError(f"there is no built-in chat template `{name[:200]}`", where, hint)
    try:
        text = path.read_text("utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise PlanError(f"`{name[:200]}` cannot be read: {reason}", where, _known()) from error
    _check_syntax(path, text)
    return text


def _known() -> str:
    return f"a file beside the recipe, or one of {', '.join(built_in_names())}"


def _check_syntax(path: Path, text: str) -> None:
    from jinja2 import TemplateSyntaxError
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        render_jinja_template(conversations=[[]], chat_template=text)
    except TemplateSyntaxError as error:
        message = f"the chat template is not valid Jinja: {error.message}"
        raise PlanError(message, Where(str(path), error.lineno)) from error
    except Exception:  # noqa: BLE001, S110  # a template may well refuse an empty conversation
        pass


@dataclass(frozen=True, slots=True)
class Ending:
    """How a template ends an answer."""

    token_id: int
    text: str
    trailer: str
    """What it writes after that at the end of a conversation, such as a newline."""


@dataclass(frozen=True, slots=True)
class TemplateReading:
    """What a short conversation shows of a tokenizer's chat template."""

    ending: Ending | None = None
    split_ending: str = ""
    """What looks like the token that ends an answer, but is several in this tokenizer."""
    split_tokens: tuple[str, ...] = ()
    """All that look like one token in the rendered text, and are several in this tokenizer."""
    reads_clock: bool = False
    """Whether it writes the date."""
    learnt_header: str = ""
    """What stands before an answer and is learnt with it, for no generation prompt has it."""


def read_template(
    tokenizer: PreTrainedTokenizerBase, *, plain_headings: bool = False
) -> TemplateReading:
    """Return what the tokenizer's chat template does, as far as one rendering shows it.

    `plain_headings` says that nothing in front of an answer is meant to be a token.
    """
    try:
        prompt, prompted, text = _renderings(tokenizer)
    except Exception:  # noqa: BLE001  # a template is a program; rows will say what is wrong
        return TemplateReading(reads_clock=reads_clock(tokenizer.chat_template))
    header = text[len(prompt) : text.rfind(ANSWER)] if prompt and text.startswith(prompt) else ""
    ignored = prompt == prompted and not has_marks(str(tokenizer.get_chat_template()))
    return replace(
        _read_ending(tokenizer, text, plain_headings=plain_headings),
        reads_clock=reads_clock(tokenizer.chat_template),
        learnt_header=header if ignored and header.strip() else "",
    )


def _renderings(tokenizer: Any) -> tuple[str, str, str]:
    """Return a question's text, the same with a generation prompt, and that with an answer."""
    asked = [{"role": "user", "content": QUESTION}]
    answered = [*asked, {"role": "assistant", "content": ANSWER}]
    text = str(tokenizer.apply_chat_template(answered, tokenize=False))
    try:
        prompts = [
            str(
                tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=prompted)
            )
            for prompted in (False, True)
        ]
    except Exception:  # noqa: BLE001  # some take whole conversations alone
        return "", "", text
    return prompts[0], prompts[1], text


def _read_ending(tokenizer: Any, text: str, *, plain_headings: bool) -> TemplateReading:
    """Return how an answer ends in a rendered conversation, and what is read in pieces."""
    known = added_tokens(tokenizer)
    _, answered, after = text.rpartition(ANSWER)
    seeming = dict.fromkeys(CONTROL_TOKEN.findall(after if plain_headings else text))
    split = tuple(token for token in seeming if token not in known)
    places = [(after.find(token), token) for token in (*known, *split) if token in after]
    if not answered or not places:
        return TemplateReading(split_tokens=split)
    at, token = min(places, key=lambda place: (place[0], -len(place[1])))
    if token in split:
        return TemplateReading(split_ending=token, split_tokens=split)
    ending = Ending(known[token], token, after[at + len(token) :])
    return TemplateReading(ending, split_tokens=split)


def stop_tokens(tokenizer: Any, reading: TemplateReading) -> dict[str, int]:
    """Return what ends an answer: the chat template's token first, then the tokenizer's own end."""
    own = {} if tokenizer.eos_token_id is None else {tokenizer.eos_token: tokenizer.eos_token_id}
    return {reading.ending.text: reading.ending.token_id, **own} if reading.ending else own


def added_tokens(tokenizer: Any) -> dict[str, int]:
    """Return the tokens that a tokenizer never splits, and their ids."""
    added = {str(token): index for index, token in tokenizer.added_tokens_decoder.items()}
    named = zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True)
    return {token: index for token, index in {**added, **dict(named)}.items() if token.strip()}
