"""The adapter on its base: attached, read out and put back, and as it is saved."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lora_cli.adapters import AdapterSpec
from lora_cli.adapters.low_rank import LowRankSpec
from lora_cli.adapters.variant import SavedAdapter, Start
from lora_cli.errors import RunError
from lora_cli.model.beside import (
    ask_for_beside,
    keep_asking_for_beside,
    tensors_beside,
    train_in_float32,
)
from lora_cli.words import reason_of

if TYPE_CHECKING:
    import torch
    from peft import PeftModel


@dataclass(frozen=True)
class AttachedAdapter:
    """An adapter on its base."""

    model: PeftModel
    spec: AdapterSpec
    starts: Mapping[str, Start] = field(default_factory=dict)
    """The first values of each module, where they were computed."""
    own_base: bool = False
    """Whether the base was quantized after it gave up a part of its weights: nobody else has it."""

    def state(self) -> dict[str, torch.Tensor]:
        """Return all tensors that training changes, on the CPU, copied."""
        state = self.spec.state(self.model)
        return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Put the tensors of `state` back, every one of them.

        Raises:
            RunError: the tensors are not those of this adapter.
        """
        due = {name: tensor.shape for name, tensor in self.state().items()}
        held = {name: tensor.shape for name, tensor in state.items()}
        if due != held:
            names = sorted(due.keys() | held.keys())
            odd = [name for name in names if due.get(name) != held.get(name)]
            raise RunError(f"adapter tensors do not fit: {len(odd)} in all, the first `{odd[0]}`")
        self.spec.load_state(self.model, state)

    def saved(self) -> SavedAdapter:
        """Return the adapter as plain peft loads it, its tensors on the CPU, copied.

        It is for the base that everyone has, unless the base is one of its own.
        """
        parts = {} if self.own_base else self.starts
        taken = {name: start.taken for name, start in parts.items() if start.taken}
        saved = self.spec.saved(self.model, taken)
        config = copy.copy(saved.config)
        keep_asking_for_beside(config, self.spec, self.model)
        tensors = {
            name: tensor.detach().cpu().clone().contiguous()
            for name, tensor in {**saved.tensors, **tensors_beside(self.model)}.items()
        }
        return SavedAdapter(config, tensors)


def attach_adapter(  # noqa: PLR0913
    base: Any,
    spec: AdapterSpec,
    *,
    peft_names: Sequence[str],
    modules: Sequence[str],
    seed: int,
    starts: Mapping[str, Start] | None = None,
    task: str = "CAUSAL_LM",
) -> AttachedAdapter:
    """Return the base with a new adapter on exactly `modules`.

    The adapter's first values depend on `seed` alone, or are those of `starts`. It is in float32,
    but for pairs that `spec` holds in another dtype: they are rounded to it once they have started.

    Raises:
        RunError: peft refuses the adapter, or attached to other modules than the plan says.
    """
    import torch
    from peft import get_peft_model

    config = spec.peft_config(list(peft_names), task=task)
    if hasattr(config, "fan_in_fan_out"):
        config.fan_in_fan_out = _holds_input_by_output(base, modules)
    for own_seed in ("projection_prng_key", "random_loc_seed"):
        if hasattr(config, own_seed):
            setattr(config, own_seed, seed)
    ask_for_beside(config, spec, base)
    torch.manual_seed(seed)
    try:
        with _peft_notices_silenced():
            model = get_peft_model(base, config)
    except ValueError as error:
        raise RunError(f"peft refuses this adapter: {reason_of(error)}") from error
    spec.begin(model)
    _check_names(model, {*modules, *getattr(spec, "target_parameters", ())})
    train_in_float32(model)
    adapter = AttachedAdapter(model, spec, starts or {})
    for name, start in adapter.starts.items():
        spec.put_start(model.base_model.model.get_submodule(name), start)
    if isinstance(spec, LowRankSpec):
        _hold_pairs_in(model, spec.dtype)
    return adapter


def _hold_pairs_in(model: PeftModel, dtype: str) -> None:
    """Round A and B of all layers to a dtype; what is trained beside them stays as it is."""
    import torch
    from peft.tuners.lora import LoraLayer

    for layer in model.modules():
        if isinstance(layer, LoraLayer):
            for part in layer.adapter_layer_names:
                getattr(layer, part).to(getattr(torch, dtype))


def _check_names(model: PeftModel, planned: set[str]) -> None:
    attached: set[str] = set()
    for kind in ("module", "parameter"):
        attached.update(getattr(model.base_model, f"targeted_{kind}_names", ()))
    if attached != planned:
        odd = sorted(attached ^ planned)
        raise RunError(f"the adapter is on other modules than planned, among them `{odd[0]}`")


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
        # one for a parameter: peft looks among modules only, and takes the pattern all the same
        warnings.filterwarnings("ignore", "The following .*_pattern keys did not", RuntimeWarning)
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
