"""The base that an adapter was trained on: found, checked, its weights fetched.

`loracli.json` beside an adapter, where there is one, names the base that was really used.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lora_cli.errors import MergeError, PlanError, RunError
from lora_cli.facts.model_source import ModelSource, find_model
from lora_cli.merge.adapter_config import AdapterConfig, read_json
from lora_cli.model.weights import fetch_weights

ORIGIN = "loracli.json"


def read_origin(adapter: Path) -> dict[str, Any]:
    """Return what `loracli.json` says of an adapter's base; nothing for one made elsewhere."""
    return read_json(adapter / ORIGIN) if (adapter / ORIGIN).is_file() else {}


def quantization_of(origin: Mapping[str, Any]) -> str:
    """Return how the base was held while training: a method's name, or `none`."""
    return str((origin.get("quantization") or {}).get("method", "none"))


def base_name(config: AdapterConfig, origin: Mapping[str, Any]) -> str:
    """Return the base's name or path.

    Raises:
        MergeError: there is none.
    """
    name = origin.get("base") or config.base_name
    if not isinstance(name, str):
        raise MergeError("does not name its base model", str(config.path))
    return name


def find_base(config: AdapterConfig, origin: Mapping[str, Any]) -> ModelSource:
    """Return where the adapter's base is.

    Raises:
        MergeError: it cannot be found, or is not the one the adapter was trained on.
    """
    name = base_name(config, origin)
    try:
        source = find_model(name, revision=config.revision, base_dir=Path.cwd())
    except PlanError as error:
        raise MergeError.from_problems(error.problems) from error
    planned = origin.get("base_fingerprint")
    if planned and planned != source.fingerprint:
        message = f"`{name}` is not the base that the adapter was trained on"
        place = str(config.path.parent / ORIGIN)
        raise MergeError(message, place, f"{source.fingerprint} ≠ {planned}")
    return source


def fetch_base(source: ModelSource) -> Path:
    """Return the folder that holds the base's weights as safetensors.

    Raises:
        MergeError: they cannot be had.
    """
    try:
        return fetch_weights(
            source.kind,
            source.folder,
            name=source.hub_id,
            revision=source.revision,
            gguf=source.gguf,
            allow_pickle=False,
        )
    except (PlanError, RunError) as error:
        raise MergeError.from_problems(error.problems) from error
