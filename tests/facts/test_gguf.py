"""A GGUF file's description: written once by content, and an ordinary model folder from then on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lora_cli.errors import PlanError
from lora_cli.facts.base_model import probe_base_model
from lora_cli.facts.gguf import describe_gguf
from lora_cli.facts.model_source import find_model
from lora_cli.facts.tokenizer import load_tokenizer
from tests.helpers.model_folders import write_gguf
from tests.helpers.tiny_models import make_tokenizer


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORACLI_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "tiny.gguf")


def test_a_gguf_is_known_like_any_model(gguf: Path) -> None:
    source = find_model("tiny.gguf", revision=None, base_dir=gguf.parent)
    assert (source.kind, source.weights, source.gguf) == ("gguf", "gguf", gguf)
    base = probe_base_model(source, trust_remote_code=False)
    assert base.architecture == "LlamaForCausalLM"
    assert (base.vocabulary, base.context_length, base.tied_embeddings) == (260, 256, True)
    assert len(base.linears) == 14
    tokenizer = load_tokenizer(source.folder, trust_remote_code=False)
    text = "Hi é😀<|im_end|>\n"
    assert tokenizer(text)["input_ids"] == make_tokenizer()(text)["input_ids"]
    assert tokenizer.chat_template == make_tokenizer().chat_template


def test_a_second_use_parses_nothing(gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = find_model(str(gguf), revision=None, base_dir=gguf.parent)

    def parse(path: Path, _folder: Path) -> None:
        raise AssertionError(f"{path} was parsed again")

    monkeypatch.setattr("lora_cli.facts.gguf._write_description", parse)
    elsewhere = Path(shutil.copy(gguf, gguf.parent / "renamed.gguf"))
    second = find_model(str(elsewhere), revision=None, base_dir=gguf.parent)
    assert second.folder == first.folder
    assert second.fingerprint == first.fingerprint


def test_other_content_has_a_folder_of_its_own(gguf: Path) -> None:
    first = find_model(str(gguf), revision=None, base_dir=gguf.parent)
    with gguf.open("ab") as file:
        file.write(b"\0" * 32)
    second = find_model(str(gguf), revision=None, base_dir=gguf.parent)
    assert second.folder != first.folder
    assert second.fingerprint != first.fingerprint


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"GGU"])
def test_a_file_that_is_no_gguf(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.gguf"
    path.write_bytes(content)
    with pytest.raises(PlanError, match=r"odd\.gguf is not a GGUF file"):
        describe_gguf(path, "0" * 64)


@pytest.mark.parametrize("kept", [4, 30, 1000, 4000, -4000])
def test_a_broken_download_is_an_error_and_leaves_no_folder(gguf: Path, kept: int) -> None:
    gguf.write_bytes(gguf.read_bytes()[:kept])
    with pytest.raises(
        PlanError, match=r"tiny\.gguf is cut short or damaged: its [0-9,]+ bytes"
    ) as caught:
        describe_gguf(gguf, "0" * 64)
    assert caught.value.problems[0].hint.startswith("fetch it again")
    assert list((gguf.parent / "cache/gguf").iterdir()) == []


def test_an_architecture_that_is_not_known(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "odd.gguf", architecture="wavenet")
    with pytest.raises(PlanError, match=r"odd\.gguf cannot be read as a model: .*wavenet"):
        describe_gguf(path, "0" * 64)
