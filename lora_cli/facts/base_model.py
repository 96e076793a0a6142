"""The base model, from its config and the meta device: names, shapes and counts, no weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_cli.errors import PlanError
from lora_cli.facts.bare_parameters import (
    ParameterFacts,
    bare_parameters,
    names_taken_for_experts,
)
from lora_cli.facts.model_source import ModelSource
from lora_cli.words import reason_of

if TYPE_CHECKING:
    from torch import nn

_CONFIG_HINT = "mend its config.json or fetch it again; a newer model needs a newer transformers"
_DECODER_HINT = "name a decoder model, such as a Llama or Qwen"


@dataclass(frozen=True, slots=True)
class LinearFacts:
    """One module that multiplies by a weight of `out_features` × `in_features`."""

    name: str
    in_features: int
    out_features: int
    conv1d: bool = False
    """Whether the weight lies as (in, out), as GPT-2's do."""


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
    layers: int
    hidden_size: int
    key_value_size: int
    """Size of all keys of one token in one layer."""
    tied_embeddings: bool
    embedding: LinearFacts
    """Of tokens; seen as a product with one-hot rows: in is the vocabulary, out a vector."""
    output_head: LinearFacts | None
    """Where embeddings are tied, its weight is the embedding's."""
    linears: tuple[LinearFacts, ...]
    """Every linear layer but the output head, in the model's order."""
    heads: tuple[str, ...]
    """Names of the linear layers that come after the model's body: the output head."""
    other_modules: tuple[str, ...]
    """Names of all other modules, embedding and output head among them."""
    sizes: Mapping[str, int]
    """How many parameters each module holds that can be trained as a whole, by name."""
    bare_parameters: tuple[ParameterFacts, ...]
    """Matrices that no linear layer holds: those of fused experts, and of some routers."""
    taken_for_experts: frozenset[str]
    """Last names of linear layers that peft's LoRA takes for parts of the fused experts."""
    attention_kernels: tuple[str, ...]
    """The attention kernels that the architecture knows, of those that a recipe can name."""
    shapes: Mapping[str, tuple[int, ...]]
    """Of the parameters whose weights are stored as the model holds them, by name."""

    @property
    def fused_experts(self) -> tuple[str, ...]:
        """Return the modules that hold the weights of several experts in one tensor each."""
        names = [each.name.rpartition(".")[0] for each in self.bare_parameters if each.experts]
        return tuple(dict.fromkeys(names))


def probe_base_model(source: ModelSource, *, trust_remote_code: bool) -> BaseModelFacts:
    """Return the facts of the model in `source`, built on the meta device.

    Raises:
        PlanError: the config is broken, or is no causal language model that transformers knows.
    """
    config = _load_config(source.folder, trust_remote_code)
    _check_decoder(config)
    model = _build_on_meta(config, trust_remote_code)
    linears, others = _modules(model)
    bare = bare_parameters(model)
    last_names = {linear.name.rpartition(".")[2] for linear in linears} if bare else ()
    text_config = config.get_text_config()
    return BaseModelFacts(
        source=source,
        architecture=type(model).__name__,
        model_type=config.model_type,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        vocabulary=model.get_input_embeddings().weight.shape[0],
        context_length=getattr(text_config, "max_position_embeddings", None),
        layers=text_config.num_hidden_layers,
        hidden_size=text_config.hidden_size,
        key_value_size=_key_value_size(text_config),
        tied_embeddings=_is_tied(model),
        embedding=_embedding(model),
        output_head=_output_head(model),
        linears=linears,
        heads=_heads(model),
        other_modules=others,
        sizes=_sizes(model),
        bare_parameters=bare,
        taken_for_experts=names_taken_for_experts(model, last_names) if bare else frozenset(),
        attention_kernels=_attention_kernels(model),
        shapes=_shapes(model),
    )


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


def _build_on_meta(config: Any, trust_remote_code: bool) -> Any:
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


def _modules(model: Any) -> tuple[tuple[LinearFacts, ...], tuple[str, ...]]:
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    linears, others = [], []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module is not head:
            linears.append(LinearFacts(name, module.in_features, module.out_features))
        elif isinstance(module, Conv1D):
            linears.append(LinearFacts(name, module.nx, module.nf, conv1d=True))
        elif name:
            others.append(name)
    return tuple(linears), tuple(others)


def _heads(model: Any) -> tuple[str, ...]:
    """Return the names of the output head and of all other linear layers outside the body."""
    from torch import nn

    head, body = model.get_output_embeddings(), model.base_model
    inside = set() if body is model else set(body.modules())
    return tuple(
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and (module is head or (inside and module not in inside))
    )


def _embedding(model: Any) -> LinearFacts:
    embedding = model.get_input_embeddings()
    vocabulary, size = embedding.weight.shape
    return LinearFacts(_name_of(model, embedding), vocabulary, size)


def _output_head(model: Any) -> LinearFacts | None:
    head = model.get_output_embeddings()
    if head is None:
        return None
    vocabulary, size = head.weight.shape
    return LinearFacts(_name_of(model, head), size, vocabulary)


def _name_of(model: Any, module: nn.Module) -> str:
    return next(name for name, each in model.named_modules() if each is module)


def _sizes(model: Any) -> dict[str, int]:
    """Return the parameters inside each module that has a forward of its own and any parameter."""
    from torch import nn

    sizes = {
        name: sum(parameter.numel() for parameter in module.parameters())
        for name, module in model.named_modules()
        if name and not isinstance(module, nn.ModuleList | nn.ModuleDict)
    }
    return {name: size for name, size in sizes.items() if size}


def _key_value_size(config: Any) -> int:
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    return int(size * (getattr(config, "num_key_value_heads", None) or heads))


def _is_tied(model: Any) -> bool:
    """Return whether the output head is the embedding, as built and not as the config says."""
    head = model.get_output_embeddings()
    return head is not None and head.weight is model.get_input_embeddings().weight


def _shapes(model: Any) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the parameters whose weights lie in files as they lie in the model.

    Not so where the files are quantized, and where a tensor of three dimensions holds experts.
    """
    if getattr(model.config, "quantization_config", None):
        return {}
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    return {name: shape for name, shape in shapes.items() if len(shape) < 3}


def _attention_kernels(model: Any) -> tuple[str, ...]:
    flags = {"sdpa": "_supports_sdpa", "flash_attention_2": "_supports_flash_attn"}
    return ("eager", *(kernel for kernel, flag in flags.items() if getattr(model, flag, False)))
