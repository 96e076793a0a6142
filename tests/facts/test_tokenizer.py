"""The tokenizer of a folder, and what it is whatever the folder is called."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lora_cli.errors import PlanError
from lora_cli.facts.tokenizer import chat_template_sha256, load_tokenizer, tokenizer_sha256
from tests.helpers.tiny_models import make_tokenizer
from tests.helpers.tokenizers import byte_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_tokenizer().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def digest_of(folder: Path) -> str:
    return tokenizer_sha256(load_tokenizer(folder, trust_remote_code=False))


def test_the_digest_is_the_content_and_not_the_place(folder: Path, tmp_path: Path) -> None:
    digest = digest_of(folder)
    shutil.move(folder, tmp_path / "moved")
    assert digest_of(tmp_path / "moved") == digest


def test_using_a_tokenizer_does_not_change_its_digest() -> None:
    tokenizer = make_tokenizer()
    before = tokenizer_sha256(tokenizer)
    tokenizer("some text", add_special_tokens=False)
    assert tokenizer_sha256(tokenizer) == before


def test_other_rules_or_special_tokens_are_another_tokenizer() -> None:
    named = make_tokenizer()
    named.pad_token = "<|endoftext|>"
    tokenizers = [byte_tokenizer(), byte_tokenizer([("a", "b")]), make_tokenizer(), named]
    assert len({tokenizer_sha256(tokenizer) for tokenizer in tokenizers}) == 4


def test_the_chat_template_has_a_digest_of_its_own() -> None:
    one, other, none = (byte_tokenizer(template=text) for text in ("a", "b", None))
    assert chat_template_sha256(one) != chat_template_sha256(other)
    assert chat_template_sha256(none) is None
    several = byte_tokenizer(template=None)
    several.chat_template = {"default": "a", "tool_use": "b"}
    assert chat_template_sha256(several) not in (None, chat_template_sha256(one))


def test_a_tokenizer_without_an_end_is_refused(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    del config["eos_token"]
    path.write_text(json.dumps(config))
    with pytest.raises(PlanError, match="no end-of-sequence token: a model trained with it never"):
        load_tokenizer(folder, trust_remote_code=False)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"model": 3}'])
def test_a_broken_tokenizer_is_an_error_with_its_folder(folder: Path, content: str) -> None:
    (folder / "tokenizer.json").write_text(content)
    with pytest.raises(PlanError, match=f"the tokenizer in {folder} cannot be loaded: ."):
        load_tokenizer(folder, trust_remote_code=False)


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(PlanError) as caught:
        load_tokenizer(tmp_path, trust_remote_code=False)
    (problem,) = caught.value.problems
    assert "one of: (1) a `tokenizers` library serialization file, (2) a slow" in problem.message
    assert "tokenizer.json" in problem.hint
