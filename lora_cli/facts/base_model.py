"""The base model, from its config and the meta device: names, shapes and counts, no weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lora_cli.facts.bare_parameters import ParameterFacts, bare_parameters
from lora_cli.facts.heads import is_inside, new_heads, output_head
from lora_cli.facts.linear_layers import LinearFacts, layers_and_others, uncalled_layers
from lora_cli.facts.model_source import ModelSource
from lora_cli.facts.on_meta import model_on_meta
from lora_cli.facts.packing import packing_obstacle
from lora_cli.facts.peft_names import names_refused, names_taken_for_experts
from lora_cli.facts.weight_files import stored_names
from lora_cli.quantization import QuantizationSpec
from lora_cli.quantization.bitsandbytes import held_in
from lora_cli.tasks import TaskSpec
from lora_cli.tasks.causal_lm import CausalLm

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class BaseModelFacts:
    """A base model as a plan needs to know it."""

    source: ModelSource
    architecture: str
    model_type: str
    parameters: int
    vocabulary: int
    """Rows of the embedding: token ids are below it."""
    padding_token: int | None
    """The token whose embedding gets no gradient, if there is one."""
    context_length: int | None
    layers: int
    hidden_size: int
    key_value_size: int
    """Size of all keys of one token in one layer; 0 without attention."""
    tied_embeddings: bool
    embedding: LinearFacts
    """Of tokens; seen as a product with one-hot rows: in is the vocabulary, out a vector. Without
    a name, and of no size, in a model that reads no tokens."""
    output_head: LinearFacts | None
    """Where embeddings are tied, its weight is the embedding's."""
    linears: tuple[LinearFacts, ...]
    """Every linear layer but the output head, those of a new one and those that are never called,
    in the model's order."""
    uncalled: tuple[LinearFacts, ...]
    """Linear layers whose weight another module reads: an adapter on one would never be used."""
    heads: tuple[str, ...]
    """Names of the linear layers that come after the model's body: the output head."""
    new_heads: tuple[str, ...]
    """Names of the modules that the task puts on the model, which are trained as a whole."""
    other_modules: tuple[str, ...]
    """Names of all other modules, embedding and output head among them."""
    sizes: Mapping[str, int]
    """How many parameters each module holds that can be trained as a whole, by name."""
    bare_parameters: tuple[ParameterFacts, ...]
    """Matrices that no linear layer holds: those of fused experts, and of some routers."""
    taken_for_experts: frozenset[str]
    """Last names of linear layers that peft's LoRA takes for parts of the fused experts."""
    refused_by_peft: frozenset[str]
    """Last names of linear layers that peft's LoRA and its kin refuse: Mamba's `out_proj`."""
    attention_kernels: tuple[str, ...]
    """The attention kernels that the architecture knows, of those that a recipe can name."""
    packing_obstacle: str | None
    """Why documents of one row cannot be kept apart; None if they can."""
    held: QuantizationSpec | None
    """How the weights lie in the model's files, where bitsandbytes has quantized them already."""
    quantized_by: str
    """Who has quantized the weights in the model's files; empty if nobody has."""
    shapes: Mapping[str, tuple[int, ...]]
    """Of the parameters whose weights are stored as the model holds them, by name."""

    @property
    def fused_experts(self) -> tuple[str, ...]:
        """Return the modules that hold the weights of several experts in one tensor each."""
        names = [each.name.rpartition(".")[0] for each in self.bare_parameters if each.experts]
        return tuple(dict.fromkeys(names))


def probe_base_model(
    source: ModelSource, task: TaskSpec | None = None, *, trust_remote_code: bool
) -> BaseModelFacts:
    """Return the facts of the model in `source`, built on the meta device for a task.

    Raises:
        PlanError: the config is broken, or transformers knows no such model for the task.
    """
    task = task or CausalLm()
    model = model_on_meta(source.folder, task, trust_remote_code=trust_remote_code)
    return facts_of(model, source, task)


def facts_of(model: Any, source: ModelSource, task: TaskSpec) -> BaseModelFacts:
    """Return the facts of a model on the meta device that was built for a task."""
    new = new_heads(model, task, stored_names(source) if task.has_new_head else ())
    uncalled = uncalled_layers(model)
    linears, others = layers_and_others(model, (*new, *(each.name for each in uncalled)))
    bare = bare_parameters(model)
    last_names = {linear.name.rpartition(".")[2] for linear in linears}
    text_config = model.config.get_text_config()
    embedding = _embedding(model)
    return BaseModelFacts(
        source=source,
        architecture=type(model).__name__,
        model_type=model.config.model_type,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        vocabulary=embedding.in_features,
        padding_token=getattr(_input_embeddings(model), "padding_idx", None),
        context_length=_context_length(model, text_config),
        layers=_layers(text_config),
        hidden_size=_hidden_size(text_config),
        key_value_size=_key_value_size(text_config),
        tied_embeddings=_is_tied(model),
        embedding=embedding,
        output_head=_output_head(model),
        linears=linears,
        uncalled=uncalled,
        heads=heads_of(model, new),
        new_heads=new,
        other_modules=others,
        sizes=_sizes(model),
        bare_parameters=bare,
        taken_for_experts=names_taken_for_experts(model, last_names) if bare else frozenset(),
        refused_by_peft=names_refused(model, last_names),
        attention_kernels=_attention_kernels(model),
        packing_obstacle=packing_obstacle(model),
        held=held_in(_quantized(model)),
        quantized_by=str(_quantized(model).get("quant_method", "")),
        shapes=_shapes(model, new),
    )


def _quantized(model: Any) -> Mapping[str, Any]:
    """Return what the config says of weights that are quantized in the files; empty: none are."""
    config: Any = getattr(model.config, "quantization_config", None) or {}
    return config if isinstance(config, Mapping) else config.to_dict()


def heads_of(model: Any, new: Collection[str] = ()) -> tuple[str, ...]:
    """Return the names of the output head and of all linear layers that are outside or `new`."""
    from torch import nn

    head, body = output_head(model), model.base_model
    inside = set() if body is model else set(body.modules())
    return tuple(
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and (module is head or (inside and module not in inside) or is_inside(name, new))
    )


def _input_embeddings(model: Any) -> Any:
    """Return the embedding of tokens; None in a model that reads images or sounds alone."""
    try:
        embedding = model.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        return None
    weight = getattr(embedding, "weight", None)
    return embedding if weight is not None and weight.ndim == 2 else None


def _layers(config: Any) -> int:
    """Return how many layers there are; 0 where the config counts none, or several kinds."""
    return _number(config, "num_hidden_layers")


def _hidden_size(config: Any) -> int:
    """Return the size of a token's vector between layers; 0 where it is not the same for all."""
    return _number(config, "hidden_size")


def _number(config: Any, name: str) -> int:
    """Return a number of the config; 0 where it has none, or another one for each layer."""
    try:
        value = getattr(config, name, None)
    except Exception:  # noqa: BLE001  # transformers refuses to name one of several, its own way
        return 0
    return value if isinstance(value, int) else 0


def _embedding(model: Any) -> LinearFacts:
    embedding = _input_embeddings(model)
    if embedding is None:
        return LinearFacts("", 0, 0)
    vocabulary, size = embedding.weight.shape
    return LinearFacts(_name_of(model, embedding), vocabulary, size)


def _output_head(model: Any) -> LinearFacts | None:
    head = output_head(model)
    weight = getattr(head, "weight", None)  # a model of several codebooks has a list of heads
    if weight is None or weight.ndim != 2:
        return None
    vocabulary, size = head.weight.shape
    return LinearFacts(_name_of(model, head), size, vocabulary)


def _name_of(model: Any, module: nn.Module) -> str:
    found: str = next(name for name, each in model.named_modules() if each is module)
    return found


def _sizes(model: Any) -> dict[str, int]:
    """Return the parameters inside each module that has a forward of its own and any parameter."""
    from torch import nn

    sizes = {
        name: sum(parameter.numel() for parameter in module.parameters())
        for name, module in model.named_modules()
        if name and not isinstance(module, nn.ModuleList | nn.ModuleDict)
    }
    return {name: size for name, size in sizes.items() if size}


def _context_length(model: Any, config: Any) -> int | None:
    """Return how many tokens have a position; RoBERTa's kin count theirs from after the padding."""
    from torch import nn

    length = getattr(config, "max_position_embeddings", None)
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            unused = 0 if module.padding_idx is None else module.padding_idx + 1
            return int(module.num_embeddings) - unused
    return length


def _key_value_size(config: Any) -> int:
    heads = _number(config, "num_attention_heads")
    if not heads:
        return 0  # a model without attention keeps no keys
    size = _number(config, "head_dim") or _hidden_size(config) // heads
    return size * (_number(config, "num_key_value_heads") or heads)


def _is_tied(model: Any) -> bool:
    """Return whether the output head is the embedding, as built and not as the config says."""
    head, embedding = output_head(model), _input_embeddings(model)
    weight = getattr(head, "weight", None)
    return embedding is not None and weight is embedding.weight


def _shapes(model: Any, new: Collection[str]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the parameters whose weights lie in files as they lie in the model.

    Not so where the files are quantized, where a tensor of three dimensions holds experts, and in
    a new head, whose place another one may hold.
    """
    if _quantized(model):
        return {}
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    return {n: shape for n, shape in shapes.items() if len(shape) < 3 and not is_inside(n, new)}


def _attention_kernels(model: Any) -> tuple[str, ...]:
    flags = {"sdpa": "_supports_sdpa", "flash_attention_2": "_supports_flash_attn"}
    return ("eager", *(kernel for kernel, flag in flags.items() if getattr(model, flag, False)))
