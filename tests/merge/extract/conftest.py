"""Fully tuned models: tiny ones, with noise on what was tuned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

Tune = Callable[..., Path]


@pytest.fixture
def tune(tmp_path: Path, tiny_model: Callable[[str], Path]) -> Tune:
    """Return a function that writes a copy of a tiny model with noise on some of its tensors.

    `names` are parts of the names of the tensors; other options are those of `save_pretrained`.
    """

    def write(architecture: str, *names: str, size: float = 0.05, **save: Any) -> Path:
        model = AutoModelForCausalLM.from_pretrained(tiny_model(architecture), dtype=torch.float32)
        torch.manual_seed(1)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if any(part in name for part in names):
                    parameter.add_(size * torch.randn_like(parameter))
        folder = tmp_path / "tuned"
        model.save_pretrained(folder, **save)
        return folder

    return write
