"""What is asked: a run's own rows, or texts of all kinds, as far as the model takes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoTokenizer

from lora_cli.merge.adapter_folder import read_adapter
from lora_cli.merge.probes import NUMBERED_TOKENS, TEXTS, probes_for
from tests.helpers.runs import PLAIN_PEFT

pytestmark = PLAIN_PEFT
TinyModel = Callable[[str], Path]


def config_of(base: Path, **changes: Any) -> Any:
    config = AutoConfig.from_pretrained(base)
    for key, value in changes.items():
        setattr(config, key, value)
    return config


def test_a_run_is_asked_its_own_rows(adapter: Path, tmp_path: Path, tiny_model: TinyModel) -> None:
    config = config_of(tiny_model("llama"))

    def asked() -> list[list[int]]:
        probes = probes_for(read_adapter(adapter), config)
        pairs = zip(probes.input_ids, probes.attention_mask, strict=True)
        return [ids[mask.bool()].tolist() for ids, mask in pairs]

    file = tmp_path / "probes.json"
    rows = [[1, number, 3][: number % 2 + 2] for number in range(10, 20)]
    file.write_text(json.dumps([rows[0], *rows, []]))
    assert asked() == rows[:7], "each once, no more than eight"
    file.write_text(json.dumps([list(range(100))]))
    assert asked() == [list(range(36, 100))]


@pytest.mark.parametrize("text", ["no JSON", "[1, 2]", "5", '[["a"]]', "[[-1]]", "[[]]", "[]"])
def test_a_file_of_rows_that_is_no_run_s_is_passed_over(
    adapter: Path, tmp_path: Path, tiny_model: TinyModel, text: str
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model("llama"))
    tokenizer.save_pretrained(adapter)
    (tmp_path / "probes.json").write_text(text)
    probes = probes_for(read_adapter(adapter), config_of(tiny_model("llama")))
    if text != "[[]]":
        pairs = zip(probes.input_ids, probes.attention_mask, strict=True)
        assert [tokenizer.decode(ids[mask.bool()]) for ids, mask in pairs] == list(TEXTS)
    assert len(probes.input_ids) == len(TEXTS)


def test_probes_fit_the_model(adapter: Path, tiny_model: TinyModel) -> None:
    config = config_of(tiny_model("llama"), max_position_embeddings=16, vocab_size=50)
    probes = probes_for(read_adapter(adapter), config)
    assert probes.input_ids.shape == (len(TEXTS), 16)
    assert int(probes.input_ids.max()) < 50
    AutoTokenizer.from_pretrained(tiny_model("llama")).save_pretrained(adapter)
    few = config_of(tiny_model("llama"), vocab_size=2)  # the tokenizer is for another model
    probes = probes_for(read_adapter(adapter), few)
    assert probes.input_ids.shape == (len(TEXTS), NUMBERED_TOKENS)


def test_a_tokenizer_that_cannot_be_loaded_is_done_without(
    adapter: Path, tiny_model: TinyModel
) -> None:
    (adapter / "tokenizer_config.json").write_text('{"tokenizer_class": "NoSuchTokenizer"}')
    probes = probes_for(read_adapter(adapter), config_of(tiny_model("llama")))
    assert len(probes.input_ids) == len(TEXTS)
