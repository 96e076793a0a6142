"""The card of a folder that has none: what its own files say, and nothing that they do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from lora_cli.errors import MergeError
from lora_cli.merge.model_card import hub_base, model_card


def put(folder: Path, **files: Any) -> Path:
    """Write JSON files by the first part of their names; return the folder."""
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def front_matter(card: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(card.split("---")[1])
    return found


def test_an_adapter_names_its_base_and_how_it_is_loaded(tmp_path: Path) -> None:
    settings = {"peft_type": "LORA", "r": 8, "base_model_name_or_path": "owner/base"}
    card = model_card(put(tmp_path, adapter_config=settings), "me/tuned")
    assert front_matter(card) == {
        "library_name": "peft",
        "base_model": "owner/base",
        "tags": ["lora", "loracli"],
    }
    assert "# tuned\n\nAn adapter (LORA, rank 8) of `owner/base`, made with loracli.\n" in card
    assert 'AutoModelForCausalLM.from_pretrained("owner/base", dtype="auto")' in card
    assert 'PeftModel.from_pretrained(base, "me/tuned")' in card


def test_a_path_is_no_base_that_others_have(tmp_path: Path) -> None:
    settings = {"peft_type": "LORA", "base_model_name_or_path": "/home/me/base"}
    card = model_card(put(tmp_path, adapter_config=settings), "me/tuned")
    assert "base_model" not in front_matter(card)
    assert "/home/me" not in card


def test_a_relative_path_that_looks_like_a_hub_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, adapter_config={"base_model_name_or_path": "models/base"})
    assert hub_base(tmp_path) == "models/base"
    (tmp_path / "models" / "base").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert hub_base(tmp_path) == ""


def test_a_merged_model(tmp_path: Path) -> None:
    folder = put(
        tmp_path,
        config={"architectures": ["LlamaForCausalLM"]},
        merge_report={"base": "owner/base"},
    )
    card = model_card(folder, "me/merged")
    assert front_matter(card)["library_name"] == "transformers"
    assert front_matter(card)["base_model"] == "owner/base"
    assert "A fine-tuned model (LlamaForCausalLM) of `owner/base`" in card
    assert 'AutoModelForCausalLM.from_pretrained("me/merged", dtype="auto")' in card


def test_a_gguf_file(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").touch()
    (tmp_path / "Modelfile").touch()
    card = model_card(tmp_path, "me/served")
    assert front_matter(card) == {"library_name": "gguf", "tags": ["gguf", "loracli"]}
    assert "GGUF (model.gguf), made with loracli" in card
    assert "llama-cli -hf me/served --jinja" in card
    assert "`ollama create`" in card


def test_a_broken_config_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[")
    with pytest.raises(MergeError, match="cannot be read"):
        model_card(tmp_path, "me/merged")
