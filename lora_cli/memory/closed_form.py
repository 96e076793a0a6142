"""What a step needs by arithmetic alone: the fallback where the installed code cannot be simulated.

Bytes per token of a decoder that is trained on as Llama is. A frozen weight keeps nothing for the
backward pass; what is kept is what norms, rotation, attention and gating keep, and the input of
every adapted module. A linear layer that reads the residual stream has its output kept, one that
writes to it its input:

  each layer  2·(4h + 4)                        a float32 copy of both norms' inputs, and its scale
            + d·(Σ out of readers + Σ in of writers) + 4·heads          attention and feed-forward
            + Σ over adapted modules of a·(in + rank) [+ in with dropout]
  the loss    12 · vocabulary for 256 tokens    logits, their log-softmax and its gradient, float32
            + 3·d·h                             what the head reads, chosen of it, and its gradient

(h the hidden size, d the bytes of a number of the base.) With checkpointing a layer keeps d·h, and
one layer's worth comes back at a time.

(a the bytes of a number of the adapter.) A module's input is a copy of its own where it is cast for
the adapter or dropped from; elsewhere modules side by side keep one. A frozen A keeps none.

It does not know kernels' workspaces, repeated keys and values, masks of padded batches, towers of
other modalities, or what a method other than LoRA keeps; ±15 % is said of its results.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lora_cli.adapters.low_rank import LowRankSpec
from lora_cli.facts.base_model import BaseModelFacts
from lora_cli.facts.linear_layers import LinearFacts
from lora_cli.memory.batch_shape import BatchShape
from lora_cli.memory.trace import Category, Phase, Storage, Trace
from lora_cli.plan.run_plan import RunPlan
from lora_cli.quantization.bitsandbytes import FourBit, Quantized
from lora_cli.targets.roles import layer_of
from lora_cli.targets.select import is_inside
from lora_cli.tasks.task import CHUNK

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
BLOCK, SCALES_BLOCK = 64, 256
"""Weights that share a scale, and scales that share one where they are quantized too."""
LOSS_BYTES = 12
PAGED_FROM = 100_000
"""bitsandbytes pages the state of tensors with so many numbers."""


@dataclass(frozen=True, eq=False)
class _Step:
    """The sizes that one step's bytes follow from."""

    plan: RunPlan
    base: BaseModelFacts
    batch: BatchShape

    @property
    def tokens(self) -> int:
        return self.batch.rows * self.batch.tokens

    @property
    def number(self) -> int:
        """Bytes of a number of the base."""
        return BYTES[self.plan.model.dtype]

    @cached_property
    def adapted(self) -> frozenset[str]:
        return frozenset(self.plan.adapter.modules)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The model's config: of its text, where it has several parts."""
        file = self.base.source.folder / "config.json"
        content: dict[str, Any] = json.loads(file.read_text("utf-8"))
        return content.get("text_config") or content

    def number_in_config(self, *names: str) -> int:
        """Return the first of these that the config has as one number; 0 if it has none."""
        found = (self.config.get(name) for name in names)
        return next((each for each in found if isinstance(each, int)), 0)

    @cached_property
    def layers(self) -> dict[int | None, list[LinearFacts]]:
        """The linear layers by the number of the layer that they lie in."""
        layers = defaultdict[int | None, list[LinearFacts]](list)
        for linear in self.base.linears:
            layers[layer_of(linear.name)].append(linear)
        return layers


def closed_form(plan: RunPlan, base: BaseModelFacts, batch: BatchShape) -> Trace:
    """Return a trace of a few large storages: a step after the first, of one micro batch."""
    step = _Step(plan, base, batch)
    held = [*_weights(step), *_adapter(step)]
    kept = list(_kept(step))
    loss = Storage(_loss_bytes(step), "logits and loss", "loss", "loss")
    again = list(_recomputed(step))
    gradients, update = _gradients(step), _update(step)
    storages = [*held, *kept, loss, *again, gradients, update]
    index = {id(storage): number for number, storage in enumerate(storages)}
    events, phases = list[int](), list[tuple[int, Phase]]()

    def during(phase: Phase, made: list[Storage], freed: list[Storage]) -> None:
        phases.append((len(events), phase))
        events.extend(index[id(each)] for each in made)
        events.extend(~index[id(each)] for each in freed)

    during("loading", held, [])
    during("forward", kept, [])
    during("loss", [loss], [loss])
    during("backward", [gradients, *again], [*again, *kept])
    during("optimizer", [update], [update, gradients])
    return Trace(tuple(storages), tuple(events), tuple(phases))


def _weights(step: _Step) -> Iterator[Storage]:
    """Yield the base's weights, as they are held."""
    base, method = step.base, step.plan.quantization
    quantized = 0
    if isinstance(method, Quantized):
        quantized = sum(_size(each) for each in base.linears if _is_quantized(each, base, method))
        yield _held(_quantized_bytes(quantized, method), "base weights", method.method)
        constants = _constants_bytes(quantized, base.hidden_size, method)
        yield _held(constants, "quantization constants", method.method)
    ends = _size(base.embedding)
    if base.output_head is not None and not base.tied_embeddings:
        ends += _size(base.output_head)
    yield _held(step.number * ends, "embeddings and head", base.embedding.name)
    rest = base.parameters - ends - quantized
    yield _held(step.number * rest, "base weights", step.plan.model.dtype)


def _is_quantized(linear: LinearFacts, base: BaseModelFacts, method: Quantized) -> bool:
    return linear.name not in base.heads and not method.keeps(linear.name)


def _quantized_bytes(parameters: int, method: Quantized) -> int:
    return parameters // 2 if isinstance(method, FourBit) else parameters


def _constants_bytes(parameters: int, columns: int, method: Quantized) -> int:
    if not isinstance(method, FourBit):
        return 4 * parameters // columns  # a float32 scale a row
    scales = parameters // BLOCK
    return scales + 4 * scales // SCALES_BLOCK if method.double_quantization else 4 * scales


def _adapter(step: _Step) -> Iterator[Storage]:
    """Yield the adapter, and what the optimizer keeps of it."""
    name = step.plan.optimizer.name
    yield _held(_trained_bytes(step), "adapter", "adapter")
    state = round(_state_per_number(step.plan) * _unpaged(step))
    yield _held(2 * _trained_bytes(step) if _is_torchs(step.plan) else state, "optimizer", name)


def _trained_bytes(step: _Step) -> int:
    """Return the bytes of all that is trained: pairs in a dtype of theirs, the rest in float32."""
    trainable, spec = step.plan.adapter.trainable_parameters, step.plan.adapter.spec
    if not isinstance(spec, LowRankSpec):
        return 4 * trainable
    base = step.base
    whole = {each.name: each for each in (*base.linears, base.embedding, base.output_head) if each}
    beside = sum(_size(e) for e in whole.values() if is_inside(e.name, spec.modules_to_save))
    return BYTES[spec.dtype] * (trainable - beside) + 4 * beside


def _is_torchs(plan: RunPlan) -> bool:
    """Return whether the optimizer is torch's own, whose state has the parameters' dtype."""
    return not plan.optimizer.package


def _state_per_number(plan: RunPlan) -> float:
    return 2 + 8 / SCALES_BLOCK if plan.optimizer.name.endswith("8bit") else 8


def paged_bytes(plan: RunPlan, base: BaseModelFacts) -> int:
    """Return what the optimizer keeps in pages, which torch does not allocate."""
    step = _Step(plan, base, BatchShape(rows=1, tokens=1))
    paged = plan.adapter.trainable_parameters - _unpaged(step)
    return round(_state_per_number(plan) * paged)


def _unpaged(step: _Step) -> int:
    """Return of how many trained numbers the state lies on the device, and not in pages."""
    trainable, spec = step.plan.adapter.trainable_parameters, step.plan.adapter.spec
    if not step.plan.optimizer.paged or step.plan.device.type == "cpu":
        return trainable
    if not isinstance(spec, LowRankSpec):
        return 0
    pairs = (
        (spec.rank_of(each.name), each) for each in step.base.linears if each.name in step.adapted
    )
    sizes = (rank * size for rank, e in pairs for size in (e.in_features, e.out_features))
    return sum(size for size in sizes if size < PAGED_FROM)


def _kept(step: _Step) -> Iterator[Storage]:
    """Yield what each layer keeps for the backward pass."""
    checkpointed = step.plan.schedule.gradient_checkpointing
    for layer in range(step.base.layers):
        size = step.number * step.base.hidden_size if checkpointed else _layer_bytes(step, layer)
        yield Storage(size * step.tokens, "activations", f"layers.{layer}", "forward")


def _recomputed(step: _Step) -> Iterator[Storage]:
    """Yield what the backward pass needs beside: a layer that is computed again, and gradients."""
    if step.plan.schedule.gradient_checkpointing:
        most = max(_layer_bytes(step, layer) for layer in range(step.base.layers))
        yield Storage(most * step.tokens, "activations", "recomputed layer", "backward")
    widest = max((each.out_features for each in step.layers[0]), default=0)
    transient = 2 * step.number * widest * step.tokens
    yield Storage(transient, "temporaries", "gradients of activations", "backward")


def _gradients(step: _Step) -> Storage:
    return Storage(_trained_bytes(step), "gradients", "adapter", "backward")


def _update(step: _Step) -> Storage:
    """Return what AdamW makes while it steps: one tensor of the size of all parameters."""
    size = _trained_bytes(step) if _is_torchs(step.plan) else 0
    return Storage(size, "temporaries", step.plan.optimizer.name, "optimizer")


def _layer_bytes(step: _Step, layer: int) -> int:
    """Return the bytes that a layer keeps for each token."""
    hidden, linears = step.base.hidden_size, step.layers[layer]
    norms = 2 * (4 * hidden + 4)
    # a square one is as large on either side
    readers = sum(each.out_features for each in linears if each.in_features == hidden)
    writers = sum(each.in_features for each in linears if each.in_features != hidden)
    kept = step.number * (readers + writers + _experts_width(step, layer))
    adapted = [each for each in linears if each.name in step.adapted]
    heads = step.number_in_config("num_attention_heads", "n_head")
    return norms + kept + 4 * heads + _adapted_bytes(step, adapted)


def _adapted_bytes(step: _Step, adapted: list[LinearFacts]) -> int:
    """Return what a layer's adapted modules keep for each token, beside what the base keeps."""
    spec, inputs = step.plan.adapter.spec, sum(each.in_features for each in adapted)
    if not isinstance(spec, LowRankSpec):
        return 4 * inputs
    number = BYTES[spec.dtype]
    kept = number * sum(spec.rank_of(each.name) for each in adapted)
    if spec.dropout:
        kept += inputs  # the mask
    if step.plan.optimizer.freezes_a:
        return kept
    if not spec.dropout and spec.dtype == step.plan.model.dtype:
        shared = {(each.name.rpartition(".")[0], each.in_features) for each in adapted}
        inputs = sum(size for _, size in shared)
    return kept + number * inputs


def _experts_width(step: _Step, layer: int) -> int:
    """Return how many numbers the experts that one token goes through keep for it."""
    stacks = [e for e in step.base.bare_parameters if e.experts and layer_of(e.name) == layer]
    chosen = step.number_in_config("num_experts_per_tok", "moe_topk", "moe_k")
    return max(1, chosen) * sum(max(each.rows, each.columns) for each in stacks)


def _loss_bytes(step: _Step) -> int:
    logits = LOSS_BYTES * min(step.tokens, CHUNK) * _vocabulary(step.base)
    return logits + 3 * step.number * step.base.hidden_size * step.tokens


def _vocabulary(base: BaseModelFacts) -> int:
    return base.output_head.out_features if base.output_head else 0


def _size(linear: LinearFacts) -> int:
    return linear.in_features * linear.out_features


def _held(size: int, category: Category, name: str) -> Storage:
    return Storage(size, category, name, "loading")
