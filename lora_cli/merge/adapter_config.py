"""adapter_config.json as peft writes it: which kind of adapter it is, and its scaling.

Knows plain LoRA and rsLoRA. A setting that is not known here may change what the tensors mean, so
it is refused unless it is switched off.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_cli.errors import MergeError

CONFIG = "adapter_config.json"

_HARMLESS = frozenset(
    [
        "alpha_pattern",
        "auto_mapping",
        "base_model_name_or_path",
        "bias",
        "exclude_modules",
        "fan_in_fan_out",
        "inference_mode",
        "init_lora_weights",
        "layers_pattern",
        "layers_to_transform",
        "lora_alpha",
        "lora_dropout",
        "megatron_core",
        "peft_type",
        "peft_version",
        "qalora_group_size",
        "r",
        "rank_pattern",
        "revision",
        "runtime_config",
        "target_modules",
        "task_type",
        "use_rslora",
    ]
)
"""Settings that are read here, or that only matter while training."""

_MEANING = {
    "use_dora": "DoRA",
    "use_qalora": "QALoRA",
    "use_bdlora": "block-diagonal LoRA",
    "modules_to_save": "modules trained in full",
    "trainable_token_indices": "trained tokens",
    "lora_bias": "biases on B",
    "alora_invocation_tokens": "activated LoRA",
    "target_parameters": "adapted parameters",
    "layer_replication": "replicated layers",
}

_UNCHANGED_BASE = (True, False, None, "gaussian")
"""Initialisations after which the base is still the one that was loaded."""


@dataclass(frozen=True)
class AdapterConfig:
    """The settings of a LoRA adapter that a merge needs."""

    path: Path
    settings: dict[str, Any]

    @property
    def base_name(self) -> str | None:
        """Return what the adapter calls its base."""
        name = self.settings.get("base_model_name_or_path")
        return name if isinstance(name, str) and name else None

    @property
    def revision(self) -> str | None:
        """Return the base's revision on the hub."""
        revision = self.settings.get("revision")
        return revision if isinstance(revision, str) and revision else None

    def rank(self, module: str) -> int:
        """Return the rank of a module's pair."""
        return int(self._number("r", "rank_pattern", module))

    def scaling(self, module: str) -> float:
        """Return s of ΔW = s·B·A: alpha / rank, or alpha / √rank where the rank is stabilised."""
        alpha, rank = self._number("lora_alpha", "alpha_pattern", module), self.rank(module)
        return alpha / math.sqrt(rank) if self.settings.get("use_rslora") else alpha / rank

    def _number(self, key: str, pattern_key: str, module: str) -> float:
        """Return a number that patterns may override; they match as peft matches them."""
        value = self.settings.get(key)
        for pattern, special in (self.settings.get(pattern_key) or {}).items():
            if re.match(rf"(.*\.)?({pattern})$", module):
                value = special
                break
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise MergeError(
                f"`{key}` of `{module}` is {value!r}, not a number over 0", str(self.path)
            )
        return value


def read_config(folder: Path) -> AdapterConfig:
    """Return an adapter's settings.

    Raises:
        MergeError: not readable, or of a kind that this version does not merge.
    """
    path = folder / CONFIG
    settings = read_json(path)
    kind, task = settings.get("peft_type"), settings.get("task_type")
    if kind != "LORA":
        raise MergeError(f"`{kind}` adapters are not merged by this version", str(path))
    if task not in ("CAUSAL_LM", None):
        raise MergeError(f"adapters for {task} are not merged by this version", str(path))
    found = _unmergeable(settings)
    if found:
        raise MergeError(f"not merged by this version: {', '.join(found)}", str(path))
    return AdapterConfig(path, settings)


def _unmergeable(settings: dict[str, Any]) -> list[str]:
    unknown = [key for key, value in settings.items() if value and key not in _HARMLESS]
    found = [_MEANING.get(key, f"the setting `{key}`") for key in unknown]
    if settings.get("bias", "none") != "none":
        found.append("trained biases")
    start = settings.get("init_lora_weights")
    if start not in _UNCHANGED_BASE:
        found.append(f"initialisation {start!r}, which changes the base")
    return found


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON mapping.

    Raises:
        MergeError: there is none in the file.
    """
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise MergeError(f"cannot be read: {error}", str(path)) from error
    if not isinstance(value, dict):
        raise MergeError("is not a JSON mapping", str(path))
    return value
