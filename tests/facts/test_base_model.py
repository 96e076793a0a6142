"""The base model from its config alone, held against the real one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from lora_cli.adapters.lora import Lora
from lora_cli.errors import PlanError
from lora_cli.facts.base_model import BaseModelFacts, heads_of, probe_base_model
from lora_cli.facts.model_source import ModelSource
from lora_cli.recipe.source import Source
from lora_cli.targets.match import match_targets
from tests.helpers.model_folders import TINY, config_folder, raw_config
from tests.helpers.settings import setting

TinyModel = Callable[[str], Path]
ARCHITECTURES = ["llama", "tied_llama", "qwen2", "gpt2"]


def probe(folder: Path, *, trust_remote_code: bool = False) -> BaseModelFacts:
    source = ModelSource("folder", folder, "", "safetensors")
    return probe_base_model(source, trust_remote_code=trust_remote_code)


def problem_of(folder: Path) -> tuple[str, str]:
    with pytest.raises(PlanError) as caught:
        probe(folder)
    (problem,) = caught.value.problems
    return problem.message, problem.hint


def trainable(base: BaseModelFacts, targets: Any, rank: int) -> int:
    spec = Lora(rank=rank, target_modules=targets)
    matched = match_targets(spec, base, Source("recipe.yaml"))
    shapes = [(module.in_features, module.out_features) for module in matched.modules]
    return spec.trainable_parameters(setting(*shapes))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_facts_are_those_of_the_real_model(tiny_model: TinyModel, architecture: str) -> None:
    facts = probe(tiny_model(architecture))
    model = AutoModelForCausalLM.from_pretrained(tiny_model(architecture))
    assert facts.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert facts.architecture == type(model).__name__
    assert facts.vocabulary == model.get_input_embeddings().num_embeddings == 259
    assert facts.context_length == 256
    assert facts.tied_embeddings == (architecture in ("tied_llama", "gpt2"))
    real = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and name != "lm_head"
    ]
    assert [linear.name for linear in facts.linears] == [name for name, _ in real]
    for linear, (_, module) in zip(facts.linears, real, strict=True):
        inputs = torch.zeros(1, linear.in_features, dtype=model.dtype)
        assert module(inputs).shape == (1, linear.out_features)
    assert "lm_head" in facts.other_modules
    assert facts.heads == ("lm_head",)
    everything = {name for name, _ in model.named_modules() if name}
    assert {linear.name for linear in facts.linears} | set(facts.other_modules) == everything
    assert facts.fused_experts == ()
    assert set(facts.attention_kernels) >= {"eager", "sdpa"}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_both_ends_of_the_model(tiny_model: TinyModel, architecture: str) -> None:
    facts = probe(tiny_model(architecture))
    model = AutoModelForCausalLM.from_pretrained(tiny_model(architecture))
    assert model.get_submodule(facts.embedding.name) is model.get_input_embeddings()
    assert facts.output_head is not None
    assert model.get_submodule(facts.output_head.name) is model.get_output_embeddings()
    assert (facts.embedding.in_features, facts.embedding.out_features) == (259, 32)
    assert (facts.output_head.in_features, facts.output_head.out_features) == (32, 259)


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "mixtral"])
def test_sizes_are_those_of_the_real_modules(tiny_model: TinyModel, architecture: str) -> None:
    facts = probe(tiny_model(architecture))
    model = AutoModelForCausalLM.from_pretrained(tiny_model(architecture))
    for name, size in facts.sizes.items():
        assert size == sum(p.numel() for p in model.get_submodule(name).parameters()) > 0
    left = {name for name, _ in model.named_modules() if name} - facts.sizes.keys()
    kinds = {type(model.get_submodule(name)).__name__ for name in left}
    assert "ModuleList" in kinds
    assert not kinds & {"Linear", "Embedding", "Conv1D", "LlamaRMSNorm", "LayerNorm", "LlamaMLP"}


def test_llama_7b_has_the_published_counts(tmp_path: Path) -> None:
    base = probe(config_folder(tmp_path, "LlamaConfig"))
    assert base.parameters == 6_738_415_616
    assert trainable(base, "all-linear", 8) == 19_988_480
    assert trainable(base, "attention", 8) == 8_388_608
    assert trainable(base, ("q_proj", "v_proj"), 8) == 4_194_304


def test_llama_3_2_1b_has_the_published_counts(tmp_path: Path) -> None:
    folder = config_folder(
        tmp_path,
        "LlamaConfig",
        hidden_size=2048,
        num_hidden_layers=16,
        intermediate_size=8192,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=64,
        vocab_size=128_256,
        tie_word_embeddings=True,
        max_position_embeddings=131_072,
    )
    base = probe(folder)
    added = trainable(base, ("q_proj", "k_proj", "v_proj", "o_proj"), 16)
    assert added == 3_407_872
    assert base.parameters + added == 1_239_222_272
    assert base.tied_embeddings
    assert base.context_length == 131_072


@pytest.mark.parametrize(
    ("auto_class", "config", "heads"),
    [
        ("AutoModelForSequenceClassification", "BertConfig", ("classifier",)),
        ("AutoModelForSequenceClassification", "LlamaConfig", ("score",)),
        ("AutoModelForQuestionAnswering", "BertConfig", ("qa_outputs",)),
        (
            "AutoModelForMaskedLM",
            "BertConfig",
            ("cls.predictions.transform.dense", "cls.predictions.decoder"),
        ),
        ("AutoModelForSeq2SeqLM", "T5Config", ("lm_head",)),
        ("AutoModelForCausalLM", "GPTNeoXConfig", ("lm_head",)),
    ],
)
def test_the_heads_are_what_comes_after_the_body(
    auto_class: str, config: str, heads: tuple[str, ...]
) -> None:
    values = {} if config == "T5Config" else TINY
    with torch.device("meta"):
        loader = getattr(transformers, auto_class)
        model = loader.from_config(getattr(transformers, config)(**values))
    assert heads_of(model) == heads


def test_experts_that_share_a_tensor_are_named(tmp_path: Path) -> None:
    folder = config_folder(tmp_path, "MixtralConfig", **TINY, num_local_experts=2)
    base = probe(folder)
    assert base.fused_experts == ("model.layers.0.mlp.experts", "model.layers.1.mlp.experts")
    assert not any("experts" in linear.name for linear in base.linears)
    assert not any("experts" in name for name in base.shapes)


@pytest.mark.parametrize(
    ("config_class", "values", "message"),
    [
        ("BertConfig", TINY, "`bert` is not a causal language model"),
        (
            "BertConfig",
            {**TINY, "architectures": ["BertForMaskedLM"]},
            "`BertForMaskedLM` is not a causal language model",
        ),
        (
            "LlamaConfig",
            {**TINY, "architectures": ["LlamaForSequenceClassification"]},
            "`LlamaForSequenceClassification` is not a causal language model",
        ),
        ("T5Config", {}, "`t5` is not a causal language model"),
        ("ViTConfig", {}, "`vit` is not a causal language model"),
    ],
)
def test_a_model_that_does_not_continue_text(
    tmp_path: Path, config_class: str, values: dict[str, Any], message: str
) -> None:
    found, hint = problem_of(config_folder(tmp_path, config_class, **values))
    assert found.startswith(message)
    assert hint.endswith("name a decoder model, such as a Llama or Qwen")


@pytest.mark.parametrize("name", ["LlamaModel", "LlamaForWriting"])
def test_a_decoder_that_its_config_names_otherwise(tmp_path: Path, name: str) -> None:
    found, hint = problem_of(config_folder(tmp_path, "LlamaConfig", **TINY, architectures=[name]))
    assert found == f"`{name}` is not a causal language model"
    assert "name `LlamaForCausalLM` as `architectures` in config.json" in hint


@pytest.mark.parametrize(
    ("config_class", "values", "fitting"),
    [
        ("BertConfig", TINY, "`task: sequence_classification` or `task: token_classification`"),
        (
            "T5Config",
            {},
            "`task: token_classification` or `task: seq2seq_lm`",
        ),
        ("ViTConfig", {}, ""),
    ],
)
def test_the_tasks_that_such_a_model_fits_are_named(
    tmp_path: Path, config_class: str, values: dict[str, Any], fitting: str
) -> None:
    _, hint = problem_of(config_folder(tmp_path, config_class, **values))
    assert hint.removesuffix("name a decoder model, such as a Llama or Qwen") == (
        f"it fits {fitting}; " if fitting else ""
    )


def test_an_encoder_that_was_made_a_decoder_is_one(tmp_path: Path) -> None:
    config_folder(tmp_path, "BertConfig", **TINY, is_decoder=True)
    assert probe(tmp_path).architecture == "BertLMHeadModel"


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "",
        "[1, 2]",
        "null",
        '"llama"',
        "\x00\xff",
        {},
        {"model_type": "never-heard-of-it"},
        {"model_type": 3},
        {"model_type": "llama", "hidden_size": "wide"},
        {"model_type": "llama", "hidden_size": -1},
        {"model_type": "llama", "hidden_size": 30, "num_attention_heads": 0},
        {"model_type": "llama", "num_hidden_layers": None},
        {"model_type": "llama", "hidden_act": "no such function"},
        {"model_type": "llama", "rope_scaling": {"rope_type": "none such"}},
        {"model_type": "llama", "vocab_size": 100, "pad_token_id": 257},
    ],
)
def test_a_garbled_config_is_an_error_that_says_where(tmp_path: Path, content: Any) -> None:
    message, hint = problem_of(raw_config(tmp_path / "model", content))
    assert message.startswith(f"the config in {tmp_path / 'model'} ")
    assert "config.json" in hint
    assert "decoder" not in hint
    assert len(message) < 600
    assert "\n" not in message


def test_values_that_do_not_go_together_are_told_in_the_librarys_words(tmp_path: Path) -> None:
    config = {"model_type": "llama", "vocab_size": 100, "pad_token_id": 257}
    message, hint = problem_of(raw_config(tmp_path, config))
    assert message == (
        f"the config in {tmp_path} builds no `llama`: Padding_idx must be within num_embeddings"
    )
    assert hint == "its values do not go together: mend config.json, or fetch it again"


@pytest.mark.parametrize("classes", ["LlamaForCausalLM", 3, [], None])
def test_class_names_that_are_no_list_are_not_looked_at(tmp_path: Path, classes: Any) -> None:
    config = {**TINY, "model_type": "llama", "architectures": classes}
    assert probe(raw_config(tmp_path, config)).architecture == "LlamaForCausalLM"


def test_shapes_are_those_of_the_real_model(tiny_model: TinyModel) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model("tied_llama"))
    real = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    assert probe(tiny_model("tied_llama")).shapes == real
    assert "lm_head.weight" not in real, "tied to the embedding"


def test_code_that_comes_with_a_model_is_not_run(tmp_path: Path) -> None:
    auto_map = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}
    folder = raw_config(tmp_path / "model", {"model_type": "own", "auto_map": auto_map})
    (folder / "code.py").write_text("raise SystemExit('the code was run')")
    message, hint = problem_of(folder)
    assert message.endswith("the model comes with Python code of its own")
    assert hint == "read that code; if you trust it, set `model.trust_remote_code: true`"


def test_a_decoder_whose_config_does_not_say_so(tmp_path: Path) -> None:
    """GPT-NeoX's config says `is_decoder: false`, as an encoder's does."""
    assert probe(config_folder(tmp_path, "GPTNeoXConfig", **TINY)).architecture == (
        "GPTNeoXForCausalLM"
    )
