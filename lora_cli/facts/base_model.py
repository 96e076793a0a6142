"""The base model, from its config and the meta device: names, shapes and counts, no weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_cli.errors import PlanError
from lora_cli.facts.model_source import ModelSource

if TYPE_CHECKING:
    import torch

_DECODER_HINT = "name a decoder model, such as a Llama or Qwen"


@dataclass(frozen=True, slots=True)
class LinearFacts:
    """One module that multiplies by a weight of `out_features` × `in_features`."""

    name: str
    in_features: int
    out_features: int


@dataclass(frozen=True, slots=True)
class BaseModelFacts:
    """A base model as a plan needs to know it."""

    source: ModelSource
    architecture: str
    model_type: str
    parameters: int
    vocabulary: int
    """Rows of the embedding: token ids are below it."""
    context_length: int | None
    tied_embeddings: bool
    linears: tuple[LinearFacts, ...]
    """Every linear layer but the output head, in the model's order."""
    other_modules: tuple[str, ...]
    """Names of all other modules, the output head among them."""
    fused_experts: tuple[str, ...]
    """Modules that hold the weights of several experts in one tensor: no linear layers."""
    attention_kernels: tuple[str, ...]
    """The attention kernels that the architecture knows, of those that a recipe can name."""


def probe_base_model(source: ModelSource, *, trust_remote_code: bool) -> BaseModelFacts:
    """Return the facts of the model in `source`, built on the meta device.

    Raises:
        PlanError: the config is broken, or is no causal language model that transformers knows.
    """
    config = _load_config(source.folder, trust_remote_code)
    _check_decoder(config)
    model = _build_on_meta(config, trust_remote_code)
    linears, others = _modules(model)
    text_config = config.get_text_config()
    return BaseModelFacts(
        source=source,
        architecture=type(model).__name__,
        model_type=config.model_type,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        vocabulary=model.get_input_embeddings().weight.shape[0],
        context_length=getattr(text_config, "max_position_embeddings", None),
        tied_embeddings=_is_tied(model),
        linears=linears,
        other_modules=others,
        fused_experts=_fused_experts(model),
        attention_kernels=_attention_kernels(model),
    )


def _load_config(folder: Path, trust_remote_code: bool) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(str(folder), trust_remote_code=trust_remote_code)
    except Exception as error:  # a config is anyone's JSON, and breaks its reader in any way
        reason, hint = _first_line(error), ""
        if "trust_remote_code" in str(error):
            reason = "the model comes with Python code of its own"
            hint = "read that code; if you trust it, set `model.trust_remote_code: true`"
        raise PlanError(f"the config in {folder} cannot be used: {reason}", hint=hint) from error


def _check_decoder(config: Any) -> None:
    """Refuse models whose weights hold no causal language model.

    transformers builds one from an encoder's config too, and makes up the weights of its head.
    """
    from transformers.models.auto import modeling_auto

    classes = getattr(config, "architectures", None) or []
    own_code = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    known = set(modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
    named_wrong = bool(classes) and not own_code and not known.intersection(classes)
    reads_both_ways = (
        config.model_type in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
        or config.is_encoder_decoder
    )
    if named_wrong or (reads_both_ways and getattr(config, "is_decoder", True) is False):
        name = classes[0] if classes else config.model_type
        raise PlanError(f"`{name}` is not a causal language model", hint=_DECODER_HINT)


def _build_on_meta(config: Any, trust_remote_code: bool) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    except Exception as error:  # a config is anyone's JSON, and breaks the model in any way
        kind = config.model_type
        message = f"`{kind}` cannot be built as a causal language model: {_first_line(error)}"
        raise PlanError(message, hint=_DECODER_HINT) from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).strip().split("\n")]
    said = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    return said[:300] or type(error).__name__


def _modules(model: Any) -> tuple[tuple[LinearFacts, ...], tuple[str, ...]]:
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    linears, others = [], []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module is not head:
            linears.append(LinearFacts(name, module.in_features, module.out_features))
        elif isinstance(module, Conv1D):
            linears.append(LinearFacts(name, module.weight.shape[0], module.weight.shape[1]))
        elif name:
            others.append(name)
    return tuple(linears), tuple(others)


def _is_tied(model: Any) -> bool:
    """Return whether the output head is the embedding, as built and not as the config says."""
    head = model.get_output_embeddings()
    return head is not None and head.weight is model.get_input_embeddings().weight


def _fused_experts(model: torch.nn.Module) -> tuple[str, ...]:
    return tuple(
        name
        for name, module in model.named_modules()
        if any(parameter.ndim == 3 for parameter in module.parameters(recurse=False))
        and "expert" in name.lower()
    )


def _attention_kernels(model: Any) -> tuple[str, ...]:
    flags = {"sdpa": "_supports_sdpa", "flash_attention_2": "_supports_flash_attn"}
    return ("eager", *(kernel for kernel, flag in flags.items() if getattr(model, flag, False)))
