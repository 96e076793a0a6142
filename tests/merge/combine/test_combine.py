"""Adapters of many kinds made one: what is written, what it says of itself, what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftConfig, PeftModel, VeraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from lora_cli.errors import MergeError
from lora_cli.files import sha256_of_file
from lora_cli.merge.combine import combine as module
from lora_cli.merge.combine.combine import CombineResult, combine_adapters
from lora_cli.merge.combine.into_model import combine_into_model
from lora_cli.merge.combine.options import CombineOptions
from lora_cli.merge.export import export_lora
from lora_cli.merge.prepare import MergeOptions
from lora_cli.merge.truncate import Limit
from tests.helpers.adapters import adapted_logits, change_config, logits, make_adapter, save_as
from tests.helpers.changes import changes_of
from tests.helpers.methods import APPROXIMATE, EXACT, EXACT_ON_LINEAR, NOTICES
from tests.helpers.serving import llama_cpp_logits, vllm_logits
from tests.helpers.task_models import make_t5
from tests.helpers.tiny_models import make_tiny_model

pytestmark = NOTICES
TinyModel = Callable[[str], Path]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, tiny_model: TinyModel) -> list[Path]:
    """Return two adapters of a tiny Llama, which no test changes."""
    folder, base = tmp_path_factory.mktemp("pair"), tiny_model("llama")
    return [
        make_adapter(folder / "a", base, ["q_proj", "v_proj"], seed=1),
        make_adapter(folder / "b", base, ["v_proj", "up_proj"], seed=2, r=6),
    ]


def own(pair: list[Path], folder: Path) -> list[Path]:
    """Return copies of adapters that may be changed."""
    return [Path(shutil.copytree(each, folder / each.name)) for each in pair]


def combined(adapters: list[Path], output: Path, *weights: float, **options: Any) -> CombineResult:
    return combine_adapters(adapters, output, CombineOptions(weights=weights, **options))


def written_origin(folder: Path) -> dict[str, Any]:
    origin: dict[str, Any] = json.loads((folder / "loracli.json").read_text("utf-8"))
    return origin


def test_the_sum_is_one_adapter_in_every_server(
    tmp_path: Path, tiny_model: TinyModel, pair: list[Path]
) -> None:
    base = tiny_model("llama")
    result = combined(pair, tmp_path / "all", 1.0, -0.5)
    assert (result.exact, result.error, result.rank) == (True, 0.0, 10)
    assert {fit.rank for fit in result.modules.values()} == {4, 6, 10}
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    plain = logits(model)
    with torch.no_grad():
        for adapter, weight in zip(pair, (1.0, -0.5), strict=True):
            scaling = 8 / json.loads((adapter / "adapter_config.json").read_text("utf-8"))["r"]
            for name, change in changes_of(adapter).items():
                model.get_submodule(name).weight += weight * scaling * change
    expected = logits(model)
    for served in (adapted_logits, vllm_logits, llama_cpp_logits):
        assert float((served(base, tmp_path / "all") - expected).abs().max()) <= 1e-5
    assert float((plain - expected).abs().max()) > 1e-2


def test_adapters_of_many_methods_add_up(tmp_path: Path, tiny_model: TinyModel) -> None:
    base = tiny_model("llama")
    makers = {
        name: (EXACT | EXACT_ON_LINEAR)[name]
        for name in ("rslora patterns", "adalora", "vera", "loha", "miss", "pissa")
    }
    adapters = [make(tmp_path / name, base, "llama") for name, make in makers.items()]
    weights = (1.0, 0.5, 2.0, -1.0, 0.25, 1.5)
    result = combined(adapters, tmp_path / "all", *weights)
    assert [each.method for each in result.adapters] == [
        *("LORA", "ADALORA", "VERA", "LOHA", "MISS", "LORA")
    ]
    expected: dict[str, torch.Tensor] = {}
    for adapter, weight in zip(adapters, weights, strict=True):
        export_lora(adapter, tmp_path / f"{adapter.name} exported", Limit())
        for name, change in changes_of(tmp_path / f"{adapter.name} exported").items():
            expected[name] = weight * change + expected.get(name, 0)
    found = changes_of(tmp_path / "all")
    assert found.keys() == expected.keys()
    for name, change in found.items():
        torch.testing.assert_close(change, expected[name], atol=1e-4, rtol=1e-5)


def test_one_adapter_can_be_scaled(tmp_path: Path, pair: list[Path]) -> None:
    combined(pair[:1], tmp_path / "half", 0.5)
    combined(pair[:1], tmp_path / "whole")
    half, whole = changes_of(tmp_path / "half"), changes_of(tmp_path / "whole")
    assert all(change.equal(0.5 * whole[name]) for name, change in half.items())


def test_what_is_cut_off_is_said(tmp_path: Path, pair: list[Path]) -> None:
    combined(pair, tmp_path / "whole")
    result = combined(pair, tmp_path / "cut", method="svd", rank=5)
    whole, cut = changes_of(tmp_path / "whole"), changes_of(tmp_path / "cut")
    for name, fit in result.modules.items():
        error = float((whole[name] - cut[name]).norm() / whole[name].norm())
        assert fit.error == pytest.approx(error, abs=1e-6)
        assert fit.rank == min(5, fit.rank)
    assert not result.exact
    assert 0 < result.error < result.largest_error
    assert result.rank == 5


@pytest.mark.parametrize("weights", [(1.0, -1.0), (0.1, 0.2, -0.3)])
def test_of_what_cancels_out_nothing_is_lost(
    tmp_path: Path, pair: list[Path], weights: tuple[float, ...]
) -> None:
    adapters = [pair[0]] * len(weights)
    result = combined(adapters, tmp_path / "none", *weights, method="svd")
    assert (result.exact, result.error, result.largest_error) == (True, 0.0, 0.0)
    found = changes_of(tmp_path / "none").values()
    assert max(float(change.abs().max()) for change in found) == 0


def test_an_energy_gives_the_rank(tmp_path: Path, pair: list[Path]) -> None:
    result = combined(pair, tmp_path / "all", method="ties", density=0.2, energy=0.9)
    assert 0.1 < result.error <= result.largest_error <= 0.1**0.5
    assert len({fit.rank for fit in result.modules.values()}) > 1


def test_it_says_what_it_was_made_of(
    tmp_path: Path, tiny_model: TinyModel, pair: list[Path]
) -> None:
    options = {"method": "dare_ties", "density": 0.5, "seed": 3, "rank": 7}
    result = combined(pair, tmp_path / "all", 1.0, 0.5, **options)
    recorded = written_origin(tmp_path / "all")
    assert recorded["base"] == result.base == str(tiny_model("llama"))
    expected = [
        {
            "path": str(adapter),
            "sha256": sha256_of_file(adapter / "adapter_model.safetensors"),
            "method": "LORA",
            "rank": rank,
            "weight": weight,
        }
        for adapter, rank, weight in zip(pair, (4, 6), (1.0, 0.5), strict=True)
    ]
    assert [asdict(each) for each in result.adapters] == expected
    assert recorded["combined"] == {
        "method": "dare_ties",
        "density": 0.5,
        "majority_sign_method": "total",
        "seed": 3,
        "highest_rank": 7,
        "energy": None,
        "exact": False,
        "rank": result.rank,
        "error": result.error,
        "largest_error": result.largest_error,
        "adapters": expected,
    }
    files = (tmp_path / "all").iterdir()
    assert result.bytes_written == sum(path.stat().st_size for path in files)


@pytest.mark.parametrize(
    ("settings", "targets"),
    [
        ({}, ["q_proj", "up_proj", "v_proj"]),
        (
            {"layers_to_transform": [1]},
            [
                "model.layers.0.self_attn.q_proj",
                "model.layers.0.self_attn.v_proj",
                "model.layers.1.mlp.up_proj",
                "model.layers.1.self_attn.q_proj",
                "model.layers.1.self_attn.v_proj",
            ],
        ),
    ],
)
def test_the_targets_are_those_of_all(
    tmp_path: Path,
    tiny_model: TinyModel,
    pair: list[Path],
    settings: dict[str, Any],
    targets: list[str],
) -> None:
    base = tiny_model("llama")
    other = make_adapter(tmp_path / "b", base, ["v_proj", "up_proj"], **settings)
    combined([pair[0], other], tmp_path / "all")
    config = json.loads((tmp_path / "all" / "adapter_config.json").read_text("utf-8"))
    assert sorted(config["target_modules"]) == sorted(targets)
    adapted_logits(base, tmp_path / "all")  # a key too few or too many is a warning


def test_what_is_dropped_does_not_depend_on_the_other_modules(
    tmp_path: Path, tiny_model: TinyModel, pair: list[Path]
) -> None:
    fewer = own(pair[:1], tmp_path)
    file = fewer[0] / "adapter_model.safetensors"
    kept = {name: each for name, each in load_file(file).items() if ".1.self_attn.v_proj" in name}
    save_file(kept, file, metadata={"format": "pt"})
    options = {"method": "dare_linear", "density": 0.5, "rank": 32}
    combined(pair[:1], tmp_path / "all", **options)
    combined(fewer, tmp_path / "one", **options)
    found = changes_of(tmp_path / "one")
    assert list(found) == ["model.layers.1.self_attn.v_proj"]
    assert all(each.equal(changes_of(tmp_path / "all")[name]) for name, each in found.items())


def refusal(adapters: list[Path], output: Path, **options: Any) -> str:
    before = sorted(output.parent.iterdir())
    with pytest.raises(MergeError) as caught:
        combined(adapters, output, **options)
    assert sorted(output.parent.iterdir()) == before, "something was written"
    return str(caught.value)


def test_all_that_have_no_exact_form_are_refused_at_once(
    tmp_path: Path, tiny_model: TinyModel, pair: list[Path]
) -> None:
    inexact = APPROXIMATE["dora"](tmp_path / "dora", tiny_model("llama"), "llama")
    a, b = own(pair, tmp_path)
    change_config(a, peft_type="PROMPT_TUNING")
    change_config(b, modules_to_save=["lm_head"])
    said = refusal([inexact, a, b], tmp_path / "all")
    assert "is DORA, for which no LoRA is known that is exactly the same" in said
    assert f"loracli export {inexact} --output DIR --error 0.05 first" in said
    change_config(inexact, task_type="SEQ_2_SEQ_LM")  # which is not exported
    assert "loracli export" not in refusal([inexact], tmp_path / "all")
    assert "`PROMPT_TUNING` adds to what the model reads" in said
    assert "a plain LoRA cannot hold: modules trained in full" in said
    assert "(fold it, by itself, into its base with `loracli merge`, or serve it with peft)" in said


def test_a_place_that_is_taken_is_left_alone(tmp_path: Path, pair: list[Path]) -> None:
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "mine").touch()
    assert "exists already" in refusal(pair, tmp_path / "all")
    assert [path.name for path in (tmp_path / "all").iterdir()] == ["mine"]


def test_nothing_cannot_be_combined(tmp_path: Path) -> None:
    assert "there are no adapters" in refusal([], tmp_path / "all")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_fails_leaves_nothing(
    tmp_path: Path, pair: list[Path], monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def broken(folder: Path, *_: Any) -> None:
        (folder / "half").touch()
        raise error

    monkeypatch.setattr(module, "write_canonical", broken)
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else MergeError
    with pytest.raises(expected):
        combined(pair, tmp_path / "all")
    assert list(tmp_path.iterdir()) == []


# which task


def seq2seq_adapter(folder: Path, base: Path, config: PeftConfig, seed: int) -> Path:
    model = get_peft_model(AutoModelForSeq2SeqLM.from_pretrained(base), config)
    torch.manual_seed(seed)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.2 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return folder


def test_adapters_of_an_encoder_decoder_are_combined(tmp_path: Path) -> None:
    """VeRA's pairs need the sizes of the base's layers, and so its class."""
    base, task = make_t5(tmp_path / "base"), {"task_type": "SEQ_2_SEQ_LM"}
    configs = (
        LoraConfig(r=4, target_modules=["q", "wo"], **task),
        VeraConfig(r=2, target_modules=["q"], **task),
    )
    pair = [
        seq2seq_adapter(tmp_path / str(seed), base, config, seed)
        for seed, config in enumerate(configs)
    ]
    options = CombineOptions(weights=(1.0, 0.5), into="model")
    result = combine_into_model(pair, tmp_path / "model", options, MergeOptions())
    proof = result.merged.proof
    assert proof is not None
    assert proof.relative_difference < 1e-4
    assert proof.effect > 0.1
    combined(pair, tmp_path / "all", 1.0, 0.5)
    config = json.loads((tmp_path / "all" / "adapter_config.json").read_text("utf-8"))
    assert config["task_type"] == "SEQ_2_SEQ_LM"
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    plain = AutoModelForSeq2SeqLM.from_pretrained(base, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(plain, tmp_path / "all").merge_and_unload()
    for name, weight in adapted.state_dict().items():
        torch.testing.assert_close(weight, model.state_dict()[name], atol=1e-5, rtol=1e-5)


def test_adapters_for_two_tasks_are_refused(tmp_path: Path, pair: list[Path]) -> None:
    a, b = own(pair, tmp_path)
    change_config(b, task_type="SEQ_2_SEQ_LM")
    said = refusal([a, b], tmp_path / "all")
    assert f"{b}: is for SEQ_2_SEQ_LM, but {a} for CAUSAL_LM (combine adapters for one" in said
    change_config(a, task_type=None)
    combined([a, b], tmp_path / "all")
    config = json.loads((tmp_path / "all" / "adapter_config.json").read_text("utf-8"))
    assert config["task_type"] == "SEQ_2_SEQ_LM"


def test_a_class_that_peft_noted_goes_with_it(tmp_path: Path, pair: list[Path]) -> None:
    noted = {"base_model_class": "BertForMaskedLM", "parent_library": "transformers.models.bert"}
    adapters = own(pair, tmp_path)
    for each in adapters:
        change_config(each, task_type=None, auto_mapping=noted)
    combined(adapters, tmp_path / "all")
    config = json.loads((tmp_path / "all" / "adapter_config.json").read_text("utf-8"))
    assert (config["task_type"], config["auto_mapping"]) == (None, noted)


# which base


def test_another_base_is_refused_by_name(tmp_path: Path, pair: list[Path]) -> None:
    a, b = own(pair, tmp_path)
    change_config(b, base_model_name_or_path="owner/other")
    said = refusal([a, b], tmp_path / "all")
    assert "is for the base `owner/other`, but " in said
    assert f"{a} for `" in said
    assert "means nothing on another model" in said


def test_a_base_that_was_moved_is_the_same_base(
    tmp_path: Path, tiny_model: TinyModel, pair: list[Path]
) -> None:
    a, b = own(pair, tmp_path)
    moved = shutil.copytree(tiny_model("llama"), tmp_path / "moved")
    change_config(b, base_model_name_or_path=str(moved))
    assert combined([a, b], tmp_path / "all").base == str(tiny_model("llama"))


def test_a_base_of_the_same_sizes_and_other_weights_is_another_base(
    tmp_path: Path, pair: list[Path]
) -> None:
    a, b = own(pair, tmp_path)
    other = make_tiny_model(tmp_path / "other", "llama", seed=9)
    change_config(b, base_model_name_or_path=str(other))
    assert f"is for the base `{other}`" in refusal([a, b], tmp_path / "all")


def test_recorded_fingerprints_decide_where_there_are_two(tmp_path: Path, pair: list[Path]) -> None:
    a, b = own(pair, tmp_path)
    for adapter, fingerprint in ((a, "hub:x@1"), (b, "hub:x@2")):
        origin = {"base": "x/y", "base_fingerprint": fingerprint, "plan_digest": "1"}
        (adapter / "loracli.json").write_text(json.dumps(origin))
    assert "is for the base `x/y`" in refusal([a, b], tmp_path / "all")
    shutil.copyfile(a / "loracli.json", b / "loracli.json")
    combined([a, b], tmp_path / "all")
    origin = written_origin(tmp_path / "all")
    assert origin.keys() == {"base", "base_fingerprint", "combined"}
    assert origin["base_fingerprint"] == "hub:x@1"


@pytest.mark.parametrize(("revision", "same"), [(None, True), ("one", True), ("two", False)])
def test_two_revisions_are_two_bases(
    tmp_path: Path, pair: list[Path], revision: str | None, same: bool
) -> None:
    a, b = own(pair, tmp_path)
    change_config(a, base_model_name_or_path="owner/gone", revision="one")
    change_config(b, base_model_name_or_path="owner/gone", revision=revision)
    if same:
        combined([a, b], tmp_path / "all")
    else:
        assert "`owner/gone@two`, but " in refusal([a, b], tmp_path / "all")


def test_modules_of_other_sizes_are_refused(tmp_path: Path, pair: list[Path]) -> None:
    [a] = own(pair[:1], tmp_path)
    file = a / "adapter_model.safetensors"
    wider = {
        name: torch.cat([each, each], dim=1) if "lora_A" in name else each
        for name, each in load_file(file).items()
    }
    save_file(wider, file, metadata={"format": "pt"})
    said = refusal([pair[1], a], tmp_path / "all")
    assert "`model.layers.0.self_attn.v_proj` is (16, 64), but (16, 32) in" in said


# notes


def record(adapter: Path, quantization: dict[str, Any]) -> None:
    origin = {"base": "x/y", "base_fingerprint": "f", "quantization": quantization}
    (adapter / "loracli.json").write_text(json.dumps(origin))


def test_bases_held_alike_stay_so(tmp_path: Path, pair: list[Path]) -> None:
    a, b = own(pair, tmp_path)
    for adapter in (a, b):
        record(adapter, {"method": "nf4", "double_quantization": True})
    result = combined([a, b], tmp_path / "all")
    assert result.notes == ["trained on a base in nf4: serve it on a base held in nf4 too"]
    held = written_origin(tmp_path / "all")["quantization"]
    assert held == {"method": "nf4", "double_quantization": True}


def test_bases_held_differently_are_told(tmp_path: Path, pair: list[Path]) -> None:
    a, b = own(pair, tmp_path)
    record(a, {"method": "nf4", "double_quantization": True})
    record(b, {"method": "none"})
    [note] = combined([a, b], tmp_path / "all").notes
    assert f"held differently ({a}: nf4, doubly; {b}: full precision)" in note
    assert "together they are for the base in full precision" in note
    assert "quantization" not in written_origin(tmp_path / "all")


def test_the_first_adapters_tokenizer_goes_with_it(
    tmp_path: Path, tiny_model: TinyModel, pair: list[Path]
) -> None:
    a, b = own(pair, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model("llama"))
    for adapter in (a, b):
        tokenizer.save_pretrained(adapter)
    assert combined([a, b], tmp_path / "same").notes == []
    (b / "chat_template.jinja").write_text("another")
    [note] = combined([a, b], tmp_path / "all").notes
    assert note == (
        f"tokenizer and chat template are those of {a}: others have none, or others than it ({b})"
    )
    template = (tmp_path / "all" / "chat_template.jinja").read_text("utf-8")
    assert template == tokenizer.chat_template


def test_the_bases_weights_are_not_read(tmp_path: Path, tiny_model: TinyModel) -> None:
    base = save_as(tiny_model("llama"), tmp_path / "base", torch.float32)
    adapters = [make_adapter(tmp_path / name, base, ["q_proj"]) for name in ("a", "b")]
    shutil.rmtree(base)
    combined(adapters, tmp_path / "all", method="ties", density=0.5)
