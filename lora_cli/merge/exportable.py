"""An adapter read for export; all that a plain LoRA of linear layers cannot hold is refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lora_cli.errors import MergeError
from lora_cli.facts.model_source import ModelSource
from lora_cli.merge.adapter_config import (
    CAUSAL_TASKS,
    AdapterConfig,
    beside_pairs,
    beside_weights,
    check_known,
    read_any_config,
)
from lora_cli.merge.adapter_folder import TENSORS, AdapterFolder, read_tensors
from lora_cli.merge.base import base_name, find_base, read_origin

PROMPTS = frozenset(
    [
        "ADAPTION_PROMPT",
        "CARTRIDGE",
        "CPT",
        "MULTITASK_PROMPT_TUNING",
        "PREFIX_TUNING",
        "PROMPT_TUNING",
        "P_TUNING",
    ]
)
"""peft's kinds that add to what the model reads, and change no weight."""

ENDS = frozenset(["embed_in", "embed_out", "embed_tokens", "lm_head", "score", "wpe", "wte"])
"""Last names of embeddings and output heads."""

SERVE = "serve it with peft"
INSTEAD = f"fold it, by itself, into its base with `loracli merge`, or {SERVE}"


@dataclass(frozen=True)
class Exportable(AdapterFolder):
    """An adapter that changes the weights of linear layers, and nothing else."""

    @property
    def base_name(self) -> str:
        """Return the base's name or path."""
        return base_name(self.config, self.origin)

    def find_base(self) -> ModelSource:
        """Return where the base is.

        Raises:
            MergeError: it cannot be found, or is another one.
        """
        return find_base(self.config, self.origin)

    @property
    def doubly_quantized(self) -> bool:
        """Return whether the scales of the base's blocks were quantized too."""
        held = self.origin.get("quantization") or {}
        return bool(held.get("double_quantization"))

    def notes(self) -> list[str]:
        """Return what has to be known of the base when the adapter is served."""
        if "base_made_from" in self.origin:
            return [f"its base is the run's own: serve it on {self.base_name}, and on no other"]
        if self.quantization != "none":
            held = self.quantization
            notes = [f"trained on a base in {held}: serve it on a base held in {held} too"]
            if held == "int8" and self.config.settings.get("use_dora"):
                notes.append(
                    "int8 products are rounded: DoRA scales them and a LoRA adds to them, so that "
                    "logits differ by that rounding though the weights are the same"
                )
            return notes
        return []


def read_exportable(folder: Path) -> Exportable:
    """Return the adapter in `folder`, for a causal language model: servers take no others.

    Raises:
        MergeError: it is for another task, cannot be read, or no plain LoRA can hold what it is.
    """
    config = read_any_config(folder)
    if config.task not in CAUSAL_TASKS:
        message = f"adapters for {config.task} are not exported"
        raise MergeError(message, str(config.path), INSTEAD)
    return read_for_any_task(folder)


def read_for_any_task(folder: Path) -> Exportable:
    """Return the adapter in `folder`.

    Raises:
        MergeError: it cannot be read, or no plain LoRA can hold what it is.
    """
    config = read_any_config(folder)
    _check_form(config)
    tensors = read_tensors(folder)
    for name in tensors:
        for end in ENDS.intersection(name.split(".")):
            message = f"adapts `{end}`: a LoRA on an embedding or a head is not read alike"
            raise MergeError(message, str(folder / TENSORS), INSTEAD)
    return Exportable(folder, config, read_origin(folder), tensors)


def _check_form(config: AdapterConfig) -> None:
    place = str(config.path)
    if config.kind in PROMPTS:
        message = f"`{config.kind}` adds to what the model reads and changes no weight"
        raise MergeError(message, place, f"{SERVE}, or train a LoRA instead")
    found = beside_pairs(config) if config.kind == "LORA" else beside_weights(config)
    lost = [what for what in found if what != "DoRA"]
    if lost:
        raise MergeError(f"a plain LoRA cannot hold: {', '.join(lost)}", place, _instead(config))


def _instead(config: AdapterConfig) -> str:
    """Return what can be done with an adapter that is not exported."""
    try:
        check_known(config)
    except MergeError:  # it is not merged either
        return SERVE
    return INSTEAD
