"""An adapter's folder: every tensor has its place, and the base is the one it was trained on."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lora_cli.errors import MergeError
from lora_cli.facts.model_source import find_model
from lora_cli.merge.adapter_folder import Update, find_adapter, pairs_of, read_adapter
from lora_cli.merge.base import find_base
from tests.helpers.adapters import change_config, change_tensors, make_adapter
from tests.helpers.runs import PLAIN_PEFT

pytestmark = PLAIN_PEFT
TinyModel = Callable[[str], Path]
MODULE = "model.layers.0.self_attn.q_proj"
A = f"base_model.model.{MODULE}.lora_A.weight"
B = f"base_model.model.{MODULE}.lora_B.weight"


@pytest.fixture
def adapter(tmp_path: Path, tiny_model: TinyModel) -> Path:
    """A plain adapter on the q_proj of both layers."""
    return make_adapter(tmp_path / "adapter", tiny_model("llama"), ["q_proj"])


def updates_of(adapter: Path) -> dict[str, Update]:
    read = read_adapter(adapter)
    return pairs_of(read.tensors, read.config)


def base_of(adapter: Path) -> Path:
    read = read_adapter(adapter)
    return find_base(read.config, read.origin).folder


def updates_and_base(adapter: Path) -> tuple[dict[str, Update], Path]:
    return updates_of(adapter), base_of(adapter)


def refusal(adapter: Path) -> str:
    with pytest.raises(MergeError) as caught:
        updates_and_base(adapter)
    assert caught.value.exit_code == 1
    return str(caught.value)


def test_every_pair_is_read_with_its_scaling(adapter: Path, tiny_model: TinyModel) -> None:
    read = read_adapter(adapter)
    assert (read.path, read.method, read.quantization) == (adapter, "LORA", "none")
    assert base_of(adapter) == tiny_model("llama").resolve()
    updates = updates_of(adapter)
    assert list(updates) == [MODULE, MODULE.replace("layers.0", "layers.1")]
    update = updates[MODULE]
    assert (tuple(update.lora_a.shape), tuple(update.lora_b.shape)) == ((4, 32), (32, 4))
    assert update.scaling == 2.0


def test_ranks_and_alphas_by_pattern_are_pefts_own(tmp_path: Path, tiny_model: TinyModel) -> None:
    patterns = {"rank_pattern": {r"layers\.0\..*q_proj": 2}, "alpha_pattern": {"layers.1.*": 4}}
    adapter = make_adapter(tmp_path / "adapter", tiny_model("llama"), ["q_proj"], **patterns)
    scalings = [update.scaling for update in updates_of(adapter).values()]
    assert scalings == [8 / 2, 4 / 4]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda t: t.update(extra=torch.zeros(1)),
            "1 of 5 tensors would be lost, among them `extra`",
        ),
        (
            lambda t: t.update({A.replace("lora_A", "lora_magnitude_vector"): torch.zeros(1)}),
            "1 of 5 tensors would be lost",
        ),
        (lambda t: t.pop(A), f"1 of 3 tensors would be lost, among them `{B}`"),
        (lambda t: t.pop(B), f"`{MODULE}` has an A but no B"),
        (lambda t: t.update({A: torch.zeros(3, 32)}), "A (3, 32), B (32, 4) do not fit together"),
        (
            lambda t: t.update({A: torch.zeros(4, 8, 4)}),
            "A (4, 8, 4), B (32, 4) do not fit together",
        ),
        (
            lambda t: t.update({A: torch.zeros(2, 32), B: torch.zeros(32, 2)}),
            f"`{MODULE}` has rank 2; its config says 4",
        ),
        (lambda t: t[A].fill_(float("nan")), f"`{A}` holds values that are not finite"),
        (lambda t: t[B].fill_(float("inf")), f"`{B}` holds values that are not finite"),
        (lambda t: t.clear(), "holds no pair of lora_A and lora_B"),
    ],
)
def test_tensors_that_cannot_all_be_folded_are_refused(
    adapter: Path, change: Callable[[dict[str, torch.Tensor]], None], said: str
) -> None:
    change_tensors(adapter, change)
    message = refusal(adapter)
    assert f"{adapter / 'adapter_model.safetensors'}: " in message
    assert said in message


@pytest.mark.parametrize("content", [None, b"", b"not safetensors at all, but long enough"])
def test_tensors_that_cannot_be_read_are_an_error(adapter: Path, content: bytes | None) -> None:
    file = adapter / "adapter_model.safetensors"
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    message = refusal(adapter)
    assert "adapter_model.safetensors: cannot be read" in message
    assert "pickle" in message


def test_an_adapter_is_found_alone_or_in_its_run(adapter: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(adapter, run / "adapter")
    assert find_adapter(adapter) == adapter
    assert find_adapter(run) == run / "adapter"
    for nothing in (run / "adapter" / "inner", tmp_path / "absent"):
        with pytest.raises(MergeError, match=r"holds no adapter.*adapter_config\.json"):
            find_adapter(nothing)


def test_a_relative_base_is_looked_up_as_peft_does(
    adapter: Path, tmp_path: Path, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_model("llama"), tmp_path / "models" / "tiny")
    change_config(adapter, base_model_name_or_path="models/tiny")
    monkeypatch.chdir(tmp_path)
    assert base_of(adapter) == tmp_path / "models" / "tiny"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no-owner/no-such-model", "not in the local cache"),
        ("/nowhere/at/all", "there is no model `/nowhere/at/all`"),
        ("package://no_such_package/file.gguf", "no Python package `no_such_package`"),
    ],
)
def test_a_base_that_is_not_there_is_an_error_of_the_merge(
    adapter: Path, name: str, said: str
) -> None:
    change_config(adapter, base_model_name_or_path=name)
    assert said in refusal(adapter)


def test_a_run_that_is_not_finished_has_no_adapter_yet(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(MergeError, match=r"the run is not finished.*--resume"):
        find_adapter(tmp_path)


def test_an_adapter_must_name_its_base(adapter: Path) -> None:
    change_config(adapter, base_model_name_or_path=None)
    assert "adapter_config.json: does not name its base model" in refusal(adapter)


def write_origin(adapter: Path, **origin: Any) -> None:
    (adapter / "loracli.json").write_text(json.dumps(origin))


def test_the_base_that_was_really_used_goes_first(
    adapter: Path, tmp_path: Path, tiny_model: TinyModel
) -> None:
    moved = Path(shutil.copytree(tiny_model("llama"), tmp_path / "moved"))
    same = find_model(str(moved), revision=None, base_dir=tmp_path).fingerprint
    write_origin(adapter, base=str(moved), base_fingerprint=same)
    assert base_of(adapter) == moved


def test_another_base_than_the_trained_one_is_refused(adapter: Path, tiny_model: TinyModel) -> None:
    base = tiny_model("llama")
    write_origin(adapter, base=str(base), base_fingerprint="folder:sha256:0123")
    message = refusal(adapter)
    assert f"`{base}` is not the base that the adapter was trained on" in message
    assert "≠ folder:sha256:0123" in message


def test_a_base_whose_weights_changed_is_refused(
    adapter: Path, tmp_path: Path, tiny_model: TinyModel
) -> None:
    base = Path(shutil.copytree(tiny_model("llama"), tmp_path / "base"))
    fingerprint = find_model(str(base), revision=None, base_dir=tmp_path).fingerprint
    write_origin(adapter, base=str(base), base_fingerprint=fingerprint)
    base_of(adapter)
    weights = base / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(weights, (1, 1))
    assert "is not the base that the adapter was trained on" in refusal(adapter)


@pytest.mark.parametrize(
    ("quantization", "held"),
    [(None, "none"), ({}, "none"), ({"method": "none"}, "none"), ({"method": "nf4"}, "nf4")],
)
def test_how_the_base_was_held_is_read(
    adapter: Path, tiny_model: TinyModel, quantization: Any, held: str
) -> None:
    write_origin(adapter, base=str(tiny_model("llama")), quantization=quantization)
    assert read_adapter(adapter).quantization == held


def test_a_broken_origin_is_not_passed_over(adapter: Path) -> None:
    (adapter / "loracli.json").write_text("{")
    assert "loracli.json: cannot be read" in refusal(adapter)
