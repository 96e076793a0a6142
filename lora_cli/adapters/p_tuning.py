"""P-tuning. Liu et al. 2021, arXiv 2103.10385."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field

from lora_cli.adapters.prompt import PromptSpec
from lora_cli.adapters.variant import Setting

if TYPE_CHECKING:
    from peft import PromptEncoderConfig


class PTuning(PromptSpec):
    """Embeddings in front of the input that a small network makes, so that they depend on another.

    Saved are the embeddings alone.
    """

    variant: Literal["p_tuning"] = "p_tuning"
    """The method: embeddings in front of the input, made by a small network."""
    encoder: Literal["mlp", "lstm"] = "mlp"
    """The network: three linear layers, or a two-way LSTM with two linear layers after it."""
    encoder_size: int | None = Field(default=None, ge=1)
    """Inner size of the network; left out, the model's hidden size."""

    learning_rate: ClassVar[float] = 1e-3

    def settled(self, setting: Setting) -> Self:
        """Return it with the network's size filled in."""
        return self.model_copy(update={"encoder_size": self.encoder_size or setting.hidden_size})

    def trainable_parameters(self, setting: Setting) -> int:
        """Return what the embeddings hold, and the network that they go through."""
        hidden, inner = setting.hidden_size, self.encoder_size or setting.hidden_size
        embeddings = self.virtual_tokens * hidden
        if self.encoder == "mlp":
            return (
                embeddings + _linear(hidden, inner) + _linear(inner, inner) + _linear(inner, hidden)
            )
        head = _linear(2 * inner, 2 * inner) + _linear(2 * inner, hidden)
        return embeddings + _lstm(hidden, inner) + _lstm(2 * inner, inner) + head

    def peft_config(
        self, _target_modules: list[str], *, task: str = "CAUSAL_LM"
    ) -> PromptEncoderConfig:
        """Return peft's configuration."""
        from peft import PromptEncoderConfig

        return PromptEncoderConfig(
            task_type=task,
            num_virtual_tokens=self.virtual_tokens,
            encoder_reparameterization_type=self.encoder.upper(),
            encoder_hidden_size=self.encoder_size,
        )


def _linear(inputs: int, outputs: int) -> int:
    return (inputs + 1) * outputs


def _lstm(inputs: int, inner: int) -> int:
    """Return the numbers of one two-way layer: four gates, each with two biases."""
    return 2 * 4 * inner * (inputs + inner + 2)
