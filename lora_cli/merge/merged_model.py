"""The model that an adapter makes of its base: its class, its config, and all parts in place."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from lora_cli.errors import MergeError
from lora_cli.merge.adapter_folder import PREFIX, AdapterFolder
from lora_cli.merge.weightless import load_config, weightless_model
from lora_cli.tasks import TASKS

OTHER_CLASSES = {
    "FEATURE_EXTRACTION": "AutoModel",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
}
"""transformers' classes for peft's tasks that no task here is for."""


def auto_class_of(adapter: AdapterFolder) -> str:
    """Return transformers' class for what the adapter's model is used for.

    Raises:
        MergeError: peft's name for it is not known.
    """
    task = adapter.config.task
    if task is None:
        return "AutoModelForCausalLM"
    known = {each.peft_task: each.auto_class for each in TASKS.values()} | OTHER_CLASSES
    if task not in known:
        message = f"`task_type` is {task!r}; known are {', '.join(known)}"
        raise MergeError(message, str(adapter.config.path))
    return known[task]


def merged_model(adapter: AdapterFolder, base: Path) -> Any:
    """Return the weightless model that the adapter is for, as large as the adapter says.

    An adapter brings its labels, and a vocabulary that was resized before training.

    Raises:
        MergeError: transformers builds none.
    """
    own = adapter.path / "config.json"
    config = load_config(adapter.path if own.is_file() else base)
    auto_class = auto_class_of(adapter)
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
    changes = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        given = adapter.tensors.get(PREFIX + name)
        if given is None or given.shape == parameter.shape:
            continue
        if id(parameter) in vocabulary:
            changes["vocab_size"] = len(given)
        elif re.search(r"(score|classifier|out_proj|qa_outputs)\.(weight|bias)$", name):
            changes["num_labels"] = len(given)
    return changes
