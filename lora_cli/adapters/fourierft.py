"""FourierFT: a sparse spectrum of the update. Gao et al. 2024, arXiv 2405.03003, section 3."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from lora_cli.adapters.capability import Capability
from lora_cli.adapters.targeted import TargetedSpec
from lora_cli.adapters.variant import FieldProblem, Setting

if TYPE_CHECKING:
    from peft import FourierFTConfig


class FourierFt(TargetedSpec):
    """W' = W + scaling·Re(F⁻¹(c)): c is zero but at `frequencies` random places.

    The values at those places are trained. They start at zero here and not at random as in the
    paper: at the paper's scaling, a random spectrum moves a small layer far off.
    """

    variant: Literal["fourierft"] = "fourierft"
    """The method: the inverse Fourier transform of a few trained frequencies."""
    frequencies: int = Field(default=1000, ge=1)
    """Trained frequencies of each module."""
    scaling: float = Field(default=300.0, gt=0)
    """What the transform is multiplied by; 300 is the paper's for language models."""

    capability: ClassVar[Capability] = Capability(exports="approximation")
    learning_rate: ClassVar[float] = 3e-2

    def problems(self, setting: Setting) -> Iterator[FieldProblem]:
        """Yield that a module has fewer frequencies than are asked for."""
        smallest = min(setting.modules, key=lambda each: each.in_features * each.out_features)
        most = smallest.in_features * smallest.out_features
        if self.frequencies > most:
            message = f"{self.frequencies:,} frequencies are over the {most:,} of `{smallest.name}`"
            yield FieldProblem("frequencies", message, f"use at most {most}")

    def trainable_parameters(self, setting: Setting) -> int:
        """Return `frequencies` times the modules."""
        return self.frequencies * len(setting.modules)

    def summary(self) -> str:
        """Return variant, frequencies and scaling."""
        return f"fourierft, {self.frequencies:,} frequencies, scaling {self.scaling:g}"

    def peft_config(self, target_modules: list[str], *, task: str = "CAUSAL_LM") -> FourierFTConfig:
        """Return peft's configuration for exactly these modules."""
        from peft import FourierFTConfig

        return FourierFTConfig(
            task_type=task,
            target_modules=target_modules,
            n_frequency=self.frequencies,
            scaling=self.scaling,
            init_weights=True,
        )
