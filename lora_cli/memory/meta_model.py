"""The plan's model without weights: base, quantization and adapter as a run has them in memory.

What a run computes before its first step, such as an adapter's first values, is left out: it
changes no shape.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_cli.adapters.nora import NoRa
from lora_cli.adapters.variant import Factors, Start
from lora_cli.facts.heads import is_inside
from lora_cli.facts.linear_layers import LinearFacts
from lora_cli.memory.trace import Category
from lora_cli.model.adapter import AttachedAdapter, attach_adapter
from lora_cli.model.layers import weight_of
from lora_cli.plan.run_plan import RunPlan
from lora_cli.plan.task_part import config_changes

if TYPE_CHECKING:
    import torch

CONSTANTS = (".absmax", ".code", ".offset", ".SCB")
"""The ends of the names under which bitsandbytes' scales are told."""


@dataclass(frozen=True)
class MetaModel:
    """A base with its adapter, every tensor on the meta device."""

    adapter: AttachedAdapter
    base: frozenset[int]
    """The identities of the base's own parameters and buffers."""
    parameters: frozenset[str]
    """The names of all parameters, the adapter's too."""

    def module_names(self) -> dict[int, str]:
        """Return the modules' names by their identities."""
        return {id(module): own_name(name) for name, module in self.adapter.model.named_modules()}

    def tensors(self, heads: Sequence[str]) -> Iterator[tuple[str, Category, torch.Tensor]]:
        """Yield each tensor's name, what it is, and the tensor."""
        from torch import nn

        model = self.adapter.model
        embeddings = {
            f"{name}.weight"
            for name, module in model.named_modules()
            if isinstance(module, nn.Embedding)
        }
        for name, tensor in named_tensors(model):
            yield own_name(name), self._category(name, tensor, embeddings, heads), tensor

    def _category(
        self, name: str, tensor: torch.Tensor, embeddings: set[str], heads: Sequence[str]
    ) -> Category:
        if name.endswith(CONSTANTS):
            return "quantization constants"
        if id(tensor) not in self.base:
            return "adapter"
        if name in embeddings or is_inside(own_name(name), heads):
            return "embeddings and head"
        return "base weights" if name in self.parameters else "buffers"


def own_name(name: str) -> str:
    """Return the base's name of what peft has put its own names around."""
    return name.removeprefix("base_model.model.").replace(".base_layer", "")


def build_on_meta(plan: RunPlan) -> MetaModel:
    """Return the plan's model without weights."""
    base = _base(plan)
    base.requires_grad_(False)
    own = frozenset(map(id, (*base.parameters(), *base.buffers())))
    with _unfilled():
        adapter = attach_adapter(
            base,
            plan.adapter.spec,
            peft_names=plan.adapter.peft_names,
            modules=plan.adapter.modules,
            seed=plan.seed,
            starts=_shaped_starts(plan, base),
            task=plan.task.peft_task,
        )
    adapter.model.to("meta")  # as accelerate moves what peft left on the CPU
    parameters = frozenset(name for name, _ in adapter.model.named_parameters())
    return MetaModel(adapter, own, parameters)


def _shaped_starts(plan: RunPlan, base: Any) -> dict[str, Start]:
    """Return first values without values, for a method that puts more in place than peft makes."""
    import torch

    spec = plan.adapter.spec
    if not isinstance(spec, NoRa):
        return {}
    starts = {}
    for name in plan.adapter.modules:
        rows, columns = weight_of(base.get_submodule(name), on_meta=True).shape
        rank = spec.highest_rank(LinearFacts(name=name, in_features=columns, out_features=rows))
        with torch.device("meta"):
            pair = Factors(torch.empty(rank, columns), torch.empty(rows, rank))
        starts[name] = Start(pair)
    return starts


def _base(plan: RunPlan) -> Any:
    import torch
    import transformers
    from transformers import AutoConfig

    dtype, trusted = getattr(torch, plan.model.dtype), plan.model.trust_remote_code
    folder = Path(plan.model.folder)
    config = AutoConfig.from_pretrained(
        str(folder), trust_remote_code=trusted, **config_changes(plan)
    )
    held = getattr(config, "quantization_config", None)
    if held is not None:
        del config.quantization_config
    with torch.device("meta"):
        model = getattr(transformers, plan.task.auto_class).from_config(
            config,
            dtype=dtype,
            attn_implementation=plan.model.attention,
            trust_remote_code=trusted,
        )
    if plan.quantization.method != "none":
        asked = plan.quantization.load_kwargs(dtype, plan.model.heads)
        _quantize(model, held or asked["quantization_config"])
    _keep_in_float32(model, dtype)
    plan.quantization.after_load(model)
    return model


def _keep_in_float32(model: Any, dtype: torch.dtype) -> None:
    """Widen what transformers holds in float32 whatever the others are in, such as parts of T5."""
    patterns: Mapping[str, torch.dtype] = model._get_dtype_plan(dtype)  # noqa: SLF001
    for name, parameter in model.named_parameters():
        for pattern, wide in patterns.items():
            if parameter.is_floating_point() and re.search(rf"(^|\.){pattern}(\.|$)", name):
                parameter.data = parameter.data.to(wide)


def _quantize(model: Any, asked: Any) -> None:
    """Put bitsandbytes' layers in the place of others as transformers does, and quantize them."""
    from bitsandbytes.nn import Linear4bit, Linear8bitLt
    from transformers.quantizers import AutoHfQuantizer

    quantizer = AutoHfQuantizer.from_config(asked, pre_quantized=False)
    quantizer.preprocess_model(model=model, device_map={"": "meta"})
    for layer in model.modules():
        if isinstance(layer, Linear4bit):
            _quantize_4bit(layer)
        elif isinstance(layer, Linear8bitLt):
            _quantize_8bit(layer)
    quantizer.postprocess_model(model)


def _quantize_4bit(layer: Any) -> None:
    from bitsandbytes.functional import quantize_4bit
    from bitsandbytes.nn import Params4bit

    held = layer.weight
    packed, state = quantize_4bit(
        held.data,
        blocksize=held.blocksize,
        compress_statistics=held.compress_statistics,
        quant_type=held.quant_type,
        quant_storage=held.quant_storage,
    )
    layer.weight = Params4bit(
        packed,
        quant_state=state,
        blocksize=held.blocksize,
        compress_statistics=held.compress_statistics,
        quant_type=held.quant_type,
        quant_storage=held.quant_storage,
        module=layer,
        bnb_quantized=True,
    )
    layer.quant_state = state


def _quantize_8bit(layer: Any) -> None:
    from bitsandbytes.functional import int8_vectorwise_quant
    from bitsandbytes.nn import Int8Params

    rows, scales, _ = int8_vectorwise_quant(layer.weight.data.half())
    layer.weight = Int8Params(rows, requires_grad=False, CB=rows, SCB=scales)


def named_tensors(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield a model's parameters and buffers, and what bitsandbytes keeps beside them."""
    for name, parameter in model.named_parameters():
        yield name, parameter
        for part, tensor in _constants(parameter):
            yield f"{name}{part}", tensor
    yield from model.named_buffers()


def _constants(parameter: Any) -> Iterator[tuple[str, torch.Tensor]]:
    state: Any = getattr(parameter, "quant_state", None)
    for inner in (state, getattr(state, "state2", None)):
        if inner is not None:
            yield ".absmax", inner.absmax
            yield ".code", inner.code
    if getattr(state, "offset", None) is not None:
        yield ".offset", state.offset
    if getattr(parameter, "SCB", None) is not None:
        yield ".SCB", parameter.SCB


@contextmanager
def _unfilled() -> Iterator[None]:
    """Leave new tensors on the CPU without values: most of an adapter's would be random numbers.

    peft makes adapters on the CPU and moves them to the base's device, and a base without weights
    is no exception. Memory that is never written to is never taken.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    aten = torch.ops.aten
    fills = (aten.uniform_, aten.normal_, aten.zero_, aten.fill_, aten.copy_)

    class Unfilled(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if func.overloadpacket in fills and args[0].is_floating_point():
                return args[0]
            return func(*args, **(kwargs or {}))

    with Unfilled():  # type: ignore[no-untyped-call]
        yield
