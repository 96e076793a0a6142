"""The adapter on its base: attached, read out and put back under the names that peft saves."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lora_cli.adapters import AdapterSpec
from lora_cli.errors import RunError

if TYPE_CHECKING:
    import torch
    from peft import PeftModel


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

    config = spec.peft_config(list(peft_names))
    config.fan_in_fan_out = _holds_input_by_output(base, modules)
    torch.manual_seed(seed)
    with _peft_notices_silenced():
        model = get_peft_model(base, config)
    attached = set(model.base_model.targeted_module_names)
    if attached != set(modules):
        odd = sorted(attached ^ set(modules))
        raise RunError(f"the adapter is on other modules than planned, among them `{odd[0]}`")
    return model


def _holds_input_by_output(base: Any, modules: Sequence[str]) -> bool:
    """Return whether the modules are of GPT-2's kind, whose weights are (in, out)."""
    from transformers.pytorch_utils import Conv1D

    return any(isinstance(base.get_submodule(name), Conv1D) for name in modules)


@contextmanager
def _peft_notices_silenced() -> Iterator[None]:
    """Silence what peft and transformers say of each other's names, and nothing else."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is depr", FutureWarning)
        # a model with both kinds of layers: peft sets the right one for each
        warnings.filterwarnings("ignore", "fan_in_fan_out is set to", UserWarning)
        yield


def enable_gradient_checkpointing(model: Any) -> None:
    """Recompute activations in the backward pass; inputs get gradients, or no layer would.

    Raises:
        RunError: this architecture has no such thing.
    """
    model.enable_input_require_grads()
    try:
        model.activation_checkpointing_enable({"use_reentrant": False})
    except ValueError as error:
        hint = "set training.gradient_checkpointing to false"
        raise RunError(f"gradient checkpointing: {error}", hint=hint) from error


def adapter_state(model: Any) -> dict[str, torch.Tensor]:
    """Return the adapter's tensors under the names that peft saves, on the CPU, copied."""
    from peft import get_peft_model_state_dict

    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}


def load_adapter_state(model: Any, state: Mapping[str, torch.Tensor]) -> None:
    """Put the tensors of `adapter_state` back, every one of them.

    Raises:
        RunError: the tensors are not those of this adapter.
    """
    from peft import set_peft_model_state_dict

    due = {name: tensor.shape for name, tensor in adapter_state(model).items()}
    held = {name: tensor.shape for name, tensor in state.items()}
    if due != held:
        odd = sorted(name for name in due.keys() | held.keys() if due.get(name) != held.get(name))
        raise RunError(f"adapter tensors do not fit: {len(odd)} in all, the first `{odd[0]}`")
    set_peft_model_state_dict(model, dict(state))
