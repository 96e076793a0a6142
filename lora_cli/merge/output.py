"""What merging and exporting write beside weights: config, tokenizer, chat template."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lora_cli.errors import MergeError
from lora_cli.files import write_text
from lora_cli.merge.adapter_config import CONFIG, read_json

COMPANIONS = (".json", ".jinja", ".model", ".txt", ".py")
TOKENIZER_FILES = (
    "tokenizer",
    "special_tokens",
    "chat_template",
    "vocab",
    "merges",
    "added_tokens",
)
CONFIG_FILE = "config.json"
REPORT = "merge_report.json"
MODELFILE = "Modelfile"
GENERATION = "generation_config.json"
"""What ends an answer: it goes with the chat template, not with the weights."""


def tokenizer_files(folder: Path) -> list[Path]:
    """Return the files of a tokenizer, its chat template and what ends an answer, if any."""
    names = (*TOKENIZER_FILES, GENERATION)
    return [
        path
        for path in sorted(folder.iterdir())
        if path.is_file() and path.suffix in COMPANIONS and path.name.startswith(names)
    ]


def write_companions(base: Path, adapter: Path, new: Path, settings: Mapping[str, Any]) -> None:
    """Write all of a merged model but its weights.

    That is the base's config with `settings`, and the tokenizer, chat template and generation
    config of the adapter, or of the base where it has none.

    Raises:
        MergeError: the base has no config.
    """
    if not (base / CONFIG_FILE).is_file():
        raise MergeError("has no config.json", str(base))
    own = (adapter / "tokenizer_config.json").is_file()
    for path in _companions(base):
        if not (own and path.name.startswith(TOKENIZER_FILES)):
            shutil.copyfile(path, new / path.name)
    for path in tokenizer_files(adapter) if own else []:
        shutil.copyfile(path, new / path.name)
    if settings:
        config = read_json(base / CONFIG_FILE)
        write_text(new / CONFIG_FILE, json.dumps(_changed(config, settings), indent=2) + "\n")


def _changed(config: dict[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config with settings put where it keeps them: on top, or with its text model's."""
    changed = dict(config)
    for key, value in settings.items():
        names = ("dtype", "torch_dtype") if key == "dtype" else (key,)
        inner = changed.get("text_config")
        places = [changed, inner] if isinstance(inner, dict) else [changed]
        held = [(place, name) for place in places for name in names if name in place]
        for place, name in held or [(changed, key)]:
            place[name] = value
    return changed


def _companions(folder: Path) -> list[Path]:
    """Return the files beside the weights that belong to a model, not to an adapter."""
    return [
        path
        for path in sorted(folder.iterdir())
        if path.is_file()
        and path.suffix in COMPANIONS
        and path.name != CONFIG
        and not path.name.endswith(".safetensors.index.json")
    ]
