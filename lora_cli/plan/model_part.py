"""The plan's base model, adapter and quantization."""

from __future__ import annotations

from lora_cli.adapters import AdapterSpec
from lora_cli.adapters.low_rank import LowRankSpec
from lora_cli.adapters.qlora import Qlora
from lora_cli.adapters.variant import Setting
from lora_cli.facts.dataset import DatasetFacts
from lora_cli.optimizers import OptimizerSpec
from lora_cli.plan.adapter_names import as_written, exact_names, trained_beside
from lora_cli.plan.inputs import Inputs
from lora_cli.plan.reasons import Reasons
from lora_cli.plan.run_plan import AdapterPlan, Attention, DType, ModelPlan
from lora_cli.quantization import QuantizationSpec
from lora_cli.quantization.bitsandbytes import FourBit
from lora_cli.quantization.none import Unquantized
from lora_cli.targets.match import adapter_setting as setting_of

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
    reasons.take(
        "model", "chat_template", value=section.chat_template, default="the tokenizer's own"
    )
    if inputs.facts.task.generates:
        stops = ", ".join(f"{text} ({n})" for text, n in inputs.facts.stop_tokens.items()) or None
        reasons.note("model.stop_tokens", stops, "of the chat template and the tokenizer")
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
        heads=base.heads,
        new_heads=base.new_heads,
        padding_token=inputs.facts.padding_token,
        tokenizer_sha256=inputs.facts.tokenizer_sha256,
        chat_template_sha256=inputs.facts.chat_template_sha256,
        chat_template=inputs.facts.chat_template,
        stop_tokens=inputs.facts.stop_tokens,
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


def resolve_adapter(
    inputs: Inputs, steps: int, optimizer: OptimizerSpec, reasons: Reasons
) -> AdapterPlan:
    """Return the adapter settled for a run of `steps`, its modules and what they come to."""
    asked, matched = inputs.recipe.adapter, inputs.facts.matched
    setting = adapter_setting(inputs, steps)
    spec = asked.settled(setting).model_copy(update=exact_names(asked, inputs.facts))
    beside = trained_beside(inputs.facts)
    trainable = spec.trainable_parameters(setting) + beside - _frozen(spec, setting, optimizer)
    for name, value in spec.model_dump().items():
        if name == "target_modules":
            reasons.take("adapter", name, value=", ".join(matched.peft_names))
        else:
            filled_in = _default_of(inputs, name, getattr(asked, name))
            reasons.take("adapter", name, value=as_written(name, value), default=filled_in)
    if isinstance(spec, LowRankSpec):
        names = (*(each.name for each in matched.modules), *spec.target_parameters)
        scalings = sorted({spec.scaling_of(name) for name in names})
        found = " and ".join(f"{each:.4g}" for each in scalings)
        reasons.note("adapter.scaling", found, spec.scaling_formula)
    reasons.note("adapter.modules", len(matched.modules), "measured on the meta device")
    if beside:
        reasons.note("adapter.parameters_beside", beside, "of modules_to_save and trainable_tokens")
    b_alone = f"those of B: {optimizer.name} freezes A" if optimizer.freezes_a else ""
    why = b_alone or "measured on the meta device"
    reasons.note("adapter.trainable_parameters", trainable, why)
    return AdapterPlan(
        spec=spec,
        modules=tuple(linear.name for linear in matched.modules),
        peft_names=matched.peft_names,
        trainable_parameters=trainable,
    )


def _default_of(inputs: Inputs, field: str, asked: object) -> str:
    """Return why a field of the adapter has its value, where the recipe does not say it."""
    if field == "modules_to_save" and inputs.facts.base.new_heads:
        return "the task's own head"
    return f"{inputs.recipe.adapter.variant}'s default" if asked is None else "default"


def _frozen(spec: AdapterSpec, setting: Setting, optimizer: OptimizerSpec) -> int:
    """Return how many numbers of the adapter the optimizer leaves as they start: those of A."""
    if not optimizer.freezes_a or not isinstance(spec, LowRankSpec):
        return 0
    return sum(spec.rank_of(each.name) * each.in_features for each in setting.modules)


def adapter_setting(inputs: Inputs, steps: int) -> Setting:
    """Return what the adapter is settled for: a run of `steps` on the recipe's base."""
    return setting_of(inputs.facts.matched, inputs.facts.base, steps)


def resolve_quantization(inputs: Inputs, dtype: DType, reasons: Reasons) -> QuantizationSpec:
    """Return the quantization, the variant's own if the recipe names none, with its dtype."""
    asked, default = inputs.recipe.quantization, "default"
    if held := inputs.facts.base.held:
        for name, value in held.model_dump().items():
            reasons.note(f"quantization.{name}", value, "as the model's files hold it")
        return held
    if asked is None and isinstance(inputs.recipe.adapter, Qlora):
        asked, default = FourBit(method="nf4"), "qlora is LoRA on a 4-bit base"
    asked = asked or Unquantized()
    settled = asked.settled(dtype)
    for name, value in settled.model_dump().items():
        if name == "full_precision_modules":
            experts = ["fused experts"] if inputs.facts.base.fused_experts else []
            kept = ", ".join(dict.fromkeys((*value, *inputs.facts.base.heads, *experts)))
            reasons.take("quantization", name, value=kept, default="the output head, always")
        else:
            measured = "the model's dtype" if getattr(asked, name) != value else ""
            reasons.take("quantization", name, value=value, measured=measured, default=default)
    return settled
