"""adapter_config.json as peft writes it: which kind of adapter it is, and its scaling.

Knows plain LoRA and rsLoRA. A setting of theirs that is not known here may change what the tensors
mean, so it is refused unless it is switched off.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from lora_cli.errors import MergeError

CONFIG = "adapter_config.json"
MERGE_WITH_PEFT = "merge it with peft's merge_and_unload"
CAUSAL_TASKS = ("CAUSAL_LM", None)

_HARMLESS = frozenset(
    [
        "alpha_pattern",
        "auto_mapping",
        "base_model_name_or_path",
        "bias",
        "corda_config",
        "eva_config",
        "exclude_modules",
        "fan_in_fan_out",
        "inference_mode",
        "init_lora_weights",
        "layers_pattern",
        "layers_to_transform",
        "loftq_config",
        "lora_alpha",
        "lora_dropout",
        "lora_ga_config",
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
    "ensure_weight_tying": "an output head tied to its embedding",
    "lora_bias": "biases on B",
    "alora_invocation_tokens": "activated LoRA",
    "target_parameters": "adapted parameters",
    "layer_replication": "replicated layers",
}

_UNCHANGED_BASE = (True, False, None, "gaussian", "orthogonal", "eva")
"""Initialisations after which the base is still the one that was loaded."""


@dataclass(frozen=True)
class AdapterConfig:
    """The settings of an adapter; rank and scaling are those of the kind LORA."""

    path: Path
    settings: dict[str, Any]

    @property
    def kind(self) -> str:
        """Return peft's name for the method."""
        return str(self.settings.get("peft_type"))

    @property
    def task(self) -> str | None:
        """Return peft's name for what the model is used for."""
        return self.settings.get("task_type")

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

    def number(self, key: str) -> float:
        """Return a setting that is a number over 0."""
        return self._checked(self.settings.get(key), f"`{key}`")

    def _number(self, key: str, pattern_key: str, module: str) -> float:
        """Return a number that patterns may override; they match as peft matches them."""
        value = self.settings.get(key)
        for pattern, special in (self.settings.get(pattern_key) or {}).items():
            if re.match(rf"(.*\.)?({pattern})$", module):
                value = special
                break
        return self._checked(value, f"`{key}` of `{module}`")

    def _checked(self, value: Any, what: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise MergeError(f"{what} is {value!r}, not a number over 0", str(self.path))
        return value


def read_any_config(folder: Path) -> AdapterConfig:
    """Return the settings of an adapter of any kind.

    Raises:
        MergeError: not readable.
    """
    return AdapterConfig(folder / CONFIG, read_json(folder / CONFIG))


def beside_pairs(config: AdapterConfig) -> list[str]:
    """Return what a LORA adapter is made of besides pairs on an unchanged base, in words."""
    settings = config.settings
    unknown = [key for key, value in settings.items() if value and key not in _HARMLESS]
    found = [_MEANING.get(key, f"the setting `{key}`") for key in unknown]
    if settings.get("bias", "none") != "none":
        found.append("trained biases")
    start = settings.get("init_lora_weights")
    if start not in _UNCHANGED_BASE:
        found.append(f"initialisation {start!r}, which changes the base")
    return found


def check_known(config: AdapterConfig) -> None:
    """Check that the adapter is for the base as it was loaded, and that peft knows its settings.

    peft itself passes over a setting that it does not know.

    Raises:
        MergeError: a setting is not known, or the adapter was trained on a base that its start had
            changed, or on copies of layers.
    """
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    place = str(config.path)
    kinds = {str(kind.value): kind for kind in PEFT_TYPE_TO_CONFIG_MAPPING}
    if config.kind not in kinds:
        hint = f"is peft new enough? it knows {', '.join(sorted(kinds))}"
        raise MergeError(f"`peft_type` is {config.kind!r}, which is not known", place, hint)
    known = {each.name for each in fields(PEFT_TYPE_TO_CONFIG_MAPPING[kinds[config.kind]])}
    unknown = sorted(key for key, value in config.settings.items() if value and key not in known)
    if unknown:
        message = f"peft does not know the setting `{unknown[0]}`, which may change what it means"
        raise MergeError(message, place, "is peft new enough?")
    start = config.settings.get("init_lora_weights")
    if config.kind == "LORA" and start not in _UNCHANGED_BASE:
        message = f"starts by {start!r}, which changes the base: the adapter alone does not say how"
        hint = "save it from peft with `path_initial_model_for_weight_conversion`"
        raise MergeError(message, place, hint)
    if config.settings.get("layer_replication"):
        raise MergeError("is for replicated layers, which are not merged", place, MERGE_WITH_PEFT)


def beside_weights(config: AdapterConfig) -> list[str]:
    """Return what an adapter of any kind holds besides a change of linear layers, in words."""
    keys = ("modules_to_save", "trainable_token_indices", "target_parameters", "layer_replication")
    found = [_MEANING[key] for key in keys if config.settings.get(key)]
    if config.settings.get("bias", "none") != "none":
        found.append("trained biases")
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
