"""The tuned model and its base: found, held to be of one architecture, their weights opened."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_cli.errors import ExtractError, PlanError, Problem
from lora_cli.facts.model_source import PACKAGE_PREFIX, ModelSource, find_model
from lora_cli.merge.adapter_config import CONFIG, AdapterConfig
from lora_cli.merge.base import fetch_base
from lora_cli.merge.extract.checkpoint import Checkpoint
from lora_cli.merge.extract.compare import Tensors, check_whole, pair_up, settings_changed
from lora_cli.merge.extract.layout import Layout, LinearLayer, build_model


@dataclass(frozen=True)
class Models:
    """A tuned model beside its base."""

    tuned: ModelSource
    base: ModelSource
    layout: Layout
    tensors: Tensors
    settings: list[str]
    """What the tuned model's configuration says otherwise, in words."""
    base_name: str

    def origin(self) -> dict[str, Any]:
        """Return what `loracli.json` says of the base, so that it is found from any folder."""
        base = self.base_name
        if self.base.kind != "hub" and not base.startswith(PACKAGE_PREFIX):
            base = str(self.base.gguf or self.base.folder)
        return {"base": base, "base_fingerprint": self.base.fingerprint}

    def adapter_config(self, layers: Collection[LinearLayer]) -> AdapterConfig:
        """Return the settings of a LoRA on these layers, whose tokenizer is the tuned model's."""
        settings = {
            "task_type": self.layout.peft_task,
            "auto_mapping": None if self.layout.peft_task else self.layout.model_class(),
            "base_model_name_or_path": self.base.hub_id or str(self.tensors.base.folder),
            "revision": self.base.revision or None,
            "target_modules": self.layout.shortest_names([each.module for each in layers]),
            "modules_to_save": list(self.layout.whole) or None,
            "fan_in_fan_out": any(each.input_by_output for each in layers),
        }
        return AdapterConfig(self.tensors.tuned.folder / CONFIG, settings)


def open_models(tuned_name: str, base_name: str) -> Models:
    """Return both, their weights fetched.

    Raises:
        MergeError: the weights of one cannot be had.
        ExtractError: one is not found, or they do not belong together.
    """
    tuned, base = _find_both(tuned_name, base_name)
    if tuned.fingerprint == base.fingerprint:
        raise ExtractError("both are the same model: nothing was tuned", tuned_name)
    tuned_model, base_model = build_model(tuned), build_model(base)
    checkpoints = Checkpoint(fetch_base(tuned)), Checkpoint(fetch_base(base))
    same_class = type(tuned_model) is type(base_model)
    layout = Layout(base_model if same_class else tuned_model, checkpoints[1].names)
    _check_kinds(tuned_model, base_model, tuned_name, with_head=bool(layout.whole))
    tensors = pair_up(*checkpoints, layout, same_class=same_class)
    check_whole(tensors, layout.whole_shapes(tuned_model))
    return Models(
        tuned=tuned,
        base=base,
        layout=layout,
        tensors=tensors,
        settings=settings_changed(tuned_model.config, base_model.config),
        base_name=base_name,
    )


def _check_kinds(tuned: Any, base: Any, place: str, *, with_head: bool) -> None:
    """Raise unless both are of one architecture; only a head may be of another class."""
    kind, expected = tuned.config.model_type, base.config.model_type
    if kind == expected:
        kind, expected = type(tuned).__name__, type(base).__name__
        if with_head or kind == expected:
            return
    message = f"is a `{kind}`, and the base a `{expected}`"
    raise ExtractError(message, place, "name the base that it was tuned from")


def _find_both(*names: str) -> tuple[ModelSource, ModelSource]:
    found: list[ModelSource] = []
    problems: list[Problem] = []
    for name in names:
        try:
            found.append(find_model(name, revision=None, base_dir=Path.cwd()))
        except PlanError as error:
            problems += error.problems
    if problems:
        raise ExtractError.from_problems(problems)
    return found[0], found[1]
