"""What stands beside the merged weights, and where nothing may be written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lora_cli.errors import MergeError
from lora_cli.merge.output import tokenizer_files, write_companions


def folder(path: Path, **files: Any) -> Path:
    path.mkdir()
    for name, content in files.items():
        stem, _, ending = name.rpartition("_")
        (path / f"{stem}.{ending}").write_text(json.dumps(content))
    return path


def written(base: Path, adapter: Path, new: Path, **settings: Any) -> dict[str, Any]:
    new.mkdir()
    write_companions(base, adapter, new, settings)
    return {path.name: json.loads(path.read_text()) for path in new.iterdir()}


def test_the_adapters_tokenizer_goes_before_the_bases_as_a_whole(tmp_path: Path) -> None:
    base = folder(
        tmp_path / "base",
        config_json={"a": 1},
        tokenizer_json=1,
        tokenizer_config_json=1,
        vocab_txt=1,
        generation_config_json=1,
        adapter_config_json=1,
        preprocessor_config_json=1,
    )
    (base / "model.safetensors.index.json").write_text("{}")
    (base / "picture.png").touch()
    adapter = folder(tmp_path / "adapter", tokenizer_config_json=2, config_json={"b": 2})
    assert written(base, adapter, tmp_path / "new") == {
        "config.json": {"a": 1},
        "tokenizer_config.json": 2,
        "generation_config.json": 1,
        "preprocessor_config.json": 1,
    }
    bare = folder(tmp_path / "bare", tokenizer_json=2)
    assert written(base, bare, tmp_path / "other")["tokenizer.json"] == 1
    assert [path.name for path in tokenizer_files(adapter)] == ["tokenizer_config.json"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"torch_dtype": "float32"}, {"torch_dtype": "bfloat16", "vocab_size": 9}),
        ({"dtype": "float32"}, {"dtype": "bfloat16", "vocab_size": 9}),
        ({}, {"dtype": "bfloat16", "vocab_size": 9}),
        (
            {"text_config": {"vocab_size": 5, "dtype": "float32"}},
            {"text_config": {"vocab_size": 9, "dtype": "bfloat16"}},
        ),
        (
            {"dtype": "float32", "text_config": {"dtype": "float32", "vocab_size": 5}},
            {"dtype": "bfloat16", "text_config": {"dtype": "bfloat16", "vocab_size": 9}},
        ),
    ],
)
def test_settings_are_put_where_the_config_keeps_them(
    tmp_path: Path, before: dict[str, Any], after: dict[str, Any]
) -> None:
    base = folder(tmp_path / "base", config_json=before)
    adapter = folder(tmp_path / "adapter")
    found = written(base, adapter, tmp_path / "new", dtype="bfloat16", vocab_size=9)
    assert found["config.json"] == after


def test_a_base_without_a_config_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MergeError, match=r"base: has no config\.json"):
        written(folder(tmp_path / "base"), folder(tmp_path / "adapter"), tmp_path / "new")
