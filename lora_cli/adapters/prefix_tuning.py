"""Prefix tuning. Li and Liang 2021, arXiv 2101.00190, section 4."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from lora_cli.adapters.prompt import PromptSpec, fitted
from lora_cli.adapters.variant import FieldProblem, Setting

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from peft import PeftModel, PrefixTuningConfig


class PrefixTuning(PromptSpec):
    """Trained keys and values in front of those of the input, in every layer.

    They start as the keys and values of real words (section 7.4): the model starts as it is behind
    those words, where random ones would put it out.
    """

    variant: Literal["prefix_tuning"] = "prefix_tuning"
    """The method: trained keys and values in front of the input, in every layer."""
    text: str | None = Field(default=None, min_length=1)
    """Words that the prefix starts as, from the first again where they are too few. Left out,
    random words of the vocabulary."""
    projection_size: int | None = Field(default=None, ge=1)
    """Inner size of a network that makes the keys and values of trained embeddings (section 4.3),
    all of them random at the start. Left out, keys and values are trained themselves."""

    learning_rate: ClassVar[float] = 1e-2

    def problems(self, _setting: Setting) -> Iterator[FieldProblem]:
        """Yield that a network cannot start as words."""
        if self.text is not None and self.projection_size is not None:
            message = "the network of `projection_size` starts at random, not as a text"
            yield FieldProblem("text", message, "leave one of the two out")

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

    def begin(self, model: PeftModel) -> None:
        """Let the prefix start as random words."""
        import torch

        if self.projection_size is None and model.active_peft_config.task_type == "CAUSAL_LM":
            words = model.get_input_embeddings().num_embeddings
            self.put_text(model, torch.randint(words, (self.virtual_tokens,)).tolist())

    def put_text(self, model: PeftModel, token_ids: Sequence[int]) -> None:
        """Let the prefix start as the keys and values of tokens, repeated or cut to fit."""
        import torch

        base = model.get_base_model()
        ids = fitted(token_ids, self.virtual_tokens).to(base.device)
        with torch.no_grad():
            cache = base(input_ids=ids[None], use_cache=True).past_key_values
            pairs = [pair for layer in cache.layers for pair in (layer.keys, layer.values)]
            # (1, heads, tokens, size) of each → (tokens, layers · key and value · heads · size)
            rows: torch.Tensor = torch.cat(pairs).permute(2, 0, 1, 3).flatten(1)
            model.prompt_encoder["default"].embedding.weight.copy_(rows)
