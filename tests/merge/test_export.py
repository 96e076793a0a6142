"""An exported adapter: the same model in every server where it can be, a stated error else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from lora_cli.errors import ExportError
from lora_cli.merge import export as module
from lora_cli.merge.export import export_lora
from lora_cli.merge.truncate import Limit
from tests.helpers.adapters import (
    adapted_logits,
    change_config,
    change_tensors,
    logits,
    make_adapter,
)
from tests.helpers.methods import APPROXIMATE, EXACT, EXACT_ON_LINEAR, NOTICES, Make, method
from tests.helpers.serving import llama_cpp_logits, vllm_logits

pytestmark = NOTICES
TinyModel = Callable[[str], Path]
ALL_EXACT = [
    *[pytest.param("llama", make, id=f"llama {name}") for name, make in EXACT.items()],
    *[pytest.param("llama", make, id=f"llama {name}") for name, make in EXACT_ON_LINEAR.items()],
    *[pytest.param("gpt2", make, id=f"gpt2 {name}") for name, make in EXACT.items()],
]


def difference(left: torch.Tensor, right: torch.Tensor) -> float:
    return float((left - right).abs().max())


def effect(base: Path, adapter: Path) -> float:
    plain = logits(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32))
    return difference(adapted_logits(base, adapter), plain)


@pytest.mark.parametrize(("architecture", "make"), ALL_EXACT)
def test_an_exact_export_is_the_same_model_in_every_server(
    tmp_path: Path, tiny_model: TinyModel, architecture: str, make: Make
) -> None:
    base = tiny_model(architecture)
    adapter = make(tmp_path / "adapter", base, architecture)
    result = export_lora(adapter, tmp_path / "served", Limit())
    assert (result.exact, result.error, result.largest_error) == (True, 0.0, 0.0)
    trained = adapted_logits(base, adapter)
    for served in (
        adapted_logits(base, tmp_path / "served"),
        vllm_logits(base, tmp_path / "served"),
        llama_cpp_logits(base, tmp_path / "served"),
    ):
        assert difference(served, trained) <= 1e-5
    assert effect(base, adapter) > 1e-2, "an adapter that does nothing would pass too"


@pytest.mark.parametrize(
    ("make", "vllm_is_wrong", "llama_cpp_is_wrong"),
    [
        (EXACT["patterns"], True, True),
        (EXACT["rslora"], False, True),
        (method(LoraConfig, r=4, rank_pattern={"q_proj": 2}), True, False),
    ],
)
def test_the_same_servers_read_the_adapter_itself_wrongly(
    tmp_path: Path,
    tiny_model: TinyModel,
    make: Make,
    vllm_is_wrong: bool,
    llama_cpp_is_wrong: bool,
) -> None:
    base = tiny_model("llama")
    adapter = make(tmp_path / "adapter", base, "llama")
    trained = adapted_logits(base, adapter)
    assert (difference(vllm_logits(base, adapter), trained) > 1e-2) is vllm_is_wrong
    assert (difference(llama_cpp_logits(base, adapter), trained) > 1e-2) is llama_cpp_is_wrong


def test_what_is_written_is_the_canonical_form(tmp_path: Path, tiny_model: TinyModel) -> None:
    base = tiny_model("llama")
    adapter = EXACT["rslora patterns"](tmp_path / "adapter", base, "llama")
    AutoTokenizer.from_pretrained(base).save_pretrained(adapter)
    result = export_lora(adapter, tmp_path / "served", Limit())
    settings = json.loads((tmp_path / "served" / "adapter_config.json").read_text("utf-8"))
    assert (settings["r"], settings["lora_alpha"], result.rank) == (6, 6, 6)
    assert settings["use_rslora"] is settings["use_dora"] is settings["lora_bias"] is False
    assert settings["rank_pattern"] == settings["alpha_pattern"] == {}
    assert settings["init_lora_weights"] is True
    assert (settings["bias"], settings["modules_to_save"]) == ("none", None)
    assert (settings["peft_type"], settings["task_type"]) == ("LORA", "CAUSAL_LM")
    assert settings["base_model_name_or_path"] == str(base)
    tensors = load_file(tmp_path / "served" / "adapter_model.safetensors")
    for name, tensor in tensors.items():
        assert name.endswith((".lora_A.weight", ".lora_B.weight"))
        assert tensor.shape[0 if "lora_A" in name else 1] == 6
        assert tensor.dtype == torch.float32
    assert tensors.keys() == load_file(adapter / "adapter_model.safetensors").keys()
    assert {path.name for path in (tmp_path / "served").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "chat_template.jinja",
        "loracli.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    files = (tmp_path / "served").iterdir()
    assert result.bytes_written == sum(path.stat().st_size for path in files)


@pytest.mark.parametrize(
    ("settings", "targets"),
    [
        ({}, ["q_proj", "v_proj"]),
        ({"layers_to_transform": [1]}, ["model.layers.1.self_attn.q_proj"]),
        ({"exclude_modules": ["layers.1.self_attn.q_proj"]}, ["model.layers.0.self_attn.q_proj"]),
    ],
)
def test_the_targets_name_the_modules_that_have_a_pair(
    tmp_path: Path, tiny_model: TinyModel, settings: dict[str, Any], targets: list[str]
) -> None:
    own = ["q_proj"] if settings else ["q_proj", "v_proj"]
    adapter = make_adapter(tmp_path / "adapter", tiny_model("llama"), own, **settings)
    export_lora(adapter, tmp_path / "served", Limit())
    written = json.loads((tmp_path / "served" / "adapter_config.json").read_text("utf-8"))
    assert sorted(written["target_modules"]) == targets
    assert written["layers_to_transform"] is written["exclude_modules"] is None
    base = AutoModelForCausalLM.from_pretrained(tiny_model("llama"), dtype=torch.float32)
    PeftModel.from_pretrained(base, tmp_path / "served")  # a key that is missing is a warning


def test_no_weight_of_the_base_is_read_where_it_is_exact(
    tmp_path: Path, tiny_model: TinyModel
) -> None:
    base = Path(shutil.copytree(tiny_model("llama"), tmp_path / "base"))
    made = {
        name: make(tmp_path / name, base, "llama")
        for name, make in (EXACT | EXACT_ON_LINEAR).items()
    }
    (base / "model.safetensors").unlink()
    for name, adapter in made.items():
        export_lora(adapter, tmp_path / f"{name} served", Limit())
    shutil.rmtree(base)
    export_lora(made["lora"], tmp_path / "lora again", Limit())


@pytest.mark.parametrize("name", APPROXIMATE)
def test_any_other_method_is_as_near_as_was_asked_for(
    tmp_path: Path, tiny_model: TinyModel, name: str
) -> None:
    base = tiny_model("llama")
    adapter = APPROXIMATE[name](tmp_path / "adapter", base, "llama")
    near = export_lora(adapter, tmp_path / "near", Limit(error=1e-4))
    assert near.error <= near.largest_error <= 1e-4
    whole = effect(base, adapter)
    assert whole > 1e-2
    trained = adapted_logits(base, adapter)
    assert difference(vllm_logits(base, tmp_path / "near"), trained) <= 1e-3 * whole
    rough = export_lora(adapter, tmp_path / "rough", Limit(rank=3))
    assert rough.rank == 3
    assert {fit.rank for fit in rough.modules.values()} == {3}
    assert rough.error > 1e-2
    assert not rough.exact
    assert difference(vllm_logits(base, tmp_path / "rough"), trained) > 1e-4


def test_the_error_said_is_the_error_made(tmp_path: Path, tiny_model: TinyModel) -> None:
    base = tiny_model("llama")
    adapter = EXACT["patterns"](tmp_path / "adapter", base, "llama")
    export_lora(adapter, tmp_path / "whole", Limit())
    result = export_lora(adapter, tmp_path / "cut", Limit(rank=2))
    whole, cut = (deltas(tmp_path / name) for name in ("whole", "cut"))
    lost = {name: whole[name] - cut[name] for name in whole}
    for name, fit in result.modules.items():
        assert fit.error == pytest.approx(float(lost[name].norm() / whole[name].norm()), abs=1e-6)
        assert fit.rank == 2
    overall = norm_of(lost) / norm_of(whole)
    assert result.error == pytest.approx(overall, rel=1e-5)
    assert result.largest_error == max(fit.error for fit in result.modules.values())
    assert 0 < result.error < result.largest_error


def deltas(adapter: Path) -> dict[str, torch.Tensor]:
    """Return B·A of a canonical adapter by module."""
    tensors = load_file(adapter / "adapter_model.safetensors")
    suffix = ".lora_A.weight"
    return {
        name.removeprefix("base_model.model.").removesuffix(suffix): tensors[
            name.replace("lora_A", "lora_B")
        ].double()
        @ tensor.double()
        for name, tensor in tensors.items()
        if name.endswith(suffix)
    }


def norm_of(parts: dict[str, torch.Tensor]) -> float:
    return float(torch.stack([part.norm() for part in parts.values()]).norm())


def test_a_rank_over_the_exact_one_costs_nothing(tmp_path: Path, tiny_model: TinyModel) -> None:
    adapter = make_adapter(tmp_path / "adapter", tiny_model("llama"), ["q_proj"])
    result = export_lora(adapter, tmp_path / "served", Limit(rank=64))
    assert (result.exact, result.rank) == (True, 4)


def test_a_run_is_exported_by_its_directory(tmp_path: Path, tiny_model: TinyModel) -> None:
    base = tiny_model("llama")
    make_adapter(tmp_path / "run" / "adapter", base, ["q_proj"])
    result = export_lora(tmp_path / "run", tmp_path / "served", Limit())
    assert result.adapter == str(tmp_path / "run" / "adapter")
    assert (result.method, result.base, result.notes) == ("LORA", str(base), [])


def write_origin(adapter: Path, **origin: Any) -> None:
    (adapter / "loracli.json").write_text(json.dumps(origin))


def test_what_is_known_of_the_base_goes_with_it(tmp_path: Path, tiny_model: TinyModel) -> None:
    adapter = make_adapter(tmp_path / "adapter", tiny_model("llama"), ["q_proj"])
    origin = {"base": str(tiny_model("llama")), "quantization": {"method": "nf4"}}
    write_origin(adapter, **origin)
    result = export_lora(adapter, tmp_path / "served", Limit(rank=2))
    assert result.notes == ["trained on a base in nf4: serve it on a base held in nf4 too"]
    written = json.loads((tmp_path / "served" / "loracli.json").read_text("utf-8"))
    exported = written.pop("exported")
    assert written == origin
    assert exported == {
        "method": "LORA",
        "exact": False,
        "rank": 2,
        "error": result.error,
        "largest_error": result.largest_error,
    }


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"modules_to_save": ["lm_head"]}, "a plain LoRA cannot hold: modules trained in full"),
        ({"trainable_token_indices": [1]}, "trained tokens"),
        ({"bias": "all"}, "trained biases"),
        ({"lora_bias": True}, "biases on B"),
        ({"target_parameters": ["experts"]}, "adapted parameters"),
        ({"use_dora": True, "lora_bias": True}, "cannot hold: biases on B"),
        ({"init_lora_weights": "pissa"}, "initialisation 'pissa', which changes the base"),
        ({"use_what_comes_next_year": 3}, "the setting `use_what_comes_next_year`"),
        ({"task_type": "SEQ_CLS"}, "adapters for SEQ_CLS are not exported"),
        ({"peft_type": "LOHA", "bias": "all"}, "trained biases"),
        ({"peft_type": "LOHA", "modules_to_save": ["norm"]}, "modules trained in full"),
        ({"peft_type": "PREFIX_TUNING"}, "adds to what the model reads and changes no weight"),
        ({"peft_type": "P_TUNING"}, "serve it with peft, or train a LoRA instead"),
        ({"use_dora": True}, "no LoRA is known that is exactly the same as DORA"),
        ({"peft_type": "OFT"}, "no LoRA is known that is exactly the same as OFT"),
    ],
)
def test_what_has_no_canonical_form_is_refused_with_a_way_out(
    tmp_path: Path, tiny_model: TinyModel, settings: dict[str, Any], said: str
) -> None:
    adapter = make_adapter(tmp_path / "adapter", tiny_model("llama"), ["q_proj"])
    change_config(adapter, **settings)
    message = refusal(adapter, tmp_path / "served")
    assert said in message
    assert "serve it with peft" in message


@pytest.mark.parametrize(
    ("settings", "merged"), [({"bias": "all"}, True), ({"init_lora_weights": "pissa"}, False)]
)
def test_merging_is_advised_where_it_is_possible(
    tmp_path: Path, tiny_model: TinyModel, settings: dict[str, Any], merged: bool
) -> None:
    adapter = make_adapter(tmp_path / "adapter", tiny_model("llama"), ["q_proj"])
    change_config(adapter, **settings)
    assert ("`loracli merge`" in refusal(adapter, tmp_path / "served")) == merged


def refusal(adapter: Path, output: Path, limit: Limit | None = None) -> str:
    before = sorted(adapter.parent.iterdir())
    with pytest.raises(ExportError) as caught:
        export_lora(adapter, output, limit or Limit())
    assert sorted(adapter.parent.iterdir()) == before, "something was written"
    assert caught.value.exit_code == 1
    return str(caught.value)


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_a_pair_on_an_embedding_or_the_head_is_refused(
    tmp_path: Path, tiny_model: TinyModel, target: str
) -> None:
    adapter = make_adapter(tmp_path / "adapter", tiny_model("llama"), ["q_proj", target])
    assert f"adapts `{target}`" in refusal(adapter, tmp_path / "served")


MODULE = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.update(extra=torch.zeros(1)), "1 of 5 tensors would be lost"),
        (lambda t: t.pop(f"{MODULE}.lora_B.weight"), "has an A but no B"),
        (lambda t: t.update({f"{MODULE}.lora_A.weight": torch.zeros(3, 32)}), "do not fit"),
        (lambda t: t[f"{MODULE}.lora_B.weight"].fill_(float("nan")), "are not finite"),
        (lambda t: t.clear(), "holds no pair"),
    ],
)
def test_tensors_that_cannot_all_be_exported_are_refused(
    tmp_path: Path,
    tiny_model: TinyModel,
    change: Callable[[dict[str, torch.Tensor]], None],
    said: str,
) -> None:
    adapter = make_adapter(tmp_path / "adapter", tiny_model("llama"), ["q_proj"])
    change_tensors(adapter, change)
    assert said in refusal(adapter, tmp_path / "served")


def test_a_place_that_is_taken_is_left_alone(tmp_path: Path, tiny_model: TinyModel) -> None:
    adapter = make_adapter(tmp_path / "adapter", tiny_model("llama"), ["q_proj"])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    assert "exists already" in refusal(adapter, tmp_path / "full")
    assert (tmp_path / "full" / "thesis.tex").exists()


def test_what_is_no_adapter_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "holds no adapter" in refusal(tmp_path / "empty", tmp_path / "served")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_export_that_breaks_off_leaves_nothing(
    tmp_path: Path, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    adapter = make_adapter(tmp_path / "adapter", tiny_model("llama"), ["q_proj"])

    def broken(new: Path, *_: object) -> None:
        (new / "adapter_model.safetensors").touch()
        raise error

    monkeypatch.setattr(module, "write_canonical", broken)
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else ExportError
    with pytest.raises(expected):
        export_lora(adapter, tmp_path / "served", Limit())
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]
