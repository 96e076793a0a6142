"""`loracli merge` of several adapters: what it prints, what it replaces, what it refuses."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lora_cli.commands import merge
from lora_cli.merge.combine.methods import combined_change
from lora_cli.merge.combine.options import CombineOptions
from tests.helpers.adapters import make_adapter, stored
from tests.helpers.changes import changes_of
from tests.helpers.runs import PLAIN_PEFT
from tests.merge.conftest import Call

pytestmark = PLAIN_PEFT
TinyModel = Callable[[str], Path]
TIES = ("--method", "ties", "--density", 0.5)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, tiny_model: TinyModel) -> list[Path]:
    """Return two adapters of a tiny Llama whose B·A is ΔW; no test changes them."""
    folder, base = tmp_path_factory.mktemp("pair"), tiny_model("llama")
    return [
        make_adapter(folder / "a", base, ["q_proj", "down_proj"], seed=1, r=4, lora_alpha=4),
        make_adapter(folder / "b", base, ["q_proj", "up_proj"], seed=2, r=6, lora_alpha=6),
    ]


def test_nothing_of_a_model_is_cut(
    tmp_path: Path, tiny_model: TinyModel, pair: list[Path], loracli: Call
) -> None:
    merged = tmp_path / "new" / "merged"
    into = ("--into", "model", "--no-verify", "--json", "-o", merged)
    code, output, _ = loracli("merge", *pair, *TIES, "--weight", 1, "--weight", 0.5, *into)
    assert code == 0
    assert [path.name for path in merged.parent.iterdir()] == ["merged"], "left behind"
    changes = [changes_of(adapter) for adapter in pair]
    options = CombineOptions(method="ties", density=0.5)
    written, before = stored(merged), stored(tiny_model("llama"))
    for module in changes[0] | changes[1]:
        held = {place: each[module] for place, each in enumerate(changes) if module in each}
        change = combined_change(held, (1.0, 0.5), options, module)
        assert written[f"{module}.weight"].equal(before[f"{module}.weight"] + change)
    told = json.loads(output)
    assert told == json.loads((merged / "merge_report.json").read_text("utf-8"))
    assert (told["output"], told["changed_tensors"]) == (str(merged), 6)
    combined = told["combined"]
    assert [(each["path"], each["weight"]) for each in combined["adapters"]] == [
        (str(pair[0]), 1.0),
        (str(pair[1]), 0.5),
    ]
    assert (combined["method"], combined["exact"], combined["error"]) == ("ties", True, 0.0)
    assert {fit["rank"] for fit in combined["modules"].values()} == {32}


def test_what_is_cut_of_a_model_is_told(tmp_path: Path, pair: list[Path], loracli: Call) -> None:
    merged = tmp_path / "merged"
    merging = ("merge", *pair, *TIES, "--into", "model", "--no-verify", "-o", merged)
    code, output, _ = loracli(*merging, "--rank", 3)
    assert code == 0
    lines = output.splitlines()
    assert lines[0] == "ties of 2 adapters on 6 modules → into their base"
    assert lines[1] == f"adapter   1 × {pair[0]} (LORA, rank 4)"
    assert "% of the change over all modules, at most " in lines[3]
    assert "12 tensors → 6 of 21 tensors changed, " in lines[4]
    assert f"merged    {merged}" in lines
    assert "loracli-combined" not in output
    code, _, errors = loracli(*merging)
    assert code == 1
    assert "merged: exists already" in errors
    assert loracli(*merging, "--overwrite")[0] == 0


def test_what_does_not_fold_is_named_by_what_it_is_made_of(
    tmp_path: Path, tiny_model: TinyModel, pair: list[Path], loracli: Call
) -> None:
    into = ("--into", "model", "--base", tiny_model("gpt2"), "--any-base", "-o", tmp_path / "out")
    code, _, errors = loracli("merge", *pair, *TIES, *into)
    assert code == 1
    assert f"{pair[0]} + {pair[1]}: " in errors
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_combination_is_replaced_if_told_so(
    tmp_path: Path, pair: list[Path], loracli: Call
) -> None:
    both = tmp_path / "both"
    merging = ("merge", *pair, "--method", "svd", "-o", both)
    assert loracli(*merging)[0] == 0
    assert loracli(*merging, "--rank", 2)[0] == 1
    assert loracli(*merging, "--rank", 2, "--overwrite")[0] == 0
    assert json.loads((both / "loracli.json").read_text("utf-8"))["combined"]["rank"] == 2
    code, _, errors = loracli("merge", both, pair[0], "--method", "cat", "-o", both, "--overwrite")
    assert code == 1
    assert "both: holds what is read: it is not overwritten" in errors


OF_SEVERAL = {
    "--method": "linear",
    "--weight": "0.5",
    "--density": "0.3",
    "--rank": "1",
    "--energy": "0.5",
    "--majority-sign": "total",
    "--seed": "0",
    "--into": "adapter",
}
OF_A_MODEL = {
    "--dtype": "float32",
    "--max-shard-size": "5GB",
    "--base": "elsewhere",
    "--onto": "dequantised",
}
FLAGS = ("--any-base", "--verify/--no-verify")


def test_every_option_belongs_to_the_work_that_reads_it() -> None:
    """A new one has to be told apart here, or it would be taken and do nothing."""
    always = {"context", "adapters", "output", "overwrite", "as_json"}
    parts = [set(merge.OF_SEVERAL), set(merge.OF_A_MODEL), always]
    assert set.union(*parts) == set(inspect.signature(merge.command).parameters)
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert (len(OF_SEVERAL), len(OF_A_MODEL)) == (len(parts[0]), len(parts[1]) - len(FLAGS))


def test_options_of_several_adapters_are_refused_for_one(
    tmp_path: Path, pair: list[Path], loracli: Call
) -> None:
    given = [part for option in OF_SEVERAL.items() for part in option]
    code, output, errors = loracli("merge", pair[0], "-o", tmp_path / "merged", *given)
    assert (code, output) == (2, "")
    assert "wrong usage: 8 problems" in errors
    for option in OF_SEVERAL:
        assert f"{option}: is for several adapters; one is given\n" in errors
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("proof", ["--verify", "--no-verify"])
def test_options_of_a_model_are_refused_for_an_adapter(
    tmp_path: Path, pair: list[Path], loracli: Call, proof: str
) -> None:
    given = [part for option in OF_A_MODEL.items() for part in option]
    wrong = ("--method", "linear", "--seed", 0, "--density", 0.5)
    given += ["--any-base", proof]
    code, output, errors = loracli("merge", *pair, "-o", tmp_path / "all", *given, *wrong)
    assert (code, output) == (2, "")
    assert "wrong usage: 8 problems" in errors
    for option in (*OF_A_MODEL, *FLAGS):
        assert f"{option}: is for a merged model; without --into model, " in errors
    assert "`linear` has no density" in errors
    assert "`linear` draws nothing: it takes no seed" in errors
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "several adapters need --method and --output"),
        (["--method", "linear"], "several adapters need --method and --output"),
        (["-o", "all", "--method", "ties"], "`ties` needs a density"),
        (["-o", "all", "--method", "svd", "--rank", "0"], "0 is no rank"),
        (["-o", "all", "--method", "svd", "--weight", "1"], "1 weight for 2 adapters"),
        (["-o", "all", "--method", "mean"], "'mean' is not one of"),
    ],
)
def test_wrong_usage_is_exit_code_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pair: list[Path],
    loracli: Call,
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, output, errors = loracli("merge", *pair, *arguments)
    assert (code, output) == (2, "")
    assert said in errors
    assert list(tmp_path.iterdir()) == []


def test_a_full_rank_combination_is_folded_bit_for_bit(
    tmp_path: Path, tiny_model: TinyModel, pair: list[Path], loracli: Call
) -> None:
    """`magnitude_prune` of one adapter at density 1 and weight 1 is that adapter alone."""
    options = ("--method", "magnitude_prune", "--density", 1, "--weight", 1, "--weight", 0)
    into = ("--into", "model", "--dtype", "bfloat16", "-o", tmp_path / "pruned")
    code, output, _ = loracli("merge", *pair, *options, *into)
    assert code == 0
    assert "error     none: the same change of weights" in output
    assert "\nproof     144 places of 6 texts: " in output
    loracli("merge", pair[0], "--dtype", "bfloat16", "--no-verify", "-o", tmp_path / "alone")
    alone = stored(tmp_path / "alone")
    assert all(each.equal(alone[name]) for name, each in stored(tmp_path / "pruned").items())
    assert {each.dtype for each in alone.values()} == {torch.bfloat16}
