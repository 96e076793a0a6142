"""What every optimizer is: its fields, and how it is built over a model's parameters.

An optimizer's file holds its specification; the heavy import stands inside `build`. This module
does not know which adapter is trained: a pair's A and B are told from the parameters' names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from lora_cli.section import Section

if TYPE_CHECKING:
    import torch

Beta = Annotated[float, Field(ge=0, lt=1)]
SIDE_A, SIDE_B = ".lora_A.", ".lora_B."
"""What peft calls a pair's factors; B starts at zero. Those of an embedding have other names, and
there it is A that starts at zero."""


class AdamWSettings(Section):
    """Fields shared by the optimizers that step as AdamW does."""

    main_field = "name"

    name: str
    """The optimizer."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay; 0 for adapters, whose size the rank already bounds."""
    beta1: Beta = 0.9
    """Decay of the mean of gradients."""
    beta2: Beta = 0.999
    """Decay of the mean of squared gradients."""
    epsilon: float = Field(default=1e-8, gt=0)
    """Added to the denominator."""

    package: ClassVar[str] = ""
    """The package it comes from, if that is not torch."""
    freezes_a: ClassVar[bool] = False
    """Whether the A of every pair stays as it starts."""

    @property
    def paged(self) -> bool:
        """Return whether the state moves to the CPU's memory where the GPU's is short."""
        return False

    def rate_of_b(self, learning_rate: float) -> float:
        """Return the learning rate of the pairs' B."""
        return learning_rate

    def summary(self, learning_rate: float) -> str:
        """Return the optimizer and its learning rates in a few words."""
        of_b = self.rate_of_b(learning_rate)
        apart = f", of B {of_b:g}" if of_b != learning_rate else ""
        return f"{self.name}, learning rate {learning_rate:g}{apart}"

    def build(
        self, parameters: Mapping[str, torch.nn.Parameter], learning_rate: float
    ) -> torch.optim.Optimizer:
        """Return the optimizer over those of a model's `parameters` that require a gradient."""
        raise NotImplementedError

    def arguments(self) -> dict[str, Any]:
        """Return the settings by the names that torch and bitsandbytes have for them."""
        return {
            "betas": (self.beta1, self.beta2),
            "eps": self.epsilon,
            "weight_decay": self.weight_decay,
        }


class LoraPlusSettings(AdamWSettings):
    """LoRA+: A and B of a pair have learning rates of their own.

    Hayou, Ghosh & Yu 2024, arXiv 2402.12354, section 4: at equal rates, the wider the model, the
    less A and B learn together; B should be faster.
    """

    lora_plus_ratio: float | None = Field(default=None, gt=0)
    """LoRA+: learning rate of B over that of A and of all else; 16 in the paper. Left out, they
    are the same."""

    def rate_of_b(self, learning_rate: float) -> float:
        """Return the learning rate of the pairs' B."""
        return learning_rate * (1.0 if self.lora_plus_ratio is None else self.lora_plus_ratio)

    def groups(
        self, parameters: Mapping[str, torch.nn.Parameter], learning_rate: float
    ) -> list[dict[str, Any]]:
        """Return an optimizer's parameter groups: one, or with LoRA+ a second one for all B."""
        trained = {name: each for name, each in parameters.items() if each.requires_grad}
        if self.lora_plus_ratio is None:
            return [{"params": list(trained.values()), "lr": learning_rate}]
        rates = {False: learning_rate, True: self.rate_of_b(learning_rate)}
        return [
            {"params": [trained[name] for name in trained if (SIDE_B in name) == is_b], "lr": rate}
            for is_b, rate in rates.items()
        ]
