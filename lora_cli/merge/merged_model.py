"""The model that an adapter makes of its base: its class, its config, and all parts in place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lora_cli.errors import MergeError
from lora_cli.merge.adapter_config import read_json
from lora_cli.merge.adapter_folder import AdapterFolder, base_parameters
from lora_cli.merge.weightless import load_config, weightless_model
from lora_cli.tasks import TASKS

OTHER_CLASSES = {
    "FEATURE_EXTRACTION": "AutoModel",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
}
"""transformers' classes for peft's tasks that no task here is for."""


def auto_class_of(adapter: AdapterFolder, base: Path | None = None) -> str:
    """Return transformers' class for what the adapter's model is used for.

    An adapter without a task is for the class that peft noted, or that `base` is of.

    Raises:
        MergeError: peft's name for it is not known.
    """
    task = adapter.config.task
    known = {each.peft_task: each.auto_class for each in TASKS.values()} | OTHER_CLASSES
    if task is None:
        found = (_auto_class_with(each, known.values()) for each in _classes(adapter, base))
        return next(filter(None, found), "AutoModelForCausalLM")
    if task not in known:
        message = f"`task_type` is {task!r}; known are {', '.join(known)}"
        raise MergeError(message, str(adapter.config.path))
    return known[task]


def auto_class_for(model_classes: Iterable[str]) -> str:
    """Return transformers' class that builds the first of these that it knows; else AutoModel."""
    first = [each.auto_class for each in TASKS.values()]
    return next(
        filter(None, (_auto_class_with(each, first) for each in model_classes)), "AutoModel"
    )


def peft_task_for(auto_class: str) -> str | None:
    """Return peft's name for what transformers' class is used for; None if it has none."""
    tasks = {each.auto_class: each.peft_task for each in TASKS.values()}
    others = {name: task for task, name in OTHER_CLASSES.items()}
    return (tasks | others).get(auto_class)


def _classes(adapter: AdapterFolder, base: Path | None) -> Iterator[str]:
    """Give the names of classes that the trained model may be of, the likeliest first."""
    noted = adapter.config.settings.get("auto_mapping")
    library = noted.get("parent_library") if isinstance(noted, dict) else None
    if noted and str(library).partition(".")[0] == "transformers":
        yield str(noted.get("base_model_class"))
    if base is not None:
        yield from read_json(base / "config.json").get("architectures") or []


def _auto_class_with(model_class: str, first: Iterable[str]) -> str | None:
    """Return which of transformers' auto classes builds a class; those of `first` before others."""
    from transformers.models.auto import modeling_auto

    others: list[str] = sorted(each for each in vars(modeling_auto) if each.startswith("AutoModel"))
    for name in (*first, *others):
        mapping = getattr(getattr(modeling_auto, name), "_model_mapping", None)
        built = getattr(mapping, "_model_mapping", {}).values()
        if any(model_class in ([each] if isinstance(each, str) else each) for each in built):
            return name
    return None


def merged_model(adapter: AdapterFolder, base: Path) -> Any:
    """Return the weightless model that the adapter is for, as large as the adapter says.

    An adapter brings its labels, and a vocabulary that was resized before training.

    Raises:
        MergeError: transformers builds none.
    """
    own = adapter.path / "config.json"
    config = load_config(adapter.path if own.is_file() else base)
    auto_class = auto_class_of(adapter, base)
    model = weightless_model(config, auto_class)
    resized = _resized(model, adapter)
    if resized:
        for key, value in resized.items():
            setattr(config, key, value)
        model = weightless_model(config, auto_class)
    return model


def _resized(model: Any, adapter: AdapterFolder) -> dict[str, int]:
    """Return what the config has to say so that the adapter's own heads and embeddings fit."""
    ends = [model.get_input_embeddings(), model.get_output_embeddings()]
    vocabulary = {id(module.weight) for module in ends if module is not None}
    own = dict(model.named_parameters(remove_duplicate=False))
    changes = {}
    for held, name in base_parameters(adapter.tensors, own).items():
        given, parameter = adapter.tensors[held], own[name]
        if given.shape == parameter.shape:
            continue
        if id(parameter) in vocabulary:
            changes["vocab_size"] = len(given)
        elif re.search(r"(score|classifier|out_proj|qa_outputs)\.(weight|bias)$", name):
            changes["num_labels"] = len(given)
    return changes
