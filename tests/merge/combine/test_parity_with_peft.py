"""Combining on ΔW is what peft's `…_svd` kinds and `cat` do; what its other kinds do is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from peft.utils import merge_utils
from transformers import AutoModelForCausalLM

from lora_cli.merge.combine.choices import Method
from lora_cli.merge.combine.combine import combine_adapters
from lora_cli.merge.combine.methods import drop_and_rescale
from lora_cli.merge.combine.options import CombineOptions
from tests.helpers.adapters import TARGETS, make_adapter
from tests.helpers.changes import changes_of
from tests.helpers.runs import PLAIN_PEFT

pytestmark = [
    PLAIN_PEFT,
    pytest.mark.filterwarnings("ignore:The density 1.0 is greater than or equal to 1"),
]
TinyModel = Callable[[str], Path]
Changes = dict[str, torch.Tensor]

NEAR = 1e-4
"""Of entries of the size of 1: float32, cut between singular values that are near each other."""

KINDS: list[tuple[str, dict[str, Any]]] = [
    ("cat", {"method": "cat"}),
    ("cat", {"method": "linear"}),
    ("svd", {"method": "svd"}),
    ("magnitude_prune_svd", {"method": "magnitude_prune", "density": 0.3}),
    ("ties_svd", {"method": "ties", "density": 0.3}),
    ("ties_svd", {"method": "ties", "density": 1.0}),
    ("ties_svd", {"method": "ties", "density": 0.3, "majority_sign_method": "frequency"}),
]


class InPeft:
    """A model with adapters on it, which peft combines in its own way."""

    def __init__(self, base: Path, adapters: list[Path]) -> None:
        model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        self.adapters = adapters
        self._names = [f"a{index}" for index in range(len(adapters))]
        self._model = PeftModel.from_pretrained(model, adapters[0], adapter_name=self._names[0])
        for name, adapter in zip(self._names[1:], adapters[1:], strict=True):
            self._model.load_adapter(adapter, adapter_name=name)

    def combined(self, weights: list[float], **options: Any) -> Changes:
        """Return ΔW by module after peft's own combination of the first adapters."""
        self._model.add_weighted_adapter(self._names[: len(weights)], weights, "all", **options)
        changes = {
            name.removeprefix("base_model.model."): layer.get_delta_weight("all")
            for name, layer in self._model.named_modules()
            if "all" in getattr(layer, "lora_A", {})
        }
        self._model.delete_adapter("all")
        return changes


def assert_same(ours: Changes, theirs: Changes) -> None:
    assert ours.keys() == theirs.keys()
    for name, change in ours.items():
        torch.testing.assert_close(change, theirs[name], atol=NEAR, rtol=0)


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def three(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tiny_model: TinyModel
) -> InPeft:
    """Return adapters of other ranks, scalings and targets; one with patterns, one with rsLoRA."""
    folder, targets = tmp_path_factory.mktemp("adapters"), TARGETS[request.param]
    base, turned = tiny_model(request.param), {"fan_in_fan_out": request.param == "gpt2"}
    pattern = {targets[-1]: 2}
    return InPeft(
        base,
        [
            make_adapter(folder / "a", base, targets, seed=1, r=4, lora_alpha=6, **turned),
            make_adapter(folder / "b", base, targets[:2], seed=2, r=6, use_rslora=True, **turned),
            make_adapter(
                folder / "c", base, targets[1:], seed=3, r=3, rank_pattern=pattern, **turned
            ),
        ],
    )


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, tiny_model: TinyModel) -> InPeft:
    """Return two adapters that differ in their values alone."""
    folder, base = tmp_path_factory.mktemp("adapters"), tiny_model("llama")
    return InPeft(
        base,
        [make_adapter(folder / f"{seed}", base, ["q_proj"], seed=seed) for seed in (1, 2)],
    )


def as_peft_has_it(changes: Changes) -> Changes:
    """Return ΔWs as peft gives them: GPT-2's lie the other way round."""
    return {
        name: change.T if name.startswith("transformer.") else change
        for name, change in changes.items()
    }


@pytest.mark.parametrize(("kind", "options"), KINDS, ids=str)
def test_the_combination_is_that_of_pefts_kind_on_the_same_space(
    tmp_path: Path, three: InPeft, kind: str, options: dict[str, Any]
) -> None:
    weights = [0.7, -0.4, 1.0]
    ours = CombineOptions(weights=tuple(weights), **options)
    combine_adapters(three.adapters, tmp_path / "all", ours)
    peft_options = {key: value for key, value in options.items() if key != "method"}
    theirs = three.combined(weights, combination_type=kind, **peft_options)
    assert_same(as_peft_has_it(changes_of(tmp_path / "all")), theirs)


@pytest.mark.parametrize("rank", [1, 5])
def test_a_rank_is_pefts_rank(tmp_path: Path, three: InPeft, rank: int) -> None:
    combine_adapters(three.adapters[:2], tmp_path / "all", CombineOptions(method="svd", rank=rank))
    theirs = three.combined([1.0, 1.0], combination_type="svd", svd_rank=rank)
    assert_same(as_peft_has_it(changes_of(tmp_path / "all")), theirs)


@pytest.mark.parametrize("method", ["dare_linear", "dare_ties"])
def test_what_dare_drops_aside_the_combination_is_pefts(
    tmp_path: Path, two: InPeft, monkeypatch: pytest.MonkeyPatch, method: Method
) -> None:
    """peft draws from the global generator, so it is given what is drawn here."""
    options = CombineOptions(method=method, density=0.4, seed=7, rank=32)
    combine_adapters(two.adapters, tmp_path / "all", options)
    places = [
        f"7:model.layers.{layer}.self_attn.q_proj:{position}"
        for layer in (0, 1)
        for position in (0, 1)
    ]
    drawn = iter(places)

    def random_pruning(change: torch.Tensor, density: float, rescale: bool) -> torch.Tensor:
        assert rescale
        return drop_and_rescale(change, density, next(drawn))

    monkeypatch.setattr(merge_utils, "random_pruning", random_pruning)
    theirs = two.combined([1.0, 1.0], combination_type=f"{method}_svd", density=0.4, svd_rank=32)
    assert next(drawn, None) is None
    assert_same(changes_of(tmp_path / "all"), theirs)


@pytest.mark.parametrize("kind", ["linear", "ties"])
def test_pefts_kinds_on_the_factors_are_another_matrix(
    tmp_path: Path, two: InPeft, kind: Method
) -> None:
    """The docs say so: A's and B's combined each for itself have cross terms."""
    density = {} if kind == "linear" else {"density": 1.0}
    options = CombineOptions(method=kind, rank=32 if density else None, **density)
    combine_adapters(two.adapters, tmp_path / "all", options)
    theirs = two.combined([1.0, 1.0], combination_type=kind, **density)
    for name, change in changes_of(tmp_path / "all").items():
        assert (change - theirs[name]).norm() > 0.3 * change.norm()
