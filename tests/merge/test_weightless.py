"""Models without weights: shaped as the true ones, and next to no memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers

from lora_cli.errors import MergeError
from lora_cli.merge.weightless import (
    holding,
    load_config,
    make_room,
    set_apart,
    weightless_model,
)
from tests.helpers.families import FAMILIES


@pytest.mark.parametrize("name", FAMILIES)
def test_every_parameter_has_its_shape_and_no_memory(name: str) -> None:
    family = FAMILIES[name]
    config = family.config()
    model = weightless_model(config, family.auto_class)
    true = getattr(transformers, family.auto_class).from_config(config)
    shapes = {each: tensor.shape for each, tensor in true.state_dict().items()}
    assert {each: tensor.shape for each, tensor in model.state_dict().items()} == shapes
    parameters = list(model.parameters())
    assert sum(each.untyped_storage().nbytes() for each in parameters) == 4 * len(parameters)
    assert all(each.isnan().all() for each in parameters)
    own, theirs = dict(model.named_buffers()), dict(true.named_buffers())
    assert own.keys() == theirs.keys()
    assert all(own[each].equal(buffer) for each, buffer in theirs.items())
    assert not any(each.is_meta for each in [*model.parameters(), *model.buffers()])
    assert not model.training


def test_tied_parameters_are_one_until_they_are_set_apart() -> None:
    model = weightless_model(FAMILIES["gpt2"].config(), "AutoModelForCausalLM")
    assert model.lm_head.weight is model.transformer.wte.weight
    set_apart(model.lm_head, "weight")
    assert model.lm_head.weight is not model.transformer.wte.weight
    assert model.lm_head.weight.shape == (61, 64)


def test_a_parameter_with_room_can_be_written_to() -> None:
    model = weightless_model(FAMILIES["llama"].config(), "AutoModelForCausalLM")
    make_room(model, "lm_head.weight")
    model.lm_head.weight.data[3, 4] = 5.0
    assert int(model.lm_head.weight.count_nonzero()) == 1


def test_true_weights_are_taken_out_again_whatever_happens() -> None:
    model = weightless_model(FAMILIES["llama"].config(), "AutoModelForCausalLM")
    weight = torch.randn(61, 64)

    def fail() -> None:
        with holding(model.lm_head, {"weight": weight}):
            assert model.lm_head.weight.data is not None
            assert model.lm_head.weight.equal(weight)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert model.lm_head.weight.isnan().all()


@pytest.mark.parametrize(
    "content",
    ['{"model_type": "unheard-of"}', "{}", "[]", "{", '{"model_type": "llama", "vocab_size": "x"}'],
)
def test_a_config_that_describes_no_model_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(MergeError, match=r"its config (cannot be used|builds no model)"):
        weightless_model(load_config(tmp_path), "AutoModelForCausalLM")


def test_a_model_with_code_of_its_own_runs_none_of_it(tmp_path: Path) -> None:
    config = {
        **FAMILIES["llama"].config().to_dict(),
        "model_type": "own",
        "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Own"},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(MergeError, match="its config cannot be used"):
        load_config(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_class_that_the_architecture_has_not_is_an_error() -> None:
    with pytest.raises(MergeError, match="its config builds no model ForCausalLM"):
        weightless_model(FAMILIES["t5"].config(), "AutoModelForCausalLM")
