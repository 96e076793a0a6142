"""Prefix tuning. Li and Liang 2021, arXiv 2101.00190, section 4."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from lora_cli.adapters.prompt import PromptSpec
from lora_cli.adapters.variant import Setting

if TYPE_CHECKING:
    from peft import PrefixTuningConfig


class PrefixTuning(PromptSpec):
    """Trained keys and values in front of those of the input, in every layer."""

    variant: Literal["prefix_tuning"] = "prefix_tuning"
    """The method: trained keys and values in front of the input, in every layer."""
    projection_size: int | None = Field(default=None, ge=1)
    """Inner size of a network that makes the keys and values of trained embeddings (section 4.3);
    left out, they are trained as they are. Either way, keys and values are what is saved."""

    learning_rate: ClassVar[float] = 1e-2

    def trainable_parameters(self, setting: Setting) -> int:
        """Return tokens·2·layers·keys; with a projection, its embeddings and its two layers."""
        keys, inner = setting.key_value_size, self.projection_size
        outputs = 2 * setting.layers * keys
        if inner is None:
            return self.virtual_tokens * outputs
        return self.virtual_tokens * keys + (keys + 1) * inner + (inner + 1) * outputs

    def peft_config(
        self, _target_modules: list[str], *, task: str = "CAUSAL_LM"
    ) -> PrefixTuningConfig:
        """Return peft's configuration."""
        from peft import PrefixTuningConfig

        return PrefixTuningConfig(
            task_type=task,
            num_virtual_tokens=self.virtual_tokens,
            prefix_projection=self.projection_size is not None,
            encoder_hidden_size=self.projection_size,
        )
