"""How a model's parameters lie in its files: found by transformers' own rules, and put back."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import save_file

from lora_cli.facts.weight_files import SINGLE
from lora_cli.merge.checkpoint import open_checkpoint
from lora_cli.merge.storage import by_parameter, storages, untied
from lora_cli.merge.weightless import load_config, weightless_model
from tests.helpers.adapters import stored
from tests.helpers.families import FAMILIES


@pytest.mark.parametrize("name", FAMILIES)
def test_reading_gives_the_loaded_model_and_splitting_the_files(tmp_path: Path, name: str) -> None:
    family = FAMILIES[name]
    base = family.write(tmp_path)
    model = weightless_model(load_config(base), family.auto_class)
    found, unplaced = storages(model, open_checkpoint(base))
    assert unplaced == []
    loaded = getattr(transformers, family.auto_class).from_pretrained(base, dtype=torch.float32)
    own = dict(loaded.named_parameters())
    assert own.keys() <= by_parameter(found).keys() | model.all_tied_weights_keys.keys()
    files = stored(base)
    written = {}
    for each in found:
        read = each.read()
        assert tuple(read) == each.parameters()
        if each.parameters()[0] in own:
            assert all(tensor.equal(own[parameter]) for parameter, tensor in read.items())
        written |= each.split(read)
    assert written.keys() == files.keys()
    assert all(written[each].equal(tensor) for each, tensor in files.items())


def test_files_without_the_prefix_are_understood(tmp_path: Path) -> None:
    """As the first GPT-2 checkpoints are, which transformers still loads."""
    base = FAMILIES["gpt2"].write(tmp_path)
    held = {name.removeprefix("transformer."): each for name, each in stored(base).items()}
    save_file(held, base / SINGLE)
    model = weightless_model(load_config(base), "AutoModelForCausalLM")
    found, unplaced = storages(model, open_checkpoint(base))
    assert unplaced == []
    weight = by_parameter(found)["transformer.h.0.mlp.c_fc.weight"]
    assert [name for name, _ in weight.written()] == ["h.0.mlp.c_fc.weight"]


def test_what_the_model_has_no_place_for_is_told(tmp_path: Path) -> None:
    base = FAMILIES["llama"].write(tmp_path / "base")
    save_file({**stored(base), "extra": torch.zeros(2)}, base / SINGLE)
    model = weightless_model(load_config(base), "AutoModelForSequenceClassification")
    _, unplaced = storages(model, open_checkpoint(base))
    assert {each.name for each in unplaced} == {"extra", "lm_head.weight"}
    shutil.rmtree(base)


def test_a_tied_parameter_gets_a_storage_under_its_own_name(tmp_path: Path) -> None:
    base = FAMILIES["gpt2"].write(tmp_path)
    model = weightless_model(load_config(base), "AutoModelForCausalLM")
    found, _ = storages(model, open_checkpoint(base))
    shared = by_parameter(found)["transformer.wte.weight"]
    own = untied(shared, "lm_head.weight")
    assert own.key != shared.key
    assert own.read()["lm_head.weight"].equal(shared.read()["transformer.wte.weight"])
    values = torch.randn(61, 64)
    assert own.split({"lm_head.weight": values})["lm_head.weight"] is values
    assert [name for name, _ in own.written()] == ["lm_head.weight"]
