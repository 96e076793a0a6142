"""What full tuning changed comes back as a LoRA: the tuned model, or as near as was asked for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BertModel

from lora_cli.errors import ExtractError, UsageError
from lora_cli.facts.model_source import find_model
from lora_cli.merge.extract import extract as module
from lora_cli.merge.extract.extract import ExtractResult, extract_lora
from lora_cli.merge.extract.options import ExtractOptions
from lora_cli.merge.merge import merge_adapter
from lora_cli.merge.merged_model import auto_class_for
from lora_cli.merge.model_card import card_for
from lora_cli.merge.prepare import MergeOptions
from tests.helpers.adapters import (
    TARGETS,
    adapted_logits,
    logits,
    make_adapter,
    peft_merged,
    stored,
)
from tests.helpers.changes import changes_of
from tests.helpers.runs import PLAIN_PEFT
from tests.helpers.task_models import make_bert, make_t5
from tests.merge.extract.conftest import Tune

pytestmark = PLAIN_PEFT
TinyModel = Callable[[str], Path]

LINEAR = {
    "llama": ("proj",),
    "tied_llama": ("proj",),
    "gpt2": ("c_attn.weight", "c_proj.weight", "c_fc.weight"),
    "qwen3_moe": ("self_attn.q_proj", "self_attn.o_proj"),
}
"""Parts of the names of weights that a LoRA can hold the change of."""


def model_logits(folder: Path) -> torch.Tensor:
    return logits(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32))


def difference(left: torch.Tensor, right: torch.Tensor) -> float:
    return float((left - right).detach().abs().max())


def extract(tuned: Path, base: Path, output: Path, **options: Any) -> ExtractResult:
    return extract_lora(str(tuned), str(base), output, ExtractOptions(**{"rank": 32} | options))


def edit(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    """Change the tensors of a model of one file."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})
    return folder


def edit_config(folder: Path, **settings: Any) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), **settings}))
    return folder


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "qwen3_moe"])
def test_at_full_rank_it_is_the_tuned_model(
    tmp_path: Path, tiny_model: TinyModel, tune: Tune, architecture: str
) -> None:
    """The tuned model lies in shards, the base in one file."""
    base = tiny_model(architecture)
    tuned = tune(architecture, *LINEAR[architecture], max_shard_size="60KB")
    assert len(list(tuned.glob("*.safetensors"))) > 1
    result = extract(tuned, base, tmp_path / "lora")
    assert (result.rank, result.exact, result.rest, result.settings) == (32, True, [], [])
    changed = [n for n in stored(base) if any(part in n for part in LINEAR[architecture])]
    assert sorted(f"{name}.weight" for name in result.modules) == sorted(changed)
    assert sorted([*result.unchanged, *changed]) == sorted(stored(base))
    expected = model_logits(tuned)
    assert difference(adapted_logits(base, tmp_path / "lora"), expected) <= 1e-5
    assert difference(model_logits(base), expected) > 1e-2


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
def test_layers_that_share_a_weight_get_a_pair_each(
    tmp_path: Path, tiny_model: TinyModel, tune: Tune
) -> None:
    base, tuned = tiny_model("zamba2"), tune("zamba2", "self_attn.q_proj")
    result = extract(tuned, base, tmp_path / "lora", rank=64)
    assert sorted(result.modules) == [
        f"model.layers.{layer}.shared_transformer.self_attn.q_proj" for layer in (0, 1)
    ]
    assert (result.rest, result.settings) == ([], [])
    expected = model_logits(tuned)
    assert difference(adapted_logits(base, tmp_path / "lora"), expected) <= 1e-5
    with pytest.raises(ExtractError, match=r"outside --targets changed: `model\.layers\.1\."):
        extract(tuned, base, tmp_path / "half", targets=(min(result.modules),))


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_merged_lora_is_found_at_its_rank(
    tmp_path: Path, tiny_model: TinyModel, architecture: str
) -> None:
    base, targets = tiny_model(architecture), TARGETS[architecture][:2]
    adapter = make_adapter(
        tmp_path / "adapter", base, targets, r=4, fan_in_fan_out=architecture == "gpt2"
    )
    tuned = tmp_path / "tuned"
    AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).save_pretrained(tuned)
    merged = peft_merged(base, adapter, torch.float32)
    edit(tuned, lambda tensors: tensors.update({n: merged[n] for n in tensors}))
    result = extract(tuned, base, tmp_path / "lora", rank=4)
    # float32 weights, merged and taken apart again
    assert result.largest_error <= 1e-6
    config = json.loads((tmp_path / "lora" / "adapter_config.json").read_text("utf-8"))
    assert sorted(config["target_modules"]) == sorted(targets)
    given = adapted_logits(base, adapter)
    assert difference(adapted_logits(base, tmp_path / "lora"), given) <= 1e-5
    assert extract(tuned, base, tmp_path / "less", rank=3).error > 0.05
    by_energy = extract(tuned, base, tmp_path / "by energy", rank=None, energy=1 - 1e-9)
    assert {fit.rank for fit in by_energy.modules.values()} == {4}


def test_the_error_said_is_the_error_made(
    tmp_path: Path, tiny_model: TinyModel, tune: Tune
) -> None:
    base, tuned = tiny_model("llama"), tune("llama", "q_proj", "embed_tokens", "norm")
    result = extract(tuned, base, tmp_path / "lora", rank=5, allow_rest=True)
    before, after = stored(base), stored(tuned)
    change = {name: after[name].double() - before[name].double() for name in before}
    held = changes_of(tmp_path / "lora")
    lost = {name: change[f"{name}.weight"] - held[name] for name in held}
    for name, fit in result.modules.items():
        error = float(lost[name].norm() / change[f"{name}.weight"].norm())
        assert fit.error == pytest.approx(error, rel=1e-5)
        assert fit.rank == 5
    extracted = norm(change[f"{name}.weight"] for name in held)
    assert result.error == pytest.approx(norm(lost.values()) / extracted, rel=1e-5)
    rest = [each for name, each in change.items() if name.removesuffix(".weight") not in held]
    whole = norm([*lost.values(), *rest]) / norm(change.values())
    assert result.whole_error == pytest.approx(whole, rel=1e-5)
    assert result.whole_error > result.error
    for each in result.rest:
        relative = float(change[each.name].norm() / before[each.name].double().norm())
        assert each.change == pytest.approx(relative, rel=1e-5)


def norm(tensors: Any) -> float:
    return float(torch.stack([tensor.norm() for tensor in tensors]).norm())


def test_an_energy_is_the_least_rank_that_keeps_it(
    tmp_path: Path, tiny_model: TinyModel, tune: Tune
) -> None:
    base, tuned = tiny_model("llama"), tune("llama", "proj")
    result = extract(tuned, base, tmp_path / "lora", rank=None, energy=0.9)
    before, after = stored(base), stored(tuned)
    for name, fit in result.modules.items():
        values = torch.linalg.svdvals((after[f"{name}.weight"] - before[f"{name}.weight"]).double())
        shares = values.square().cumsum(0) / values.square().sum()
        assert fit.rank == int((shares < 0.9).sum()) + 1
        assert fit.error**2 <= 0.1
    capped = extract(tuned, base, tmp_path / "capped", rank=3, energy=0.9)
    assert {fit.rank for fit in capped.modules.values()} == {3}


@pytest.mark.parametrize(
    ("architecture", "parts", "kinds"),
    [
        ("llama", ["embed_tokens", "norm", "lm_head"], ["embedding", "norm", "output head"]),
        ("qwen2", ["q_proj.bias"], ["bias"]),
        ("gpt2", ["wpe", "ln_f", "c_fc.bias"], ["embedding", "norm", "bias"]),
        ("tied_llama", ["embed_tokens"], ["embedding"]),
        ("qwen3_moe", ["experts", "mlp.gate.weight"], ["experts", "other weight"]),
        ("dense_moe", ["0.mlp.up_proj"], ["linear layer that peft takes for experts"]),
    ],
)
def test_what_a_lora_cannot_hold_is_told_and_refused_unless_allowed(
    tmp_path: Path,
    tiny_model: TinyModel,
    tune: Tune,
    architecture: str,
    parts: list[str],
    kinds: list[str],
) -> None:
    base = tiny_model(architecture)
    linear = "c_attn.weight" if architecture == "gpt2" else "q_proj.weight"
    tuned = tune(architecture, linear, *parts)
    said = refusal(tuned, base, tmp_path)
    assert all(f"{kind} changed: " in said for kind in kinds)
    assert "--allow-rest leaves all such as in the base" in said
    result = extract(tuned, base, tmp_path / "lora", allow_rest=True)
    assert {each.kind for each in result.rest} == set(kinds)
    assert all(each.change > 1e-3 for each in result.rest)
    assert len(result.modules) == 2
    assert result.error == 0 < result.whole_error < 1
    tensors = len(result.rest) + len(result.modules) + len(result.unchanged)
    assert tensors == len(stored(base))
    assert difference(adapted_logits(base, tmp_path / "lora"), model_logits(base)) > 1e-3


def tuned_classifier(base: Path, folder: Path, model_class: str, **labels: int) -> Path:
    """Write a tuned model of another class than its base, with a head of its own."""
    model = getattr(transformers, model_class).from_pretrained(base, dtype=torch.float32, **labels)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("query.weight", "classifier.weight", "c_attn.weight", "q.weight")):
                parameter.add_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("family", "model_class", "whole", "task"),
    [
        ("bert", "BertForSequenceClassification", ["classifier", "bert.pooler"], "SEQ_CLS"),
        ("bert", "BertForTokenClassification", ["classifier"], "TOKEN_CLS"),
        ("bert", "BertForMaskedLM", [], None),
        ("gpt2", "GPT2ForSequenceClassification", ["score"], "SEQ_CLS"),
        ("t5", "T5ForConditionalGeneration", [], "SEQ_2_SEQ_LM"),
    ],
)
def test_a_model_of_any_class_and_the_head_of_its_task(
    tmp_path: Path,
    tiny_model: TinyModel,
    family: str,
    model_class: str,
    whole: list[str],
    task: str | None,
) -> None:
    makers = {"bert": make_bert, "t5": make_t5}
    base = makers[family](tmp_path / "base") if family in makers else tiny_model(family)
    labels = {"num_labels": 3, "pad_token_id": 0} if whole else {}
    tuned = tuned_classifier(base, tmp_path / "tuned", model_class, **labels)
    result = extract(tuned, base, tmp_path / "lora")
    assert (result.whole, result.rest, result.error) == (whole, [], 0.0)
    config = json.loads((tmp_path / "lora" / "adapter_config.json").read_text("utf-8"))
    assert (config["task_type"], config["modules_to_save"]) == (task, whole or None)
    noted = config["auto_mapping"] or {}
    assert noted.get("base_model_class") == (None if task else model_class)
    loading = f"base = {auto_class_for([model_class])}.from_pretrained("
    assert loading in card_for(tmp_path / "lora", "me/tuned").text
    loader = getattr(transformers, model_class)
    own = {"config": AutoConfig.from_pretrained(tmp_path / "lora")} if whole else {}
    model = loader.from_pretrained(base, dtype=torch.float32, **own)
    model = PeftModel.from_pretrained(model, tmp_path / "lora").eval()
    rows = {"input_ids": torch.arange(2, 34).reshape(2, 16)}
    if family == "t5":
        rows["decoder_input_ids"] = rows["input_ids"][:, :4]
    expected = loader.from_pretrained(tuned, dtype=torch.float32).eval()(**rows).logits
    assert difference(model(**rows).logits, expected) <= 1e-5
    merge_adapter(tmp_path / "lora", MergeOptions(output=tmp_path / "merged"))
    merged = loader.from_pretrained(tmp_path / "merged", dtype=torch.float32).eval()
    assert difference(merged(**rows).logits, expected) <= 1e-5


@pytest.mark.parametrize("same_class", [False, True])
def test_a_head_that_the_files_lack_is_named(tmp_path: Path, same_class: bool) -> None:
    base, model_class = make_bert(tmp_path / "base"), "BertForTokenClassification"
    tuned = tuned_classifier(base, tmp_path / "tuned", model_class, num_labels=3)
    if same_class:
        base = Path(shutil.copytree(tuned, tmp_path / "classifier"))
    edit(tuned, lambda tensors: tensors.pop("classifier.weight"))
    said = refusal(tuned, base, tmp_path)
    assert "has no `classifier.weight`, which its class has" in said
    edit(tuned, lambda tensors: tensors.update({"classifier.weight": torch.ones(2, 32)}))
    said = refusal(tuned, base, tmp_path)
    assert "model.safetensors: `classifier.weight` is (2, 32), by its config (3, 32)" in said


def test_a_linear_probe_has_nothing_for_a_lora(tmp_path: Path) -> None:
    base = make_bert(tmp_path / "base")
    model = transformers.BertForTokenClassification.from_pretrained(base, num_labels=3)
    model.save_pretrained(tmp_path / "tuned")
    said = refusal(tmp_path / "tuned", base, tmp_path)
    assert "changes no linear layer but its head: no LoRA is in it" in said


def test_a_body_without_its_head_is_another_model(tmp_path: Path) -> None:
    base = make_bert(tmp_path / "base")
    BertModel.from_pretrained(base).save_pretrained(tmp_path / "tuned")
    said = refusal(tmp_path / "tuned", base, tmp_path)
    assert "is a `BertModel`, and the base a `BertForMaskedLM`" in said


def test_no_rank_is_written_that_the_change_does_not_have(
    tmp_path: Path, tiny_model: TinyModel
) -> None:
    base = tiny_model("llama")
    adapter = make_adapter(tmp_path / "adapter", base, ["q_proj", "up_proj"], r=3)
    merged = peft_merged(base, adapter, torch.float32)
    AutoModelForCausalLM.from_pretrained(base).save_pretrained(tmp_path / "tuned")
    tuned = edit(
        tmp_path / "tuned", lambda tensors: tensors.update({n: merged[n] for n in tensors})
    )
    result = extract(tuned, base, tmp_path / "lora", rank=16)
    assert (result.rank, result.error, result.exact) == (3, 0.0, True)
    given = adapted_logits(base, adapter)
    assert difference(adapted_logits(base, tmp_path / "lora"), given) <= 1e-5


def refusal(tuned: Path, base: Path, tmp_path: Path, **options: Any) -> str:
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ExtractError) as caught:
        extract(tuned, base, tmp_path / "lora", **options)
    assert sorted(tmp_path.iterdir()) == before, "something was written"
    return str(caught.value)


def test_targets_are_the_only_ones_that_are_taken(
    tmp_path: Path, tiny_model: TinyModel, tune: Tune
) -> None:
    base, tuned = tiny_model("llama"), tune("llama", "q_proj", "up_proj")
    said = refusal(tuned, base, tmp_path, targets=("q_proj",))
    assert "linear layer outside --targets changed: 2 tensors, at most by " in said
    hint = "(a LoRA can hold it: name it in --targets too; --allow-rest leaves all such as in"
    assert hint in said
    assert "cannot hold" not in said
    options = {"targets": ("0.self_attn.q_proj",), "allow_rest": True}
    result = extract(tuned, base, tmp_path / "lora", **options)
    assert list(result.modules) == ["model.layers.0.self_attn.q_proj"]
    assert len(result.rest) == 3
    config = json.loads((tmp_path / "lora" / "adapter_config.json").read_text("utf-8"))
    assert config["target_modules"] == ["model.layers.0.self_attn.q_proj"]
    adapted_logits(base, tmp_path / "lora")  # a key too few or too many is a warning


def test_unknown_targets_are_refused_all_at_once(
    tmp_path: Path, tiny_model: TinyModel, tune: Tune
) -> None:
    tuned = tune("llama", "q_proj")
    with pytest.raises(UsageError) as caught:
        extract(tuned, tiny_model("llama"), tmp_path / "lora", targets=("q_prj", "norm"))
    said = str(caught.value)
    assert "`q_prj` is no linear layer of this model (did you mean `q_proj`?" in said
    assert "`norm` is no linear layer" in said
    assert "its layers: q_proj, k_proj," in said


def test_rounding_alone_is_no_change(tmp_path: Path, tiny_model: TinyModel, tune: Tune) -> None:
    """The base lies in float32; the tuned model was saved in bfloat16."""
    base, tuned = tiny_model("llama"), tune("llama", "q_proj", size=0.5)
    edit(tuned, lambda tensors: tensors.update({n: t.bfloat16() for n, t in tensors.items()}))
    result = extract(tuned, base, tmp_path / "lora")
    assert (len(result.modules), result.rest, result.settings) == (2, [], [])
    expected = model_logits(tuned)
    whole = difference(model_logits(base), expected)
    # what is left is the rounding of all the other weights
    assert difference(adapted_logits(base, tmp_path / "lora"), expected) < 0.05 * whole


def test_a_model_that_was_only_rounded_has_nothing_to_extract(
    tmp_path: Path, tiny_model: TinyModel, tune: Tune
) -> None:
    tuned = tune("llama")
    edit(tuned, lambda tensors: tensors.update({n: t.bfloat16() for n, t in tensors.items()}))
    assert "changes no linear layer" in refusal(tuned, tiny_model("llama"), tmp_path)


def without_prefix(tensors: dict[str, torch.Tensor]) -> None:
    for name in list(tensors):
        tensors[name.removeprefix("transformer.")] = tensors.pop(name)
    tensors["h.0.attn.bias"] = torch.ones(1, 1, 4, 4)  # a mask that old files hold


def head_beside(tensors: dict[str, torch.Tensor]) -> None:
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()


@pytest.mark.parametrize(
    ("architecture", "change"), [("gpt2", without_prefix), ("tied_llama", head_beside)]
)
def test_other_names_of_the_same_tensors_are_known(
    tmp_path: Path,
    tiny_model: TinyModel,
    tune: Tune,
    architecture: str,
    change: Callable[[dict[str, torch.Tensor]], None],
) -> None:
    base, tuned = tiny_model(architecture), tune(architecture, *LINEAR[architecture])
    expected = model_logits(tuned)
    result = extract(edit(tuned, change), base, tmp_path / "lora")
    assert result.rest == []
    assert difference(adapted_logits(base, tmp_path / "lora"), expected) <= 1e-5


def test_what_is_written_says_where_it_comes_from(
    tmp_path: Path, tiny_model: TinyModel, tune: Tune
) -> None:
    base, tuned = tiny_model("gpt2"), tune("gpt2", "c_attn.weight")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = "of the tuned model"
    tokenizer.save_pretrained(tuned)
    result = extract(tuned, base, tmp_path / "lora", rank=2)
    config = json.loads((tmp_path / "lora" / "adapter_config.json").read_text("utf-8"))
    assert (config["r"], config["lora_alpha"], config["task_type"]) == (2, 2, "CAUSAL_LM")
    assert (config["fan_in_fan_out"], config["target_modules"]) == (True, ["c_attn"])
    assert config["base_model_name_or_path"] == str(base)
    template = (tmp_path / "lora" / "chat_template.jinja").read_text("utf-8")
    assert template == "of the tuned model"
    sources = [find_model(str(each), revision=None, base_dir=tmp_path) for each in (base, tuned)]
    assert json.loads((tmp_path / "lora" / "loracli.json").read_text("utf-8")) == {
        "base": str(base),
        "base_fingerprint": sources[0].fingerprint,
        "extracted": {
            "tuned": str(tuned),
            "tuned_fingerprint": sources[1].fingerprint,
            "exact": False,
            "rank": 2,
            "error": result.error,
            "largest_error": result.largest_error,
        },
    }
    assert result.bytes_written == sum(p.stat().st_size for p in (tmp_path / "lora").iterdir())


QUERY = "model.layers.0.self_attn.q_proj.weight"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop(QUERY), f"has no `{QUERY}`, which the base has (is this the base"),
        (lambda t: t.update(extra=torch.zeros(1)), "`extra` is not in the base"),
        (lambda t: t.update({QUERY: torch.ones(2, 2)}), f"`{QUERY}` is (2, 2), in the base (32,"),
    ],
)
def test_tensors_that_do_not_belong_together_are_named(
    tmp_path: Path,
    tiny_model: TinyModel,
    tune: Tune,
    change: Callable[[dict[str, torch.Tensor]], None],
    said: str,
) -> None:
    tuned = edit(tune("llama", "v_proj"), change)
    assert said in refusal(tuned, tiny_model("llama"), tmp_path)


@pytest.mark.parametrize("name", [QUERY, "model.norm.weight"])
@pytest.mark.parametrize("broken", ["tuned", "base"])
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_what_is_no_number_is_named_with_its_file(
    tmp_path: Path, tiny_model: TinyModel, tune: Tune, broken: str, name: str, value: float
) -> None:
    base, tuned = Path(shutil.copytree(tiny_model("llama"), tmp_path / "base")), tune("llama", "v_")
    edit({"tuned": tuned, "base": base}[broken], lambda tensors: tensors[name][3:4].fill_(value))
    said = refusal(tuned, base, tmp_path)
    assert f"{broken}/model.safetensors: `{name}` holds values that are not finite" in said


def test_every_tensor_that_does_not_fit_is_named(
    tmp_path: Path, tiny_model: TinyModel, tune: Tune
) -> None:
    tuned = edit(tune("llama"), lambda t: [t.pop(QUERY), t.update(extra=torch.zeros(1))])
    said = refusal(tuned, tiny_model("llama"), tmp_path)
    assert f"has no `{QUERY}`" in said
    assert "`extra` is not in the base" in said


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rms_norm_eps": 0.5}, "setting changed: `rms_norm_eps` is 0.5, in the base 1e-06"),
        ({"model_type": "qwen2"}, "is a `qwen2`, and the base a `llama`"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "is quantized: only full"),
        ({"model_type": "unheard-of"}, "cannot be used"),
    ],
)
def test_another_model_is_no_tuned_one(
    tmp_path: Path, tiny_model: TinyModel, tune: Tune, settings: dict[str, Any], said: str
) -> None:
    tuned = edit_config(tune("llama", "q_proj"), **settings)
    assert said in refusal(tuned, tiny_model("llama"), tmp_path)


def test_settings_that_change_no_logit_are_passed_over(
    tmp_path: Path, tiny_model: TinyModel, tune: Tune
) -> None:
    settings = {"use_cache": False, "eos_token_id": 5, "attention_dropout": 0.1}
    as_in_gguf = {"rms_norm_eps": 9.99999997e-07, "unk_token_id": 7, "_model_name_or_path": "x"}
    settings |= as_in_gguf
    tuned = edit_config(tune("llama", "q_proj"), **settings)
    assert extract(tuned, tiny_model("llama"), tmp_path / "lora").settings == []


def test_models_are_found_or_named(tmp_path: Path, tiny_model: TinyModel) -> None:
    base = tiny_model("llama")
    said = refusal(tmp_path / "gone", tmp_path / "gone too", tmp_path)
    assert said.count("does not exist") == 2
    assert "both are the same model: nothing was tuned" in refusal(base, base, tmp_path)


def test_a_place_that_is_taken_is_left_alone(tmp_path: Path, tiny_model: TinyModel) -> None:
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "mine").touch()
    base = tiny_model("llama")
    assert "exists already" in refusal(base, base, tmp_path)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_fails_leaves_nothing(
    tmp_path: Path,
    tiny_model: TinyModel,
    tune: Tune,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
) -> None:
    def broken(folder: Path, *_: Any, whole: Any) -> None:
        (folder / "half").touch()
        raise error

    tuned = tune("llama", "q_proj")
    monkeypatch.setattr(module, "write_canonical", broken)
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else ExtractError
    with pytest.raises(expected):
        extract(tuned, tiny_model("llama"), tmp_path / "lora")
    assert [path.name for path in tmp_path.iterdir()] == ["tuned"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "how near the LoRA should come is not said (a rank, as in --rank 32"),
        ({"rank": 0}, "0 is no rank"),
        ({"energy": 0.0}, "energy 0 is not over 0 and up to 1"),
        ({"energy": float("nan")}, "energy nan is not over 0"),
    ],
)
def test_how_near_has_to_be_said(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        ExtractOptions(**options)
    assert said in str(caught.value)
