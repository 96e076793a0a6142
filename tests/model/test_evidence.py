"""Inputs and gradients of modules: the figures of plain autograd, and the base left as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from lora_cli.errors import RunError
from lora_cli.model import evidence as module
from lora_cli.model.evidence import Calibration, cut_into_groups, gather
from lora_cli.model.layers import as_out_by_in, weight_of
from lora_cli.tasks.causal_lm import Batch
from tests.helpers.families import FAMILIES, batch, mean_loss


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A frozen model, in training mode, and the names of its linear layers."""
    family = FAMILIES[request.param]
    folder = family.write(tmp_path_factory.mktemp(request.param))
    loaded = AutoModelForCausalLM.from_pretrained(folder).requires_grad_(False).train()
    return loaded, family.modules(loaded)


def padded(rows: Batch, columns: int) -> Batch:
    """Return the rows with more padding on the right."""
    count = len(rows.input_ids)
    more = [torch.full((count, columns), value) for value in (0, 0, -100)]
    held = (rows.input_ids, rows.attention_mask, rows.labels)
    return Batch(*(torch.cat(pair, dim=1) for pair in zip(held, more, strict=True)))


def halves() -> list[Batch]:
    rows = batch()
    return [
        Batch(rows.input_ids[at], rows.attention_mask[at], rows.labels[at])
        for at in (slice(0, 2), slice(2, 4))
    ]


def test_inputs_are_the_mean_over_all_real_tokens(model: Any) -> None:
    """Whatever the batches are cut into and padded to."""
    loaded, names = model
    whole = gather(loaded, "inputs", names, Calibration([batch()], mean_loss))
    parts = [halves()[0], padded(halves()[1], 3)]
    cut = gather(loaded, "inputs", names, Calibration(parts, mean_loss))
    seen: dict[str, torch.Tensor] = {}
    layer = loaded.get_submodule(names[0])
    hook = layer.register_forward_pre_hook(lambda _layer, given: seen.update(inputs=given[0]))
    rows = batch()
    loaded.eval()(input_ids=rows.input_ids, attention_mask=rows.attention_mask)
    hook.remove()
    real = seen["inputs"][rows.attention_mask.bool()]
    assert len(real) == 46
    torch.testing.assert_close(whole[names[0]], real.T @ real / 46, atol=1e-5, rtol=1e-4)
    for name in names:
        torch.testing.assert_close(cut[name], whole[name], atol=1e-4, rtol=1e-3)
        size = weight_of(loaded.get_submodule(name), on_meta=True).shape[1]
        assert whole[name].shape == (size, size)
        assert whole[name].equal(whole[name].T)


def test_gradients_are_autograds_mean_over_the_batches(model: Any) -> None:
    loaded, names = model
    found = gather(loaded, "gradients", names, Calibration(halves(), mean_loss))
    loaded.eval().requires_grad_(True)
    sum(mean_loss(loaded, rows) for rows in halves()).backward()  # type: ignore[union-attr]
    for name in names:
        layer = loaded.get_submodule(name)
        expected = as_out_by_in(layer, layer.weight.grad) / 2
        torch.testing.assert_close(found[name], expected, atol=1e-6, rtol=1e-4)
        assert found[name].shape == weight_of(layer, on_meta=True).shape
    loaded.requires_grad_(False)
    loaded.zero_grad()


@pytest.mark.parametrize("kind", ["inputs", "gradients"])
def test_the_base_is_left_as_it_was(model: Any, kind: Any) -> None:
    loaded, names = model
    loaded.train()
    before = {name: each.clone() for name, each in loaded.state_dict().items()}
    rows = batch()  # seeds
    state = torch.get_rng_state()
    gather(loaded, kind, names, Calibration([rows], mean_loss))
    assert torch.get_rng_state().equal(state), "no dropout is drawn"
    assert loaded.training
    assert not any(each.requires_grad or each.grad is not None for each in loaded.parameters())
    assert all(each.equal(before[name]) for name, each in loaded.state_dict().items())
    assert not any(layer._forward_pre_hooks for layer in loaded.modules())


def test_a_start_that_needs_no_data_gathers_nothing(model: Any) -> None:
    assert gather(*model[:1], "original weights", model[1], None) == {}


def test_groups_are_as_large_as_memory_allows(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, names = model
    assert list(cut_into_groups(loaded, "inputs", names)) == [tuple(names)]
    columns = [weight_of(loaded.get_submodule(name), on_meta=True).shape[1] for name in names]
    monkeypatch.setattr(module, "EVIDENCE_BYTES", 2 * 4 * 64 * 64)
    groups = list(cut_into_groups(loaded, "inputs", names))
    assert [name for group in groups for name in group] == names
    assert max(map(len, groups)) == 2
    of = dict(zip(names, columns, strict=True))
    for group in groups:
        assert len(group) == 1 or sum(4 * of[name] ** 2 for name in group) <= 2 * 4 * 64 * 64
    assert list(cut_into_groups(loaded, "original weights", names)) == [tuple(names)]


class Halves(nn.Module):
    """Two layers, of which one is never reached."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.used(inputs)
        return found


class Rows:
    """A batch of inputs, all of them real."""

    def __init__(self, value: float = 1.0) -> None:
        self.inputs = torch.full((3, 4), value)
        self.attention_mask = torch.ones(3, 1)


def run(model: Any, rows: Any) -> torch.Tensor:
    found: torch.Tensor = model(rows.inputs).sum()
    return found


@pytest.mark.parametrize("kind", ["inputs", "gradients"])
def test_a_module_that_no_row_reaches_is_named(kind: Any) -> None:
    with pytest.raises(RunError, match=r"no calibration row reaches `unused`.*calibration_rows"):
        gather(Halves(), kind, ["used", "unused"], Calibration([Rows()], run))


@pytest.mark.parametrize("kind", ["inputs", "gradients"])
def test_what_is_not_finite_is_named(kind: Any) -> None:
    with pytest.raises(RunError, match=rf"the {kind} of `used` are not finite"):
        gather(Halves(), kind, ["used"], Calibration([Rows(float("inf"))], run))


class Shared(nn.Module):
    """Layers that get one tensor, as q, k and v do, of which the last gets it changed in place."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(4, 4) for _ in "qkv")

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        held = inputs.clone()
        found: torch.Tensor = self.q(held) + self.k(held)
        return found + self.v(held.add_(1))


def test_a_tensor_that_several_modules_get_is_each_modules_own() -> None:
    calibration = Calibration([Rows(1.0), Rows(2.0)], run)
    found = gather(Shared(), "inputs", ["q", "k", "v"], calibration)
    for name, mean in (("q", (1 + 4) / 2), ("k", (1 + 4) / 2), ("v", (4 + 9) / 2)):
        torch.testing.assert_close(found[name], torch.full((4, 4), mean))
