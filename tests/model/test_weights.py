"""A planned model's weights, in a local folder: fetched, or dequantised once and for all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from safetensors.torch import load_file

from lora_cli.errors import RunError
from lora_cli.facts.model_source import find_model
from lora_cli.files import sha256_of_file
from lora_cli.model import weights as module
from lora_cli.model.base import BaseOptions, load_base
from lora_cli.model.weights import fetch_weights
from lora_cli.quantization.none import Unquantized
from tests.helpers.model_folders import write_gguf

TinyModel = Callable[[str], Path]
VOCABULARY, HIDDEN, INNER, KEYS = 260, 32, 64, 16


def tensors(kind: Kind) -> dict[str, Any]:
    """Return all weights of the tiny llama that `write_gguf` describes, matrices of this kind."""
    generator = np.random.default_rng(0)
    shapes = {"token_embd": (VOCABULARY, HIDDEN), "output_norm": (HIDDEN,)}
    for layer in (0, 1):
        shapes |= {
            f"blk.{layer}.attn_norm": (HIDDEN,),
            f"blk.{layer}.ffn_norm": (HIDDEN,),
            f"blk.{layer}.attn_q": (HIDDEN, HIDDEN),
            f"blk.{layer}.attn_k": (KEYS, HIDDEN),
            f"blk.{layer}.attn_v": (KEYS, HIDDEN),
            f"blk.{layer}.attn_output": (HIDDEN, HIDDEN),
            f"blk.{layer}.ffn_gate": (INNER, HIDDEN),
            f"blk.{layer}.ffn_up": (INNER, HIDDEN),
            f"blk.{layer}.ffn_down": (HIDDEN, INNER),
        }
    return {
        f"{name}.weight": (
            generator.standard_normal(shape).astype(np.float32),
            kind if len(shape) == 2 else Kind.F32,
        )
        for name, shape in shapes.items()
    }


def fetch(gguf: Path) -> Path:
    """Find the model and fetch its weights, as a run does."""
    source = find_model(str(gguf), revision=None, base_dir=gguf.parent)
    return fetch_weights("gguf", source.folder, name="", revision="", gguf=gguf, allow_pickle=False)


@pytest.fixture
def gguf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny llama in 8 bits, and a cache of this test's own."""
    monkeypatch.setenv("LORACLI_CACHE", str(tmp_path / "cache"))
    return write_gguf(tmp_path / "tiny.gguf", tensors=tensors(Kind.Q8_0))


def test_dequantised_weights_are_those_of_the_file(gguf: Path) -> None:
    held = load_file(fetch(gguf) / "model.safetensors")
    assert {tensor.dtype for tensor in held.values()} == {torch.bfloat16}
    for name, ours in (
        ("token_embd", "model.embed_tokens"),
        ("blk.1.attn_v", "model.layers.1.self_attn.v_proj"),
        ("blk.0.ffn_down", "model.layers.0.mlp.down_proj"),
    ):
        values, _ = tensors(Kind.Q8_0)[f"{name}.weight"]
        found = held[f"{ours}.weight"].float().numpy()
        assert found.shape == values.shape
        assert np.abs(found - values).max() < 0.03, "8 bits and bfloat16's rounding"
    norm, _ = tensors(Kind.Q8_0)["output_norm.weight"]
    assert np.allclose(held["model.norm.weight"].float().numpy(), norm, rtol=2**-8)


@pytest.mark.parametrize("kind", [Kind.F16, Kind.F32])
def test_weights_that_were_never_quantized_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    monkeypatch.setenv("LORACLI_CACHE", str(tmp_path / "cache"))
    gguf = write_gguf(tmp_path / "tiny.gguf", tensors=tensors(kind))
    held = load_file(fetch(gguf) / "model.safetensors")
    values, _ = tensors(kind)["blk.0.attn_v.weight"]
    exact = values.astype(np.float16) if kind is Kind.F16 else values
    assert held["model.layers.0.self_attn.v_proj.weight"].numpy().tolist() == exact.tolist()


def test_the_folder_is_a_model_like_any_other(gguf: Path) -> None:
    folder = fetch(gguf)
    options = BaseOptions("float32", "sdpa", "cpu", trust_remote_code=False, allow_pickle=False)
    loaded = load_base(folder, Unquantized(), options)
    assert loaded.unused == ()
    held = load_file(folder / "model.safetensors")["model.embed_tokens.weight"].float()
    assert loaded.model.get_input_embeddings().weight.equal(held)
    modes = {(folder / name).stat().st_mode for name in ("config.json", "model.safetensors")}
    assert len(modes) == 1, "whoever may read the one may read the other"


def test_a_second_start_dequantises_nothing(gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fetch(gguf)
    before = (first / "model.safetensors").stat()

    def dequantise(*_: object) -> None:
        raise AssertionError("it was dequantised again")

    monkeypatch.setattr(module, "_load_gguf", dequantise)
    assert fetch(gguf) == first
    assert fetch(Path(shutil.copy(gguf, gguf.parent / "renamed.gguf"))) == first
    assert (first / "model.safetensors").stat().st_mtime_ns == before.st_mtime_ns


def test_dequantising_twice_gives_the_same_bytes(
    gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = sha256_of_file(fetch(gguf) / "model.safetensors")
    monkeypatch.setenv("LORACLI_CACHE", str(tmp_path / "another"))
    assert sha256_of_file(fetch(gguf) / "model.safetensors") == one


@pytest.mark.parametrize("moment", ["os.fsync", "pathlib.Path.replace"])
def test_what_is_broken_off_looks_unfinished(
    gguf: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    source = find_model(str(gguf), revision=None, base_dir=gguf.parent)
    before = sorted(path.name for path in source.folder.iterdir())

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(moment, crash)
        with pytest.raises(KeyboardInterrupt):
            fetch(gguf)
    assert sorted(path.name for path in source.folder.iterdir()) == before
    assert (fetch(gguf) / "model.safetensors").is_file()


def test_a_file_that_has_gone_is_named_unless_it_is_not_needed(gguf: Path) -> None:
    source = find_model(str(gguf), revision=None, base_dir=gguf.parent)
    moved = gguf.rename(gguf.parent / "moved")
    ask = {"name": "", "revision": "", "gguf": gguf, "allow_pickle": False}
    with pytest.raises(RunError, match=r"tiny\.gguf: has gone since the plan was made"):
        fetch_weights("gguf", source.folder, **ask)
    moved.rename(gguf)
    fetch(gguf)
    gguf.unlink()
    assert fetch_weights("gguf", source.folder, **ask) == source.folder


def test_missing_tensors_are_not_made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORACLI_CACHE", str(tmp_path / "cache"))
    fewer = tensors(Kind.Q8_0)
    del fewer["blk.1.ffn_up.weight"]
    gguf = write_gguf(tmp_path / "tiny.gguf", tensors=fewer)
    with pytest.raises(
        RunError,
        match=r"lacks tensors of the model: 1 in all, the first `model\.layers\.1\.mlp\.up",
    ):
        fetch(gguf)


def test_a_file_cut_in_its_weights_is_an_error(gguf: Path) -> None:
    source = find_model(str(gguf), revision=None, base_dir=gguf.parent)
    gguf.write_bytes(gguf.read_bytes()[:-2000])
    ask = {"name": "", "revision": "", "gguf": gguf, "allow_pickle": False}
    with pytest.raises(RunError, match=r"tiny\.gguf: cannot be dequantised: ."):
        fetch_weights("gguf", source.folder, **ask)
    assert not (source.folder / "model.safetensors").exists()


def test_a_folder_is_used_where_it_lies(tmp_path: Path) -> None:
    ask = {"name": "", "revision": "", "gguf": None, "allow_pickle": False}
    assert fetch_weights("folder", tmp_path, **ask) == tmp_path


@pytest.mark.parametrize("allow_pickle", [True, False])
def test_the_hub_is_asked_for_pickle_only_where_it_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allow_pickle: bool
) -> None:
    asked: list[Any] = []

    def download(*arguments: Any) -> str:
        asked.extend(arguments)
        return str(tmp_path)

    monkeypatch.setattr(module, "download", download)
    folder = fetch_weights(
        "hub",
        Path("config-only"),
        name="owner/model",
        revision="0123abc",
        gguf=None,
        allow_pickle=allow_pickle,
    )
    assert folder == tmp_path
    name, revision, patterns = asked
    assert (name, revision) == ("owner/model", "0123abc")
    assert "*.safetensors" in patterns
    assert ("*.bin" in patterns) is allow_pickle
