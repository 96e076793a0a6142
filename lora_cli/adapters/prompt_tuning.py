"""Prompt tuning. Lester et al. 2021, arXiv 2104.08691, section 2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from lora_cli.adapters.prompt import PromptSpec, fitted
from lora_cli.adapters.variant import Setting

if TYPE_CHECKING:
    from peft import PeftModel, PromptTuningConfig


class PromptTuning(PromptSpec):
    """Embeddings of words that are no words, in front of every input."""

    variant: Literal["prompt_tuning"] = "prompt_tuning"
    """The method: trained embeddings in front of the input."""
    text: str | None = Field(default=None, min_length=1)
    """Words that the embeddings start as, from the first again where they are too few. Left out,
    random words of the vocabulary."""

    learning_rate: ClassVar[float] = 3e-2

    def trainable_parameters(self, setting: Setting) -> int:
        """Return virtual_tokens·hidden: one embedding each."""
        return self.virtual_tokens * setting.hidden_size

    def peft_config(
        self, _target_modules: list[str], *, task: str = "CAUSAL_LM"
    ) -> PromptTuningConfig:
        """Return peft's configuration."""
        from peft import PromptTuningConfig

        return PromptTuningConfig(
            task_type=task,
            num_virtual_tokens=self.virtual_tokens,
            prompt_tuning_init="SAMPLE_VOCAB",
        )

    def put_text(self, model: PeftModel, token_ids: Sequence[int]) -> None:
        """Let the embeddings start as those of tokens, repeated or cut to fit."""
        import torch

        ids = fitted(token_ids, self.virtual_tokens).to(model.device)
        with torch.no_grad():
            words = model.get_input_embeddings()(ids)
            model.prompt_encoder["default"].embedding.weight.copy_(words)
