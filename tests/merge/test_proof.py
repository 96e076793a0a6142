"""The proof: what is wrong is refused and leaves nothing, and its figures are what they say."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig

from lora_cli.console.merge import show_merge
from lora_cli.errors import MergeError
from lora_cli.merge import proof as proof_module
from lora_cli.merge import remade, writing
from lora_cli.merge.adapter_folder import read_adapter
from lora_cli.merge.prepare import MergeOptions, prepare_merge
from lora_cli.merge.probes import Probes
from lora_cli.merge.proof import TOLERANCES, Asked, compare, tolerance_of
from tests.helpers.adapters import TARGETS, make_adapter
from tests.helpers.merges import merge_into
from tests.helpers.runs import PLAIN_PEFT

pytestmark = PLAIN_PEFT
TinyModel = Callable[[str], Path]


@pytest.fixture
def adapter(tmp_path: Path, tiny_model: TinyModel) -> Path:
    """A LoRA on all linear layers, whose effect shows in every answer."""
    return make_adapter(tmp_path / "adapter", tiny_model("llama"), TARGETS["llama"])


@pytest.mark.parametrize("dtype", [None, "bfloat16", "float16"])
def test_a_merge_is_proved_by_its_own_type(
    adapter: Path, tmp_path: Path, dtype: str | None
) -> None:
    proof = merge_into(tmp_path / "merged", adapter, verify=True, dtype=dtype).proof
    assert proof is not None
    assert proof.holds
    assert proof.tolerance == TOLERANCES[dtype or "float32"]
    assert proof.relative_difference < proof.tolerance / 2 < proof.effect
    assert proof.agreement > 0.95
    told = json.loads((tmp_path / "merged" / "merge_report.json").read_text("utf-8"))
    assert told["proof"]["relative_difference"] == proof.relative_difference


@pytest.mark.parametrize("part", ["mlp.up_proj", "input_layernorm"])
def test_a_weight_that_is_no_number_is_named(
    adapter: Path, tmp_path: Path, tiny_model: TinyModel, part: str
) -> None:
    """Whether the adapter is on it or not."""
    base = Path(shutil.copytree(tiny_model("llama"), tmp_path / "base"))
    weights = load_file(base / "model.safetensors")
    name = f"model.layers.1.{part}.weight"
    weights[name].view(-1)[3] = float("nan")
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(MergeError, match=f"`{name}` of the base holds what is no number"):
        merge_into(tmp_path / "merged", adapter, verify=True, base=str(base))
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize("wrong", ["a tensor of zeros", "no change"])
@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_a_wrong_checkpoint_is_refused_and_leaves_nothing(
    adapter: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wrong: str,
    dtype: str | None,
) -> None:
    if wrong == "no change":
        rows = remade.Folded.rows

        def forgetful(folded: Any) -> Any:
            for name, first, values in rows(folded):
                last = first + len(values)
                yield remade.Rows(name, first, folded.weight.read()[first:last].to(values.dtype))

        monkeypatch.setattr(remade.Folded, "rows", forgetful)
    else:
        write_all, calls = writing._write_all, []

        def zeros_once(handle: int, content: memoryview, offset: int) -> None:
            calls.append(offset)
            write_all(
                handle, memoryview(bytes(len(content))) if len(calls) == 4 else content, offset
            )

        monkeypatch.setattr(writing, "_write_all", zeros_once)
    with pytest.raises(MergeError, match=r"is not base and adapter: its logits differ by .*%"):
        merge_into(tmp_path / "merged", adapter, verify=True, dtype=dtype)
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


@pytest.fixture
def rounded_base(tmp_path: Path, tiny_model: TinyModel) -> Path:
    """Return the base with its weights in bfloat16."""
    base = Path(shutil.copytree(tiny_model("llama"), tmp_path / "base"))
    weights = load_file(base / "model.safetensors")
    rounded = {name: weight.bfloat16() for name, weight in weights.items()}
    save_file(rounded, base / "model.safetensors", metadata={"format": "pt"})
    return base


@pytest.fixture
def weak(tmp_path: Path, adapter: Path) -> Callable[[float], Path]:
    """Return the adapter with all its B at a share of what they are."""

    def weakened(share: float) -> Path:
        folder = Path(shutil.copytree(adapter, tmp_path / f"weak-{share}"))
        tensors = load_file(folder / "adapter_model.safetensors")
        for name in tensors:
            if "lora_B" in name:
                tensors[name] *= share
        save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        return folder

    return weakened


@pytest.mark.parametrize(("share", "all_lost"), [(3e-5, 0.7), (3e-6, 0.9)])
def test_an_adapter_that_rounding_takes_away_is_not_merged(
    weak: Callable[[float], Path],
    rounded_base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    share: float,
    all_lost: float,
) -> None:
    """Far within what rounding to bfloat16 explains, and yet little of the adapter is left."""
    monkeypatch.setattr(proof_module, "ALL_LOST", all_lost)
    adapter, base = weak(share), str(rounded_base)
    with pytest.raises(MergeError, match=r"has nothing of the adapter: .*--dtype float32"):
        merge_into(tmp_path / "merged", adapter, verify=True, base=base)
    assert not (tmp_path / "merged").exists()
    proof = merge_into(tmp_path / "merged", adapter, verify=True, base=base, dtype="float32").proof
    assert proof is not None
    assert proof.kept == pytest.approx(1, abs=1e-3)


def test_answers_of_the_base_alone_are_no_proof() -> None:
    base = torch.randn(50, 7)
    adapted = base + 1e-3 * torch.randn(50, 7)
    proof = compare(asked(adapted, base), base, 3e-2)
    assert (proof.kept, proof.lost, proof.is_lost, proof.holds) == (0.0, 1.0, True, False)
    assert compare(asked(adapted, base), adapted, 3e-2).kept == pytest.approx(1)


def test_rounding_of_the_base_itself_is_no_loss_of_the_adapter(
    weak: Callable[[float], Path], tmp_path: Path
) -> None:
    proof = merge_into(tmp_path / "merged", weak(1e-4), verify=True, dtype="bfloat16").proof
    assert proof is not None
    assert proof.relative_difference > proof.effect
    assert proof.kept > 0.5


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (0.0, "the adapter changes next to nothing\n"),
        (1e-7, "how much of it rounding leaves cannot be told"),
        (1e-5, "% of what the adapter changes"),
        (3e-5, "% of what the adapter changes"),
    ],
)
def test_what_a_weak_adapter_loses_is_told(
    weak: Callable[[float], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    rounded_base: Path,
    share: float,
    said: str,
) -> None:
    result = merge_into(tmp_path / "merged", weak(share), verify=True, base=str(rounded_base))
    show_merge(result, Console())
    assert said in capsys.readouterr().out


def test_what_is_left_of_a_small_effect_is_told_where_nothing_larger_hides_it() -> None:
    base, change = torch.randn(50, 7), 1e-5 * torch.randn(50, 7)
    clear = replace(asked(base + change, base), least_effect=1e-6)
    assert compare(clear, base, 3e-2).is_lost
    assert not compare(replace(clear, least_effect=5e-5), base, 3e-2).is_felt
    hidden = compare(clear, base + 1e-3 * torch.randn(50, 7), 3e-2)
    assert hidden.beside == pytest.approx(1e-3, rel=0.2)
    assert not hidden.is_felt


def test_the_figures_are_those_of_their_definitions() -> None:
    all_expected = torch.tensor([[0.0, 2.0], [4.0, 0.0], [1.0, 3.0]])
    all_given = torch.tensor([[0.0, 2.5], [0.0, 4.0], [1.0, 3.0]])
    proof = compare(asked(all_expected, torch.zeros(3, 2)), all_given, 0.5)
    spread = all_expected.var()
    difference = all_given - all_expected
    assert (proof.probes, proof.positions) == (2, 3)
    assert proof.max_difference == 4.0
    assert proof.mean_difference == pytest.approx(float(difference.abs().mean()))
    root = (difference.square().mean() / spread).sqrt()
    assert proof.relative_difference == pytest.approx(float(root))
    assert proof.effect == pytest.approx(float((all_expected.square().mean() / spread).sqrt()))
    assert proof.agreement == pytest.approx(2 / 3)
    given, due = all_given.softmax(-1), all_expected.softmax(-1)
    divergence = (due * (due / given).log()).sum(-1).mean()
    assert proof.divergence == pytest.approx(float(divergence), abs=1e-6)
    assert not proof.holds


def asked(adapted: torch.Tensor, plain: torch.Tensor) -> Asked:
    ids = torch.zeros(2, 3, dtype=torch.long)
    return Asked(Probes(ids, torch.ones_like(ids)), adapted, plain)


def test_answers_that_are_all_alike_prove_nothing() -> None:
    with pytest.raises(MergeError, match=r"alike: that proves nothing.*--no-verify"):
        compare(asked(torch.zeros(5, 7), torch.zeros(5, 7)), torch.zeros(5, 7), 1e-4)


def test_alike_is_alike() -> None:
    same = torch.randn(5, 7)
    proof = compare(asked(same, torch.randn(5, 7)), same, 1e-4)
    assert (proof.max_difference, proof.relative_difference, proof.agreement) == (0.0, 0.0, 1.0)
    assert proof.positions == 5
    assert proof.holds


def test_the_coarsest_type_that_is_written_decides(adapter: Path, tiny_model: TinyModel) -> None:
    for dtype, coarsest in ((None, "float32"), ("bfloat16", "bfloat16"), ("float16", "float16")):
        options = MergeOptions(dtype=dtype)
        prepared = prepare_merge(read_adapter(adapter), tiny_model("llama"), options)
        assert prepared.coarsest() == coarsest
    assert TOLERANCES["float32"] < TOLERANCES["float16"] < TOLERANCES["bfloat16"]


def test_a_base_that_does_not_load_is_an_error(tmp_path: Path, tiny_model: TinyModel) -> None:
    base = Path(shutil.copytree(tiny_model("llama"), tmp_path / "base"))
    adapter = make_adapter(tmp_path / "adapter", base, ["q_proj"])
    held = load_file(base / "model.safetensors")
    del held["model.norm.weight"]
    save_file(held, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(MergeError, match=r"`model\.norm\.weight` is not in the files"):
        merge_into(tmp_path / "merged", adapter, verify=True)
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize(("layers", "times"), [(2, 1), (12, 1), (48, 2)])
def test_roundings_add_up_with_the_depth(layers: int, times: int) -> None:
    config = LlamaConfig(num_hidden_layers=layers)
    assert tolerance_of("bfloat16", config) == times * TOLERANCES["bfloat16"]
