"""The base model with its adapter attached, ready to train."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_cli.adapters import AdapterSpec
from lora_cli.errors import RunError
from lora_cli.quantization import QuantizationSpec

if TYPE_CHECKING:
    from peft import PeftModel


@dataclass(frozen=True, slots=True)
class BaseOptions:
    """How the base is loaded; every value final."""

    dtype: str
    attention: str
    device: str
    trust_remote_code: bool
    allow_pickle: bool


def load_base(folder: Path, quantization: QuantizationSpec, options: BaseOptions) -> Any:
    """Return the frozen base model on its device.

    Raises:
        RunError: the weights cannot be read or do not fit the config.
    """
    import torch
    from transformers import AutoModelForCausalLM

    dtype = getattr(torch, options.dtype)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            str(folder),
            dtype=dtype,
            attn_implementation=options.attention,
            trust_remote_code=options.trust_remote_code,
            use_safetensors=None if options.allow_pickle else True,
            device_map={"": options.device},
            **quantization.load_kwargs(dtype),
        )
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise RunError(f"the base model in {folder} cannot be loaded: {reason}") from error
    quantization.after_load(model)
    model.requires_grad_(False)
    return model


def attach_adapter(
    base: Any, spec: AdapterSpec, *, peft_names: Sequence[str], modules: Sequence[str], seed: int
) -> PeftModel:
    """Return the base with a new adapter in float32 on exactly `modules`.

    The adapter's start depends on `seed` alone.

    Raises:
        RunError: peft attached to other modules than the plan says.
    """
    import torch
    from peft import get_peft_model

    torch.manual_seed(seed)
    model = get_peft_model(base, spec.peft_config(list(peft_names)))
    attached = set(model.base_model.targeted_module_names)
    if attached != set(modules):
        odd = sorted(attached ^ set(modules))
        raise RunError(f"the adapter is on other modules than planned, among them `{odd[0]}`")
    return model


def enable_gradient_checkpointing(model: Any) -> None:
    """Recompute activations in the backward pass; inputs get gradients, or no layer would."""
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
