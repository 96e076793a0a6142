"""Variants on tiny causal models without a run around them: built, trained, saved, reloaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from lora_cli.adapters.variant import Setting
from lora_cli.facts.linear_layers import LinearFacts
from lora_cli.model.adapter import AttachedAdapter
from lora_cli.model.base import BaseOptions, load_base
from lora_cli.model.build import AdapterOrder, build_model
from lora_cli.model.layers import weight_of
from lora_cli.quantization import QuantizationSpec
from lora_cli.quantization.bitsandbytes import EightBit, FourBit
from lora_cli.quantization.none import Unquantized
from tests.helpers.adapters import TARGETS

METHODS: dict[str, QuantizationSpec] = {
    "none": Unquantized(),
    "nf4": FourBit(method="nf4"),
    "fp4": FourBit(method="fp4"),
    "int8": EightBit(method="int8"),
}


@dataclass(frozen=True)
class Base:
    """A tiny causal model, and how it is held."""

    folder: Path
    architecture: str = "llama"
    method: str = "none"
    dtype: str = "float32"

    @property
    def options(self) -> BaseOptions:
        return BaseOptions(
            dtype=self.dtype,
            attention="eager",
            device="cpu",
            trust_remote_code=False,
            allow_pickle=False,
        )

    def load(self) -> Any:
        """Return the model alone."""
        return load_base(self.folder, METHODS[self.method], self.options).model

    def modules(self) -> list[str]:
        """Return the full names of all linear layers but the head."""
        leaves = TARGETS[self.architecture]
        names = (name for name, _ in self.load().named_modules())
        return [name for name in names if name.rpartition(".")[2] in leaves]

    def setting(self, steps: int = 20) -> Setting:
        """Return what a specification is settled for on this base."""
        model = self.load()
        shapes = {name: weight_of(model.get_submodule(name)).shape for name in self.modules()}
        linears = [LinearFacts(name, size[1], size[0]) for name, size in shapes.items()]
        return Setting(
            modules=linears,
            feed_forward_ends=(),
            layers=2,
            hidden_size=32,
            key_value_size=16,
            steps=steps,
        )

    def adapted(self, spec: Any, *, seed: int = 0, steps: int = 20) -> AttachedAdapter:
        """Return the model with a new adapter on all linear layers."""
        modules = self.modules()
        order = AdapterOrder(spec.settled(self.setting(steps)), modules, modules, seed)
        return build_model(self.folder, METHODS[self.method], self.options, order).adapter

    def reloaded(self, adapter: AttachedAdapter, folder: Path) -> Any:
        """Return the model with the adapter as plain peft reads it from where it was saved."""
        from peft import PeftModel

        write(adapter, folder)
        return PeftModel.from_pretrained(self.load(), folder).eval()


def write(adapter: AttachedAdapter, folder: Path) -> None:
    """Write the adapter's files as a run does, tokenizer and origin aside."""
    saved = adapter.saved()
    saved.config.inference_mode = True
    folder.mkdir(exist_ok=True)
    saved.config.save_pretrained(str(folder))
    save_file(saved.tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def tokens() -> torch.Tensor:
    """Return two fixed rows of 16 tokens."""
    return torch.randint(2, 250, (2, 16), generator=torch.Generator().manual_seed(5))


def logits(model: Any) -> torch.Tensor:
    """Return the logits for `tokens` in evaluation mode, in float32."""
    was_training = model.training
    model.eval()
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=tokens()).logits.float()
    model.train(was_training)
    return found


def optimizer_of(adapter: AttachedAdapter, rate: float) -> torch.optim.Optimizer:
    """Return plain AdamW over what is trained."""
    parameters = [each for each in adapter.model.parameters() if each.requires_grad]
    return torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)


def train(
    adapter: AttachedAdapter,
    optimizer: torch.optim.Optimizer,
    *,
    last: int = 20,
    first: int = 1,
) -> list[float]:
    """Take the steps `first` to `last` on `tokens`; return the loss of each."""
    model, spec, losses = adapter.model.train(), adapter.spec, []
    for step in range(first, last + 1):
        found = model(input_ids=tokens()).logits[:, -tokens().shape[1] :]
        loss = torch.nn.functional.cross_entropy(
            found[:, :-1].flatten(0, 1).float(), tokens()[:, 1:].flatten()
        )
        loss.backward()
        penalty = spec.penalty(model)
        if penalty is not None:
            penalty.backward()
        optimizer.step()
        spec.after_step(model, step)
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
    return losses
