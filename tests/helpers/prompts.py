"""Prompt methods on tiny causal models: no module of theirs is adapted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lora_cli.model.adapter import AttachedAdapter
from lora_cli.model.build import AdapterOrder, build_model
from tests.helpers.variants import METHODS, Base


@dataclass(frozen=True)
class Prompted(Base):
    """A tiny causal model that vectors are put in front of."""

    def adapted(self, spec: Any, *, seed: int = 0, steps: int = 20) -> AttachedAdapter:
        """Return the model with new vectors."""
        order = AdapterOrder(spec.settled(self.setting(steps)), [], [], seed)
        return build_model(self.folder, METHODS[self.method], self.options, order).adapter
