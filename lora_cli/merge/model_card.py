"""The model card (README.md) that goes with a folder: its own, its run's, or one made for it.

A made one says what the folder's files say. A licence is not in them, so it is left out; nor is a
base that is a path on this machine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lora_cli.merge.adapter_config import CONFIG as ADAPTER_CONFIG
from lora_cli.merge.adapter_config import read_json
from lora_cli.merge.adapter_folder import is_of_run
from lora_cli.merge.base import ORIGIN
from lora_cli.merge.loading import adapter_loading, gguf_loading, model_loading
from lora_cli.merge.named_base import NamedBase, base_of
from lora_cli.merge.output import CONFIG_FILE, MODELFILE, REPORT
from lora_cli.plan.run_folder import PLAN

CARD = "README.md"
_USE = re.compile(r"^## Use\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_BASE_LINE = re.compile(r"\A(---\n(?:(?!---\n).*\n)*?)base_model:.*\n")
_EMPTY_FORM = (
    "# Model Card for Model ID\n\n<!-- Provide a quick summary of what the model is",
    "-->\n\n\n\n## Model Details\n",
    "-->\n\n\n\n- **Developed by:** [More Information Needed]\n",
    "- **License:** [More Information Needed]\n",
    "Use the code below to get started with the model.\n\n[More Information Needed]\n",
)
"""Of the form that peft writes beside an adapter: places that people fill in, still empty."""


@dataclass(frozen=True, slots=True)
class Card:
    """A card's text, and whose it is."""

    text: str
    whose: Literal["folder", "run", "made"]


@dataclass(frozen=True, slots=True)
class _Contents:
    """What a card says of a folder."""

    library: str
    what: str
    tag: str
    use: str


def card_for(folder: Path, repository: str) -> Card:
    """Return the card that goes with `folder`; one that is made or a run's says how others load it.

    Raises:
        MergeError: a file that says what it holds cannot be read.
    """
    if own := own_card(folder):
        return Card(own, "folder")
    base = base_of(folder)
    contents = _contents(folder, repository, base)
    if of_run := _card_of_run(folder):
        elsewhere = _without_paths(of_run, [base.name * base.is_path, _path_in_recipe(folder)])
        return Card(_for_others(elsewhere, contents.use, base), "run")
    return Card(_made(folder, contents, repository, base), "made")


def own_card(folder: Path) -> str:
    """Return the card that a folder holds; nothing for a form that peft wrote."""
    card = _text(folder / CARD)
    return "" if all(mark in card for mark in _EMPTY_FORM) else card


def _text(file: Path) -> str:
    return file.read_text("utf-8") if file.is_file() else ""


def _card_of_run(folder: Path) -> str:
    """Return what training wrote of the run whose adapter a folder is, if it is one."""
    return _text(folder.resolve().parent / CARD) if is_of_run(folder) else ""


def _path_in_recipe(folder: Path) -> str:
    """Return what a run's recipe, and with it the card, calls a base on this machine; else ""."""
    model = read_json(folder.resolve().parent / PLAN).get("model", {})
    name = str(model.get("name", ""))
    return "" if model.get("kind") == "hub" or NamedBase(name).in_package else name


def _without_paths(card: str, paths: Iterable[str]) -> str:
    """Return a card that names the last part of each path alone."""
    for path in filter(lambda each: Path(each).name, paths):
        card = card.replace(path, Path(path).name)
    return card


def _for_others(card: str, use: str, base: NamedBase) -> str:
    """Return a run's card as it holds outside of the run's folder, and of this machine."""
    if not base.hub_id:  # hubs refuse a card with a base that is none of theirs
        card = _BASE_LINE.sub(r"\1", card)
    return _USE.sub(lambda _: f"## Use\n\n{use}\n\n", card).rstrip("\n") + "\n"


def _made(folder: Path, contents: _Contents, repository: str, base: NamedBase) -> str:
    """Return a card in Markdown, with the front matter that hubs read."""
    by_loracli = any((folder / name).is_file() for name in (ORIGIN, REPORT, MODELFILE))
    tags = [contents.tag, "loracli"] if by_loracli else [contents.tag]
    made = ", made with loracli" if by_loracli else ""
    head = [f"library_name: {contents.library}"]
    head += [f"base_model: {json.dumps(base.hub_id)}"] if base.hub_id else []
    head += [f"tags: [{', '.join(tags)}]"]
    of_base = f" of `{base.told}`" if base.told else ""
    return (
        "---\n" + "\n".join(head) + "\n---\n\n"
        f"# {repository.partition('/')[2]}\n\n"
        f"{contents.what}{of_base}{made}.\n\n"
        f"## Use\n\n{contents.use}\n"
    )


def _contents(folder: Path, repository: str, base: NamedBase) -> _Contents:
    files = sorted(path.name for path in folder.glob("*.gguf"))
    if files:
        use = gguf_loading(folder, repository, base)
        return _Contents("gguf", f"GGUF ({', '.join(files)})", "gguf", use)
    if (folder / ADAPTER_CONFIG).is_file():
        settings = read_json(folder / ADAPTER_CONFIG)
        method = str(settings.get("peft_type"))
        rank = f", rank {settings['r']}" if isinstance(settings.get("r"), int) else ""
        use = adapter_loading(folder, repository, base)
        return _Contents("peft", f"An adapter ({method}{rank})", method.lower(), use)
    architectures = read_json(folder / CONFIG_FILE).get("architectures") or ["a model"]
    use = model_loading(folder, repository, architectures)
    return _Contents("transformers", f"A fine-tuned model ({architectures[0]})", "lora", use)
