"""What is trained beside the adapter: modules as a whole, and the embeddings of single tokens.

peft copies such a module in the base's precision, whose steps are coarser than those of training:
what is learnt in small steps would be rounded away. Here the copy is held in float32, and computes
rounded to the base's precision, as it will for everyone who loads it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lora_cli.adapters import AdapterSpec
from lora_cli.adapters.low_rank import LowRankSpec
from lora_cli.adapters.targeted import TargetedSpec

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig, PeftModel

ADAPTER = "default"


def ask_for_beside(config: PeftConfig, spec: AdapterSpec, base: Any) -> None:
    """Write into peft's configuration what `spec` trains of `base` beside the adapter."""
    if isinstance(spec, TargetedSpec) and spec.modules_to_save:
        config.modules_to_save = list(spec.modules_to_save)
        if spec.ties_modules_to_save:
            config.ensure_weight_tying = _is_tied(base, spec.modules_to_save)
    if isinstance(spec, LowRankSpec) and spec.trainable_tokens:
        config.trainable_token_indices = list(spec.trainable_tokens)


def _is_tied(base: Any, saved: tuple[str, ...]) -> bool:
    """Return whether `saved` names an embedding that is the output head too."""
    embedding, head = base.get_input_embeddings(), base.get_output_embeddings()
    named = any(base.get_submodule(name) is embedding for name in saved)
    return named and head is not None and head.weight is embedding.weight


def keep_asking_for_beside(saved: PeftConfig, spec: AdapterSpec, model: PeftModel) -> None:
    """Write what is trained beside into the configuration that is saved.

    peft takes the head's name out of its own when it ties it to the embedding, and would not know
    all embeddings for what they are without it.
    """
    own = model.peft_config[ADAPTER]
    names = [*getattr(spec, "modules_to_save", ()), *(own.modules_to_save or ())]
    saved.modules_to_save = list(dict.fromkeys(names)) or None
    for field in ("ensure_weight_tying", "trainable_token_indices"):
        if hasattr(saved, field):
            setattr(saved, field, getattr(own, field))


def tensors_beside(model: PeftModel) -> dict[str, torch.Tensor]:
    """Return what was trained beside the adapter, by the names that peft loads it by."""
    from peft.utils.other import AuxiliaryTrainingWrapper

    return {
        f"{name}.{part}": tensor
        for name, module in model.named_modules()
        if isinstance(module, AuxiliaryTrainingWrapper)
        for part, tensor in module.adapter_state_dict(ADAPTER, module.state_dict()).items()
    }


def train_in_float32(model: PeftModel) -> None:
    """Hold the copies of modules that are trained as a whole in float32."""
    from peft.utils import ModulesToSaveWrapper

    for module in model.modules():
        if isinstance(module, ModulesToSaveWrapper):
            _hold_in_float32(module.modules_to_save[ADAPTER], module.original_module)


def _hold_in_float32(copy: torch.nn.Module, original: torch.nn.Module) -> None:
    import torch

    dtypes = {name: parameter.dtype for name, parameter in original.named_parameters()}
    if set(dtypes.values()) <= {torch.float32}:
        return
    for parameter in copy.parameters():
        parameter.data = parameter.data.float()

    def forward(*arguments: Any, **options: Any) -> Any:
        rounded = {name: each.to(dtypes[name]) for name, each in copy.named_parameters()}
        return torch.func.functional_call(original, rounded, arguments, options)

    copy.forward = forward
