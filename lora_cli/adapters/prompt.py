"""Variants that train vectors in front of the input and adapt no module.

peft calls them prompt learning. This module does not know how a batch is scored (`tasks`) or how
answers are generated (`engine.answers`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from lora_cli.adapters.capability import Capability
from lora_cli.adapters.trained import put_trained_tensors, trained_tensors
from lora_cli.adapters.variant import Factors, SavedAdapter, VariantSpec

if TYPE_CHECKING:
    import torch
    from peft import PeftModel


class PromptSpec(VariantSpec):
    """Fields shared by the variants that train vectors in front of the input."""

    virtual_tokens: int = Field(default=20, ge=1)
    """Trained positions in front of the input; they take up the model's context."""

    capability: ClassVar[Capability] = Capability(
        merge="there is no weight to merge into: load it with peft", exports="none"
    )

    def summary(self) -> str:
        """Return the variant and its virtual tokens."""
        return f"{self.variant}, {self.virtual_tokens} virtual tokens"

    def state(self, model: PeftModel) -> dict[str, torch.Tensor]:
        """Return the trained tensors: those that make the vectors, and not the vectors alone."""
        return trained_tensors(model)

    def load_state(self, model: PeftModel, state: Mapping[str, torch.Tensor]) -> None:
        """Put the tensors of `state` back."""
        put_trained_tensors(model, state)

    def saved(self, model: PeftModel, _taken: Mapping[str, Factors]) -> SavedAdapter:
        """Return the vectors as they are in the end, whatever made them."""
        from peft import get_peft_model_state_dict

        tensors = get_peft_model_state_dict(model, save_embedding_layers=False)
        return SavedAdapter(model.peft_config["default"], dict(tensors))


def fitted(token_ids: Sequence[int], count: int) -> torch.Tensor:
    """Return `count` tokens: from the first again where there are fewer, or cut."""
    import torch

    times = -(-count // len(token_ids))
    return torch.tensor([*token_ids] * times)[:count]
