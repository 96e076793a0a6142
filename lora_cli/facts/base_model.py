"""The base model, from its config and the meta device: names, shapes and counts, no weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lora_cli.errors import PlanError
from lora_cli.facts.model_source import ModelSource

if TYPE_CHECKING:
    import torch


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
    stored_dtype: str
    context_length: int | None
    tied_embeddings: bool
    weights: Literal["safetensors", "pickle", "gguf", "none"]
    linears: tuple[LinearFacts, ...]
    """Every linear layer but the output head, in the model's order."""
    other_modules: tuple[str, ...]
    """Names of the other modules that hold parameters, for error texts."""


def probe_base_model(source: ModelSource, *, trust_remote_code: bool) -> BaseModelFacts:
    """Return the facts of the model in `source`, built on the meta device.

    Raises:
        PlanError: the config is broken, or is no causal language model that transformers knows.
    """
    config = _load_config(source.folder, trust_remote_code)
    model = _build_on_meta(config, trust_remote_code)
    linears, others = _modules(model)
    return BaseModelFacts(
        source=source,
        architecture=type(model).__name__,
        model_type=config.model_type,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        stored_dtype=str(getattr(config, "dtype", None) or "float32").removeprefix("torch."),
        context_length=getattr(config, "max_position_embeddings", None),
        tied_embeddings=bool(getattr(config, "tie_word_embeddings", False)),
        weights=_weights_kind(source),
        linears=linears,
        other_modules=others,
    )


def _load_config(folder: Path, trust_remote_code: bool) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(str(folder), trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).strip().split("\n")[0]
        hint = ""
        if "trust_remote_code" in str(error):
            reason = "the model comes with Python code of its own"
            hint = "read that code; if you trust it, set `model.trust_remote_code: true`"
        raise PlanError(f"the config in {folder} cannot be used: {reason}", hint=hint) from error


def _build_on_meta(config: Any, trust_remote_code: bool) -> torch.nn.Module:
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            model: torch.nn.Module = AutoModelForCausalLM.from_config(
                config, trust_remote_code=trust_remote_code
            )
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0][:300]
        message = f"`{config.model_type}` cannot be built as a causal language model: {reason}"
        raise PlanError(message, hint="name a decoder model, such as a Llama or Qwen") from error
    return model


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
        elif next(module.parameters(recurse=False), None) is not None:
            others.append(name)
    return tuple(linears), tuple(others)


def _weights_kind(source: ModelSource) -> Literal["safetensors", "pickle", "gguf", "none"]:
    if source.kind == "gguf":
        return "gguf"
    names = _weight_file_names(source)
    if any(name.endswith(".safetensors") for name in names):
        return "safetensors"
    return "pickle" if any(name.endswith(".bin") for name in names) else "none"


def _weight_file_names(source: ModelSource) -> list[str]:
    """Return the names of the weight files, on disk or on the hub."""
    local = [path.name for path in source.folder.iterdir() if path.suffix in (".safetensors", ".bin")]
    if local or source.kind != "hub":
        return local
    from huggingface_hub import HfApi

    return [
        name
        for name in HfApi().list_repo_files(source.hub_id, revision=source.revision)
        if name.endswith((".safetensors", ".bin"))
    ]
