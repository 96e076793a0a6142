"""Ollama's Modelfile: which file, what is written around a chat, what ends an answer.

Ollama's templates are Go's, with fields of their own: `.System` holds all system turns, `.Messages`
all turns. Texts stand in them as Go strings, so that no blank is lost. Ollama is not run here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lora_cli.data.chat.chat_template import read_template, stop_tokens
from lora_cli.merge.adapter_config import read_json
from lora_cli.merge.gguf.chat_layout import ChatLayout
from lora_cli.merge.output import GENERATION

NAME = "Modelfile"
FENCE = '"""'


@dataclass(frozen=True, slots=True)
class Modelfile:
    """What a Modelfile says."""

    base: str
    """What it is made from: `./model.gguf`, or an adapter's base."""
    adapter: str = ""
    layout: ChatLayout | None = None
    stops: Sequence[str] = field(default_factory=tuple)
    system: str = ""
    """Left out if it holds three quotes in a row, which nothing can quote."""

    def text(self) -> str:
        """Return the file's text."""
        lines = [f"FROM {_quoted(self.base)}"]
        if self.adapter:
            lines.append(f"ADAPTER {_quoted(self.adapter)}")
        if self.layout:
            lines.append(f"TEMPLATE {FENCE}{go_template(self.layout)}{FENCE}")
        lines += [f"PARAMETER stop {_quoted(stop)}" for stop in self.stops]
        if self.system and FENCE not in self.system:
            lines.append(f"SYSTEM {FENCE}{self.system}{FENCE}")
        return "\n".join(lines) + "\n"


def _quoted(value: str) -> str:
    """Return a value in quotes; in three, which hold quotes, where there are any in it."""
    fence = FENCE if '"' in value else '"'
    return f"{fence}{value}{fence}"


def go_template(layout: ChatLayout) -> str:
    """Return the layout as a Go template."""
    opening = _written(layout.opening)
    if layout.system:
        before, after = (_written(part) for part in layout.system)
        opening = f"{{{{ if .System }}}}{before}{{{{ .System }}}}{after}{{{{ else }}}}{opening}"
        opening += "{{ end }}"
    return (
        f"{opening}"
        "{{ $answered := false }}"
        "{{ range .Messages }}"
        '{{ if eq .Role "user" }}'
        f"{{{{ if $answered }}}}{_written(layout.question)}{{{{ end }}}}{{{{ .Content }}}}"
        '{{ else if eq .Role "assistant" }}'
        f"{_written(layout.answer)}{{{{ .Content }}}}{{{{ $answered = true }}}}"
        "{{ end }}"
        "{{ end }}"
        f"{_written(layout.prompt)}"
    )


def _written(text: str) -> str:
    """Return a Go action that writes a fixed text; JSON's strings are Go's too.

    What is not printable is escaped: Ollama drops it from the file.
    """
    string = json.dumps(text, ensure_ascii=False)
    shown = "".join(each if each.isprintable() else f"\\U{ord(each):08x}" for each in string)
    return f"{{{{ {shown} }}}}" if text else ""


def stops_of(folder: Path, tokenizer: Any) -> list[str]:
    """Return the texts of all tokens that end an answer.

    They are the chat template's, the tokenizer's own, and those of the folder's generation config.
    """
    found = list(stop_tokens(tokenizer, read_template(tokenizer)))
    if (folder / GENERATION).is_file():
        ends = read_json(folder / GENERATION).get("eos_token_id")
        ids = ends if isinstance(ends, list) else [ends]
        found += [
            str(tokenizer.convert_ids_to_tokens(index)) for index in ids if isinstance(index, int)
        ]
    return list(dict.fromkeys(found))


def system_of(run: Path) -> str:
    """Return the system turn that a run put before all its conversations; "" if there is none."""
    if not (run / "plan.json").is_file():
        return ""
    sources = (read_json(run / "plan.json").get("data") or {}).get("sources") or []
    prompts = {source.get("system_prompt") for source in sources}
    only = prompts.pop() if len(prompts) == 1 else None
    return only if isinstance(only, str) else ""
