"""The capability matrix against reality: every variant on every family and quantization.

A cell is refused with the variant's declared reason, or it trains: the loss falls, an evaluation in
between changes no gradient, and what is saved reloads in plain peft to the same logits.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from lora_cli.model.base import load_base, save_base
from lora_cli.model.build import BuiltModel
from lora_cli.quantization.none import Unquantized
from tests.helpers.cells import METHODS, STEPS, VARIANTS, Cell, cells, save, without_int8_rounding
from tests.helpers.families import FAMILIES, batch, logits
from tests.helpers.runs import PLAIN_PEFT

pytestmark = [PLAIN_PEFT, pytest.mark.usefixtures("bases_loaded_once")]

RATES: dict[str, float] = {
    "vera": 0.05,
    "loha": 0.03,
    "lokr": 0.03,
    "ia3": 0.05,
    "fourierft": 0.3,
    "prompt_tuning": 0.1,
    "p_tuning": 0.01,
    "prefix_tuning": 0.1,
}
"""Learning rates at which 20 steps on random weights show; otherwise 0.01."""
RELOADS_WITHIN = 1e-4


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model folder of each family."""
    return {name: family.write(tmp_path_factory.mktemp(name)) for name, family in FAMILIES.items()}


@pytest.fixture(scope="module")
def counts(request: pytest.FixtureRequest) -> Iterator[Counter[str]]:
    """How many cells train and how many are refused; every one is one or the other."""
    counted: Counter[str] = Counter()
    yield counted
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    if reporter:  # the worker of several processes has none
        reporter.write_line(f"\ncells of the matrix: {dict(counted)}")


ALWAYS = {
    "none": tuple(FAMILIES),
    "nf4": tuple(FAMILIES),
    "fp4": ("llama",),
    "int8": ("llama", "gpt2", "mixtral"),
}
"""The families that every run of the tests tries with a way of holding the base."""


@pytest.mark.parametrize(("name", "variant", "method"), cells(FAMILIES, ALWAYS))
def test_a_cell_works_or_is_refused(
    bases: dict[str, Path],
    counts: Counter[str],
    tmp_path: Path,
    name: str,
    variant: str,
    method: str,
) -> None:
    family = FAMILIES[name]
    cell = TrainedCell(family, bases[name], VARIANTS[variant], METHODS[method])
    if cell.refusal():
        counts["refused"] += 1
        return
    built = cell.build()
    losses = cell.train(built)
    assert losses[-1] < losses[0] - 0.05, f"{losses[0]:.3f} → {losses[-1]:.3f}"
    save(built, tmp_path)
    with without_int8_rounding():
        ours = logits(built.adapter.model, family)
        reloaded = logits(cell.reload(built, tmp_path), family)
    difference = float((reloaded - ours).abs().max())
    assert difference <= RELOADS_WITHIN
    counts["trains and reloads"] += 1


class TrainedCell(Cell):
    """A cell that is trained, and loaded again as its users load it."""

    def train(self, built: BuiltModel) -> list[float]:
        """Take the steps, an evaluation in the middle; return the losses."""
        model, losses = built.adapter.model, []
        parameters = [each for each in model.parameters() if each.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=RATES.get(self.name, 0.01), weight_decay=0.0)
        for step in range(1, STEPS + 1):
            model.train()
            loss = self._backward(model)
            if step == STEPS // 2:
                self._check_evaluation_changes_no_gradient(model, parameters)
            optimizer.step()
            self.spec.after_step(model, step)
            optimizer.zero_grad(set_to_none=True)
            losses.append(loss)
        assert all(map(math.isfinite, losses))
        return losses

    def _backward(self, model: Any) -> float:
        loss = self.family.loss(model, batch())
        loss.backward()
        penalty = self.spec.penalty(model)
        if penalty is not None:
            penalty.backward()
        return float(loss.detach())

    def _check_evaluation_changes_no_gradient(self, model: Any, parameters: list[Any]) -> None:
        before = [each.grad.clone() for each in parameters]
        assert all(gradient.any() for gradient in before), "every tensor learns"
        logits(model, self.family)
        model.train()
        for each in parameters:
            each.grad = None
        self._backward(model)
        for each, gradient in zip(parameters, before, strict=True):
            assert each.grad.equal(gradient)

    def reload(self, built: BuiltModel, adapter: Path) -> Any:
        """Return base and adapter as plain peft loads them."""
        from peft import PeftModel

        base = self.own_base(built, adapter) if built.adapter.own_base else self.fresh_base()
        return PeftModel.from_pretrained(base, adapter)

    def own_base(self, built: BuiltModel, adapter: Path) -> Any:
        """Return the quantized base that nobody else has, written and read again."""
        save_base(built.adapter.model, adapter / "base")
        base = load_base(adapter / "base", Unquantized(), self.options).model
        self.quantization.after_load(base)
        return base
