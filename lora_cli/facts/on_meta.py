"""A model built from its config alone, on the meta device: all of it but the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lora_cli.errors import PlanError
from lora_cli.words import reason_of

_CONFIG_HINT = "mend its config.json or fetch it again; a newer model needs a newer transformers"
_DECODER_HINT = "name a decoder model, such as a Llama or Qwen"


def decoder_on_meta(folder: Path, *, trust_remote_code: bool) -> Any:
    """Return the causal language model that the config in `folder` describes.

    Raises:
        PlanError: the config is broken, or is no causal language model that transformers knows.
    """
    config = _load_config(folder, trust_remote_code)
    _check_decoder(config)
    return _build(config, trust_remote_code)


def _load_config(folder: Path, trust_remote_code: bool) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(str(folder), trust_remote_code=trust_remote_code)
    except Exception as error:  # a config is anyone's JSON, and breaks its reader in any way
        reason, hint = reason_of(error), _CONFIG_HINT
        if "trust_remote_code" in str(error):
            reason = "the model comes with Python code of its own"
            hint = "read that code; if you trust it, set `model.trust_remote_code: true`"
        raise PlanError(f"the config in {folder} cannot be used: {reason}", hint=hint) from error


def _check_decoder(config: Any) -> None:
    """Refuse models whose weights hold no causal language model.

    transformers builds one from an encoder's config too, and makes up the weights of its head.
    """
    from transformers import AutoModelForCausalLM
    from transformers.models.auto import modeling_auto

    classes = getattr(config, "architectures", None)
    classes = classes if isinstance(classes, list) else []
    own_code = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    known = type(config) in AutoModelForCausalLM._model_mapping  # noqa: SLF001  # no public way
    causal = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()
    named_causal = not classes or any(name in causal for name in classes)
    reads_both_ways = (
        config.model_type in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
        or config.is_encoder_decoder
    ) and getattr(config, "is_decoder", True) is False
    if reads_both_ways or not (own_code or (known and named_causal)):
        name = classes[0] if classes else config.model_type
        raise PlanError(f"`{name}` is not a causal language model", hint=_DECODER_HINT)


def _build(config: Any, trust_remote_code: bool) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    except Exception as error:  # a config is anyone's JSON, and breaks the model in any way
        folder, reason = config.name_or_path, reason_of(error)
        message = f"the config in {folder} builds no `{config.model_type}`: {reason}"
        hint = "its values do not go together: mend config.json, or fetch it again"
        raise PlanError(message, hint=hint) from error
