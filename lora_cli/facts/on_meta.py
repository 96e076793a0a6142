"""A model built from its config alone, on the meta device: all of it but the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lora_cli.errors import PlanError
from lora_cli.facts.libraries import import_libraries
from lora_cli.tasks import TASKS, TaskSpec
from lora_cli.tasks.task import Task
from lora_cli.words import reason_of

_CONFIG_HINT = "mend its config.json or fetch it again; a newer model needs a newer transformers"
_ANY_CLASSES = (
    "AutoModelForImageTextToText",
    "AutoModelForSpeechSeq2Seq",
    "AutoModelForMaskedLM",
    "AutoModelForCausalLM",
    "AutoModelForImageClassification",
    "AutoModelForAudioClassification",
)
_DECODER_HINT = "name a decoder model, such as a Llama or Qwen"


def model_on_meta(folder: Path, task: TaskSpec, *, trust_remote_code: bool) -> Any:
    """Return the model of a task that the config in `folder` describes.

    Raises:
        PlanError: the config is broken, or transformers knows no such model for the task.
    """
    config = _load_config(folder, task.config_changes(), trust_remote_code)
    _check_task(config, task)
    return _build(config, task.auto_class, trust_remote_code)


def fitting_tasks(folder: Path, *, trust_remote_code: bool) -> tuple[str, ...]:
    """Return the tasks that the model in `folder` can be trained for, those that write text first.

    Raises:
        PlanError: the config is broken, or transformers knows no such model.
    """
    config = _load_config(folder, {}, trust_remote_code)
    fitting = [task for task in TASKS.values() if _fits(config, task)]
    return tuple(task.names()[0] for task in sorted(fitting, key=lambda task: not task.generates))


def any_model_on_meta(folder: Path, *, trust_remote_code: bool) -> Any:
    """Return the model that the config in `folder` names, whatever it is for.

    Raises:
        PlanError: the config is broken, or transformers knows no such model.
    """
    config = _load_config(folder, {}, trust_remote_code)
    return _build(config, _class_for(config), trust_remote_code)


def _class_for(config: Any) -> str:
    """Return the class that builds the model its config names, or else the most telling one."""
    import transformers

    named = [
        name
        for name in _classes(config)
        if getattr(getattr(transformers, name, None), "config_class", None) is type(config)
    ]
    own_code = getattr(config, "auto_map", None) or {}
    fitting = [
        name
        for name in _ANY_CLASSES
        if name in own_code or type(config) in getattr(transformers, name)._model_mapping  # noqa: SLF001  # no public way
    ]
    return (*named, *fitting, "AutoModel")[0]


def _load_config(folder: Path, changes: dict[str, Any], trust_remote_code: bool) -> Any:
    import_libraries()
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(
            str(folder), trust_remote_code=trust_remote_code, **changes
        )
    except Exception as error:  # a config is anyone's JSON, and breaks its reader in any way
        reason, hint = reason_of(error), _CONFIG_HINT
        if "trust_remote_code" in str(error):
            reason = "the model comes with Python code of its own"
            hint = "read that code; if you trust it, set `model.trust_remote_code: true`"
        raise PlanError(f"the config in {folder} cannot be used: {reason}", hint=hint) from error


def _check_task(config: Any, task: TaskSpec) -> None:
    """Refuse a task that transformers has no model for, and name those that it has one for."""
    if _fits(config, task):
        return
    classes = _classes(config)
    name = classes[0] if classes else config.model_type
    others = [f"`task: {each}`" for each, kind in TASKS.items() if _fits(config, kind)]
    fitting = f"it fits {' or '.join(others)}; " if others else ""
    if task.name == "causal_lm":
        message = f"`{name}` is not a causal language model"
        hint = _named_otherwise(config) or _DECODER_HINT
    elif _reads_ends(config, task):
        message = f"`{name}` classifies at its end tokens, of which all rows need equally many"
        hint = "name an encoder or a decoder"
    else:
        message, hint = f"`{name}` has no model for {task.name}", "name another model"
    raise PlanError(message, hint=fitting + hint)


def _named_otherwise(config: Any) -> str:
    """Return what to write where a config names a decoder after its body, or as nobody does.

    Empty for one that is named after another head, and for a model that is no decoder.
    """
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    writing = transformers.AutoModelForCausalLM._model_mapping  # noqa: SLF001  # no public way
    if type(config) not in writing or _reads_both_ways(config):
        return ""
    body = MODEL_MAPPING_NAMES.get(config.model_type)
    if any(name != body and hasattr(transformers, name) for name in _classes(config)):
        return ""
    wanted = writing[type(config)].__name__
    return f"if its weights hold an output head, name `{wanted}` as `architectures` in config.json"


def _reads_ends(config: Any, task: TaskSpec | type[Task]) -> bool:
    """Return whether it is a BART or T5 that would classify texts: batches of others fail."""
    return task.auto_class == "AutoModelForSequenceClassification" and config.is_encoder_decoder


def _fits(config: Any, task: TaskSpec | type[Task]) -> bool:
    import transformers

    if _reads_ends(config, task):
        return False
    own_code = task.auto_class in (getattr(config, "auto_map", None) or {})
    mapping = getattr(transformers, task.auto_class)._model_mapping  # noqa: SLF001  # no public way
    if not task.generates:
        return own_code or type(config) in mapping
    if task.auto_class == "AutoModelForCausalLM" and _reads_both_ways(config):
        return False
    return own_code or (type(config) in mapping and _holds(config, task.auto_class))


def _holds(config: Any, auto_class: str) -> bool:
    """Return whether the weights hold a model that writes text, by the names of their classes.

    transformers builds one from the config of any other too, and makes up the weights of its head.
    """
    from transformers.models.auto import modeling_auto

    names = {
        "AutoModelForCausalLM": modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        "AutoModelForSeq2SeqLM": modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    }
    writing, classes = set(names[auto_class].values()), _classes(config)
    return not classes or any(name in writing for name in classes)


def _reads_both_ways(config: Any) -> bool:
    from transformers.models.auto import modeling_auto

    return (
        config.model_type in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
        or config.is_encoder_decoder
    ) and getattr(config, "is_decoder", True) is False


def _classes(config: Any) -> list[str]:
    classes = getattr(config, "architectures", None)
    return classes if isinstance(classes, list) else []


def _build(config: Any, class_name: str, trust_remote_code: bool) -> Any:
    import torch
    import transformers

    loader = getattr(transformers, class_name)
    try:
        with torch.device("meta"):
            if not class_name.startswith("Auto"):
                return loader._from_config(config)  # noqa: SLF001  # what the Auto classes call
            return loader.from_config(config, trust_remote_code=trust_remote_code)
    except Exception as error:  # a config is anyone's JSON, and breaks the model in any way
        folder, reason = config.name_or_path, reason_of(error)
        message = f"the config in {folder} builds no `{config.model_type}`: {reason}"
        hint = "its values do not go together: mend config.json, or fetch it again"
        raise PlanError(message, hint=hint) from error
