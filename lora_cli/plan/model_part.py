"""The plan's base model, adapter and quantization."""

from __future__ import annotations

from lora_cli.facts.dataset import DatasetFacts
from lora_cli.plan.inputs import Inputs
from lora_cli.plan.reasons import Reasons
from lora_cli.plan.run_plan import AdapterPlan, Attention, DType, ModelPlan
from lora_cli.quantization import QuantizationSpec

SHORT_ROW_TOKENS = 512
"""Up to here eager attention is the faster one on a CPU: 3.4 s against 4.6 s for a step of 1,200
tokens of a 135M model, whose short rows torch's flash kernel for CPUs is slow on."""


def resolve_model(inputs: Inputs, reasons: Reasons) -> ModelPlan:
    """Return the base model as it will be loaded."""
    section, base = inputs.recipe.model, inputs.facts.base
    source = base.source
    dtype, why_dtype = _dtype(inputs)
    attention, why_attention = _attention(inputs)
    reasons.take("model", "name", value=section.name)
    pinned = f"the commit of {source.evidence}" if source.revision else ""
    reasons.take("model", "revision", value=source.revision or None, measured=pinned)
    reasons.take("model", "dtype", value=dtype, measured=why_dtype)
    reasons.take("model", "attention", value=attention, measured=why_attention)
    reasons.take("model", "trust_remote_code", value=section.trust_remote_code)
    reasons.take("model", "allow_pickle", value=section.allow_pickle)
    return ModelPlan(
        name=section.name,
        kind=source.kind,
        folder=str(source.folder),
        gguf=str(source.gguf) if source.gguf else None,
        revision=source.revision,
        fingerprint=source.fingerprint,
        architecture=base.architecture,
        model_type=base.model_type,
        parameters=base.parameters,
        context_length=base.context_length,
        tied_embeddings=base.tied_embeddings,
        tokenizer_sha256=inputs.facts.tokenizer_sha256,
        chat_template_sha256=inputs.facts.chat_template_sha256,
        dtype=dtype,
        attention=attention,
        trust_remote_code=section.trust_remote_code,
        allow_pickle=section.allow_pickle,
    )


def _dtype(inputs: Inputs) -> tuple[DType, str]:
    """Return the base's dtype, and why it was taken if the recipe leaves it open."""
    asked, machine = inputs.recipe.model.dtype, inputs.facts.machine
    if asked != "auto":
        return asked, ""
    if machine.fast_bfloat16:
        return "bfloat16", f"this {machine.device} computes bfloat16 in hardware"
    if machine.device == "cuda":
        return "float16", "this GPU has no bfloat16"
    return "float32", "this CPU has no bfloat16 instructions"


def _attention(inputs: Inputs) -> tuple[Attention, str]:
    """Return the attention kernel, and why it was taken if the recipe leaves it open."""
    asked, facts = inputs.recipe.model.attention, inputs.facts
    if asked != "auto":
        return asked, ""
    if "sdpa" not in facts.base.attention_kernels:
        return "eager", f"{facts.base.architecture} has no sdpa"
    longest = _longest(facts.dataset)
    if facts.machine.device == "cpu" and longest <= SHORT_ROW_TOKENS:
        return "eager", f"no row has over {SHORT_ROW_TOKENS} tokens: measured faster on a CPU"
    return "sdpa", "torch's own fused kernel"


def _longest(dataset: DatasetFacts) -> int:
    return max(part.longest for part in (dataset.train, dataset.evaluation) if part)


def resolve_adapter(inputs: Inputs, reasons: Reasons) -> AdapterPlan:
    """Return the adapter with its alpha, its modules and what they come to."""
    spec, matched = inputs.recipe.adapter, inputs.facts.matched
    trainable = sum(
        spec.trainable_parameters(linear.in_features, linear.out_features)
        for linear in matched.modules
    )
    reasons.take("adapter", "variant", value=spec.variant)
    reasons.take("adapter", "rank", value=spec.rank)
    reasons.take("adapter", "alpha", value=spec.resolved_alpha, default=f"{spec.variant}'s default")
    reasons.take("adapter", "dropout", value=spec.dropout)
    reasons.take("adapter", "target_modules", value=", ".join(matched.peft_names))
    formula = "alpha / √rank" if spec.rank_stabilised else "alpha / rank"
    reasons.note("adapter.scaling", spec.scaling, formula)
    reasons.note("adapter.modules", len(matched.modules), "measured on the meta device")
    reasons.note("adapter.trainable_parameters", trainable, "measured on the meta device")
    return AdapterPlan(
        spec=spec.model_copy(update={"alpha": spec.resolved_alpha}),
        scaling=spec.scaling,
        modules=tuple(linear.name for linear in matched.modules),
        peft_names=matched.peft_names,
        trainable_parameters=trainable,
    )


def resolve_quantization(inputs: Inputs, dtype: DType, reasons: Reasons) -> QuantizationSpec:
    """Return the quantization with its dtype for products filled in."""
    asked = inputs.recipe.quantization
    settled = asked.settled(dtype)
    for name, value in settled.model_dump().items():
        measured = "the model's dtype" if getattr(asked, name) != value else ""
        reasons.take("quantization", name, value=value, measured=measured)
    return settled
