"""Starts: computed module by module, taken out of the base, kept in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from lora_cli.adapters import Eva, LoftQ, LoraGa, Pissa
from lora_cli.adapters.variant import Factors, Start
from lora_cli.events import Event, Stage, StartsDone
from lora_cli.model import evidence
from lora_cli.model.evidence import Calibration
from lora_cli.model.layers import weight_of
from lora_cli.model.start import compute_starts, load_starts, save_starts, take_from_base
from lora_cli.quantization.bitsandbytes import FourBit
from tests.helpers.families import FAMILIES, batch, mean_loss
from tests.helpers.starts import matrix, product


@pytest.fixture(params=["llama", "gpt2"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A frozen model and the names of its linear layers."""
    family = FAMILIES[request.param]
    model = AutoModelForCausalLM.from_pretrained(family.write(tmp_path)).requires_grad_(False)
    return model, family.modules(model)


def calibration() -> Calibration:
    return Calibration([batch()], mean_loss)


def test_each_module_is_told_of_and_has_its_start(base: Any) -> None:
    model, names = base
    heard: list[Event] = []
    starts = compute_starts(model, Pissa(rank=4), names, report=heard.append)
    assert list(starts) == names
    total = len(names)
    done = [StartsDone(count, total) for count in range(1, total + 1)]
    assert heard == [Stage("computing the adapter's start"), *done]


def test_ranks_and_scalings_are_each_modules_own(base: Any) -> None:
    model, names = base
    leaf = names[0].rpartition(".")[2]
    spec = Pissa(rank=4, rank_pattern={leaf: 2}, alpha_pattern={leaf: 3.0})
    starts = compute_starts(model, spec, names)
    for name, start in starts.items():
        ends = name.endswith(leaf)
        weight = weight_of(model.get_submodule(name))
        assert len(start.first.a) == (2 if ends else 4)
        left, values, right = torch.linalg.svd(weight, full_matrices=False)
        count, scaling = (2, 1.5) if ends else (4, 2.0)
        expected = left[:, :count] * values[:count] @ right[:count]
        torch.testing.assert_close(scaling * product(start.first), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("spec", [Eva(rank=4), LoraGa(rank=4)])
def test_the_groups_that_evidence_is_gathered_in_change_nothing(
    base: Any, spec: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, names = base
    whole = compute_starts(model, spec, names, calibration=calibration())
    monkeypatch.setattr(evidence, "EVIDENCE_BYTES", 1)
    single = compute_starts(model, spec, names, calibration=calibration())
    for name in names:
        mine, other = whole[name].first.a, single[name].first.a
        # signs of singular vectors are free
        torch.testing.assert_close(other.abs(), mine.abs(), atol=1e-3, rtol=0)


def test_what_a_base_will_keep_is_asked_of_the_weight_in_its_own_dtype() -> None:
    """A base in bfloat16 rounds before it quantizes."""
    asked: list[torch.dtype] = []

    def requantized(weight: torch.Tensor) -> torch.Tensor:
        asked.append(weight.dtype)
        return FourBit(method="nf4").requantized(weight)

    model = torch.nn.ModuleDict({"m": torch.nn.Linear(64, 64)}).to(torch.bfloat16)
    starts = compute_starts(model, LoftQ(rank=4), ["m"], requantized=requantized)
    assert asked == [torch.bfloat16]
    assert starts["m"].first.a.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_base_gives_up_the_part_to_the_rounding_of_its_dtype(
    base: Any, dtype: torch.dtype
) -> None:
    model, names = base
    model.to(dtype)
    before = {name: weight_of(model.get_submodule(name)) for name in names}
    spec = Pissa(rank=4)
    starts = compute_starts(model, spec, names)
    take_from_base(model, spec, starts)
    for name in names:
        expected = (before[name] - 2 * product(starts[name].first)).to(dtype).float()
        layer = model.get_submodule(name)
        assert weight_of(layer).equal(expected)
        assert layer.weight.dtype == dtype
        assert not layer.weight.requires_grad


def test_a_start_that_takes_nothing_leaves_the_base(base: Any) -> None:
    model, names = base
    before = {name: each.clone() for name, each in model.state_dict().items()}
    spec = Eva(rank=4)
    take_from_base(model, spec, compute_starts(model, spec, names, calibration=calibration()))
    assert all(each.equal(before[name]) for name, each in model.state_dict().items())


def test_starts_come_back_from_their_file_to_the_bit(tmp_path: Path) -> None:
    def pair(seed: int) -> Factors:
        # as transposed and cut as decompositions leave them
        return Factors(a=matrix(6, 3, seed).T[:2], b=matrix(5, 4, seed)[:, :2])

    both = pair(3)
    starts = {
        "a.first.a": Start(pair(0)),
        "layers.1.q": Start(pair(1), taken=pair(2)),
        "layers.1.v": Start(both, taken=both),
    }
    save_starts(tmp_path / "starts.safetensors", starts)
    found = load_starts(tmp_path / "starts.safetensors")
    assert found.keys() == starts.keys()
    for name, start in starts.items():
        assert found[name].first.a.equal(start.first.a)
        assert found[name].first.b.equal(start.first.b)
    assert found["a.first.a"].taken is None
    for name, seed in (("layers.1.q", 2), ("layers.1.v", 3)):
        taken = found[name].taken
        assert taken is not None
        assert taken.a.equal(pair(seed).a)
        assert taken.b.equal(pair(seed).b)
