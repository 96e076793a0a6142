"""A quantized base trains, is evaluated, and goes on training; its adapter is like any other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lora_cli.engine import run as module
from lora_cli.engine.update import Trainables
from lora_cli.events import Event, StepDone
from tests.helpers.runs import losses_of, metrics_of, plan_of, write_recipe

TinyModel = Callable[[str], Path]
METHODS: dict[str, Any] = {
    "nf4": "nf4",
    "fp4": {"method": "fp4", "double_quantization": False},
    "int8": "int8",
}


@pytest.mark.parametrize(
    ("method", "dtype", "checkpointing"),
    [
        ("nf4", "float32", False),
        ("nf4", "bfloat16", True),
        ("fp4", "bfloat16", False),
        ("int8", "float32", True),
        ("int8", "bfloat16", False),
    ],
)
def test_loss_falls_across_evaluations_and_every_tensor_keeps_learning(
    tmp_path: Path,
    tiny_model: TinyModel,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    dtype: str,
    checkpointing: bool,
) -> None:
    """An evaluation runs forward without gradients, after which a kernel may have changed."""
    plan = plan_of(
        write_recipe(
            tmp_path,
            tiny_model("llama"),
            model={"dtype": dtype},
            quantization=METHODS[method],
            training={
                "steps": 12,
                "learning_rate": 0.03,
                "gradient_checkpointing": checkpointing,
            },
            evaluation={"split": 0.25, "every_steps": 4},
        )
    )
    built: list[Trainables] = []
    build = module.build_trainables

    def note(*arguments: Any) -> Trainables:
        built.append(build(*arguments))
        return built[0]

    monkeypatch.setattr(module, "build_trainables", note)
    after_evaluation: list[torch.Tensor] = []

    def listen(event: Event) -> None:
        if isinstance(event, StepDone) and event.step in (8, 9):
            after_evaluation.append(torch.nn.utils.parameters_to_vector(built[0].parameters()))

    module.run(plan, listen)
    kinds = {type(layer.base_layer).__name__ for layer in layers_of(built[0].model)}
    assert kinds == {"Linear8bitLt" if method == "int8" else "Linear4bit"}
    losses = losses_of(tmp_path / "run")
    assert sum(losses[-3:]) < sum(losses[:3]) - 0.1
    assert len(metrics_of(tmp_path / "run", "evaluation")) == 3
    before, after = after_evaluation
    assert float((before != after).float().mean()) > 0.99, "the step after an evaluation moves all"
    saved = load_file(tmp_path / "run" / "adapter" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in saved.values()} == {torch.float32}
    origin = json.loads((tmp_path / "run" / "adapter" / "loracli.json").read_text("utf-8"))
    assert origin["quantization"]["method"] == method


def layers_of(model: torch.nn.Module) -> list[Any]:
    return [layer for layer in model.modules() if hasattr(layer, "lora_A")]
