"""Heads that a task puts on a model: what is new, what is in the files, what is adapted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from lora_cli.errors import PlanError
from lora_cli.facts.base_model import BaseModelFacts, heads_of, probe_base_model
from lora_cli.facts.heads import is_inside, new_heads, output_head
from lora_cli.facts.model_source import find_model
from lora_cli.tasks import TaskSpec
from lora_cli.tasks.causal_lm import CausalLm
from lora_cli.tasks.seq2seq_lm import Seq2SeqLm
from lora_cli.tasks.sequence_classification import SequenceClassification
from lora_cli.tasks.token_classification import TokenClassification
from tests.helpers.architectures import model_of
from tests.helpers.task_models import make_bert

TEXTS = SequenceClassification(name="sequence_classification", labels=("a", "b", "c"))
TOKENS = TokenClassification(name="token_classification", labels=("a", "b"))
TINY = {
    "vocab_size": 20,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
}


def on_meta(config: str, task: TaskSpec, **values: Any) -> Any:
    with torch.device("meta"):
        made = getattr(transformers, config)(**values)
        return getattr(transformers, task.auto_class).from_config(made)


@pytest.mark.parametrize(
    ("config", "values", "task", "heads"),
    [
        ("BertConfig", TINY, TEXTS, ("classifier",)),
        ("BertConfig", TINY, TOKENS, ("classifier",)),
        ("RobertaConfig", TINY, TEXTS, ("classifier",)),
        ("DistilBertConfig", {"dim": 8, "n_heads": 2}, TEXTS, ("pre_classifier", "classifier")),
        ("DebertaV2Config", TINY, TEXTS, ("pooler", "classifier")),
        ("LlamaConfig", TINY, TEXTS, ("score",)),
        ("GPT2Config", {"n_embd": 8, "n_head": 2, "n_layer": 1}, TEXTS, ("score",)),
        ("BartConfig", {"d_model": 16, "vocab_size": 20}, TEXTS, ("classification_head",)),
        ("T5Config", {"d_model": 16, "num_layers": 1}, TEXTS, ("classification_head",)),
        ("LlamaConfig", TINY, CausalLm(), ()),
        ("T5Config", {"d_model": 16, "num_layers": 1}, Seq2SeqLm(name="seq2seq_lm"), ()),
    ],
)
def test_a_head_is_what_has_weights_outside_the_body(
    config: str, values: dict[str, Any], task: TaskSpec, heads: tuple[str, ...]
) -> None:
    assert new_heads(on_meta(config, task, **values), task, ("bert.pooler.dense.weight",)) == heads


@pytest.mark.parametrize(
    ("stored", "heads"),
    [
        (("bert.pooler.dense.weight",), ("classifier",)),
        (("pooler.dense.weight", "encoder.layer.0"), ("classifier",)),
        (("bert.encoder.layer.0",), ("classifier", "bert.pooler")),
        ((), ("classifier",)),
    ],
)
def test_a_pooler_is_new_where_the_files_hold_none(
    stored: tuple[str, ...], heads: tuple[str, ...]
) -> None:
    assert new_heads(on_meta("BertConfig", TEXTS, **TINY), TEXTS, stored) == heads


def test_inside_means_whole_names() -> None:
    assert is_inside("score", ("score",))
    assert is_inside("score.weight", ("score",))
    assert not is_inside("scores.weight", ("score",))
    assert not is_inside("model.score", ("score",))


def facts(folder: Path, task: TaskSpec) -> BaseModelFacts:
    source = find_model(str(folder), revision=None, base_dir=folder)
    return probe_base_model(source, task, trust_remote_code=False)


def test_a_head_is_neither_adapted_nor_quantized_nor_held_against_the_files(
    tmp_path: Path,
) -> None:
    base = facts(make_bert(tmp_path / "bert"), TEXTS)
    assert base.architecture == "BertForSequenceClassification"
    assert base.new_heads == ("classifier", "bert.pooler")
    assert not any(is_inside(linear.name, base.new_heads) for linear in base.linears)
    assert set(base.heads) == {"classifier", "bert.pooler.dense"}
    assert not any(is_inside(name, base.new_heads) for name in base.shapes)
    assert base.sizes["classifier"] == 32 * 3 + 3


def test_the_positions_of_robertas_kin_begin_after_the_padding(tmp_path: Path) -> None:
    config = transformers.RobertaConfig(**TINY, max_position_embeddings=514, pad_token_id=1)
    config.save_pretrained(tmp_path)
    assert facts(tmp_path, TEXTS).context_length == 512


def test_a_task_that_a_model_has_no_class_for(tmp_path: Path) -> None:
    with pytest.raises(PlanError) as caught:
        facts(make_bert(tmp_path / "bert"), Seq2SeqLm(name="seq2seq_lm"))
    (problem,) = caught.value.problems
    assert problem.message == "`BertForMaskedLM` has no model for seq2seq_lm"
    assert "`task: token_classification`" in problem.hint


@pytest.mark.parametrize("config", ["BartConfig", "T5Config"])
def test_an_encoder_decoder_that_counts_ends_does_not_classify(tmp_path: Path, config: str) -> None:
    getattr(transformers, config)().save_pretrained(tmp_path)
    with pytest.raises(PlanError) as caught:
        facts(tmp_path, TEXTS)
    (problem,) = caught.value.problems
    assert problem.message.endswith(
        "classifies at its end tokens, of which all rows need equally many"
    )
    assert "`task: seq2seq_lm`" in problem.hint


def test_a_decoder_classifies_too(tiny_model: Callable[[str], Path]) -> None:
    base = facts(tiny_model("llama"), TOKENS)
    assert (base.architecture, base.new_heads) == ("LlamaForTokenClassification", ("score",))


def test_an_embedding_is_no_head() -> None:
    model, _ = model_of("fsmt")
    assert isinstance(model.get_output_embeddings(), torch.nn.Embedding)
    assert output_head(model) is model.model.decoder.output_projection
    assert heads_of(model) == ("model.decoder.output_projection",)
