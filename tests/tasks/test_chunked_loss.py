"""The loss in chunks of tokens: the same numbers and gradients as from all logits at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from lora_cli.adapters import Lora
from lora_cli.model.adapter import attach_adapter
from lora_cli.tasks import chunked_loss
from lora_cli.tasks.causal_lm import IGNORED, Batch, Scored, score
from lora_cli.tasks.chunked_loss import CHUNK, plain_head, summed_loss
from tests.helpers.architectures import SMALL_CONFIGS

TinyModel = Callable[[str], Path]
CHANGED_AFTER_THE_HEAD = {"gemma2", "granitemoe", "cohere", "granite"}
DECODERS = [
    name
    for name, (config_class, _) in SMALL_CONFIGS.items()
    if getattr(transformers, config_class) in transformers.AutoModelForCausalLM._model_mapping
]


def model_of(name: str) -> Any:
    config_class, values = SMALL_CONFIGS[name]
    config = getattr(transformers, config_class)(**values)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    head = model.get_output_embeddings()
    if head is not None:
        head.requires_grad_(False)
    return model


def batch() -> Batch:
    torch.manual_seed(1)
    ids = torch.randint(3, 60, (2, 9))
    labels = ids.clone()
    labels[0, :4] = labels[1, 7:] = IGNORED
    return Batch(ids, torch.ones_like(ids), labels)


def scored(model: Any) -> tuple[Scored, dict[str, torch.Tensor]]:
    """Return what a batch comes to, and the gradients of three times its loss."""
    model.zero_grad()
    found = score(model, batch())
    (found.loss_sum * 3).backward()
    parameters = model.named_parameters()
    return found, {name: each.grad for name, each in parameters if each.grad is not None}


@pytest.mark.parametrize("name", DECODERS)
def test_every_architecture_learns_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(name)
    monkeypatch.setattr(chunked_loss, "CHUNK", 3)
    in_chunks, gradients = scored(model)
    assert (plain_head(model) is None) == (name in CHANGED_AFTER_THE_HEAD)
    monkeypatch.setattr(chunked_loss, "plain_head", lambda _model: None)
    at_once, expected = scored(model)
    torch.testing.assert_close(in_chunks.loss_sum, at_once.loss_sum)
    assert (in_chunks.count, int(in_chunks.correct)) == (at_once.count, int(at_once.correct))
    assert gradients.keys() == expected.keys()
    for parameter, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[parameter], rtol=1e-4, atol=1e-5)


def test_no_more_logits_than_a_chunk_s_are_there_at_once() -> None:
    head, shapes = nn.Linear(4, 7).requires_grad_(requires_grad=False), list[Any]()
    head.register_forward_hook(lambda *call: shapes.append(tuple(call[2].shape)))
    states = torch.randn(2 * CHUNK + 5, 4, requires_grad=True)
    targets = torch.randint(7, (len(states),))
    loss, correct = summed_loss(states, targets, head)
    assert shapes == [(CHUNK, 7), (CHUNK, 7), (5, 7)]
    logits = head(states)
    torch.testing.assert_close(loss, nn.functional.cross_entropy(logits, targets, reduction="sum"))
    assert int(correct) == int((logits.argmax(-1) == targets).sum())
    assert not correct.requires_grad


def test_nothing_supervised_is_no_loss() -> None:
    head = nn.Linear(4, 7).requires_grad_(requires_grad=False)
    states = torch.randn(0, 4, requires_grad=True)
    loss, correct = summed_loss(states, torch.zeros(0, dtype=torch.int64), head)
    loss.backward()
    assert (loss.item(), correct.item()) == (0.0, 0)
    assert states.grad is not None


def test_an_evaluation_keeps_no_gradient() -> None:
    head = nn.Linear(4, 7).requires_grad_(requires_grad=False)
    with torch.no_grad():
        loss, _ = summed_loss(torch.randn(3, 4), torch.tensor([1, 2, 3]), head)
    assert not loss.requires_grad


@pytest.mark.parametrize(
    "trained", [{"modules_to_save": ("lm_head",)}, {"trainable_tokens": (5,)}, {"lm_head": True}]
)
def test_a_head_that_is_trained_is_not_plain(tiny_model: TinyModel, trained: Any) -> None:
    base = transformers.AutoModelForCausalLM.from_pretrained(tiny_model("llama"))
    modules = [name for name, _ in base.named_modules() if name.endswith("q_proj")]
    names = ["q_proj"]
    if trained.get("lm_head"):
        trained, modules, names = {}, [*modules, "lm_head"], ["q_proj", "lm_head"]
    model = attach_adapter(base, Lora(**trained), peft_names=names, modules=modules, seed=0).model
    tied = base.config.tie_word_embeddings
    assert (plain_head(model) is None) or ("trainable_tokens" in trained and not tied)


def test_a_model_that_is_no_transformer_has_no_plain_head() -> None:
    assert plain_head(nn.Linear(2, 2)) is None


def test_a_forward_that_somebody_put_in_place_stays_there(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunked_loss, "CHUNK", 3)
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_model("llama"))
    model.requires_grad_(requires_grad=False)
    model.lm_head.forward = hooked = model.lm_head.forward
    model.model.forward = body = model.model.forward
    score(model, batch())
    assert model.lm_head.forward is hooked
    assert model.model.forward is body
