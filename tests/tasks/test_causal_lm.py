"""Causal language modelling: sums over exactly the supervised tokens, computed where they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from torch import nn
from torch.nn import functional
from transformers import AutoModelForCausalLM

from lora_cli.tasks.causal_lm import IGNORED, Batch, collate, score

TinyModel = Callable[[str], Path]
Pair = tuple[Any, Any]
CPU = torch.device("cpu")
END = 257


def pair(ids: Sequence[int], supervised: Sequence[int]) -> Pair:
    """Return a row whose tokens at the given places are supervised."""
    labels = [token if place in supervised else IGNORED for place, token in enumerate(ids)]
    return np.array(ids, dtype=np.int32), np.array(labels, dtype=np.int32)


RAGGED = [
    pair([5, 6, 7, 8, END], [3, 4]),
    pair([9, 10, END], [2]),
    pair([1, 2, 3, 4, 5, 6, 7, END], [1, 2, 6, 7]),
]


class Counted(nn.Module):
    """A model without `logits_to_keep` that notes how it is called."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(300, 300)
        self.calls: list[dict[str, Any]] = []

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, use_cache: bool
    ) -> Any:
        self.calls.append({"attention_mask": attention_mask, "use_cache": use_cache})
        return type("Output", (), {"logits": self.table(input_ids)})


class Keeping(Counted):
    """The same model, which computes logits only where it is asked to."""

    def forward(  # type: ignore[override]
        self, input_ids: torch.Tensor, logits_to_keep: torch.Tensor, **options: Any
    ) -> Any:
        logits = super().forward(input_ids, **options).logits[:, logits_to_keep]
        self.calls[-1]["shape"] = tuple(logits.shape)
        return type("Output", (), {"logits": logits})


def by_row(model: nn.Module, rows: Sequence[Pair]) -> tuple[float, int, int]:
    """Return (loss sum, count, correct), one row at a time, without padding."""
    total, count, correct = 0.0, 0, 0
    for ids, labels in rows:
        tokens = torch.tensor(ids, dtype=torch.long)[None]
        with torch.no_grad():
            mask = torch.ones_like(tokens)
            logits = model(input_ids=tokens, attention_mask=mask, use_cache=False).logits[0, :-1]
        targets = torch.tensor(labels, dtype=torch.long)[1:]
        kept = targets != IGNORED
        total += float(functional.cross_entropy(logits[kept], targets[kept], reduction="sum"))
        count += int(kept.sum())
        correct += int((logits.argmax(-1) == targets)[kept].sum())
    return total, count, correct


def batch_of(rows: Sequence[Pair], padding_id: int = END) -> Batch:
    return collate(rows, padding_id=padding_id, device=CPU)


def test_rows_are_padded_on_the_right() -> None:
    batch = batch_of(RAGGED[:2])
    assert batch.input_ids.tolist() == [[5, 6, 7, 8, END], [9, 10, END, END, END]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert batch.labels.tolist() == [
        [IGNORED, IGNORED, IGNORED, 8, END],
        [IGNORED, IGNORED, END, IGNORED, IGNORED],
    ]
    assert {t.dtype for t in (batch.input_ids, batch.attention_mask, batch.labels)} == {torch.int64}


def test_the_end_of_a_turn_stays_supervised_where_padding_is_the_same_token() -> None:
    model = Counted()
    scored = score(model, batch_of(RAGGED, padding_id=END))
    total, count, correct = by_row(model, RAGGED)
    assert float(scored.loss_sum.detach()) == pytest.approx(total, rel=1e-6)
    assert (scored.count, int(scored.correct)) == (count, correct)
    assert count == 7
    without_ends = [(ids, np.where(ids == END, IGNORED, labels)) for ids, labels in RAGGED]
    assert score(model, batch_of(without_ends)).count == 4, "each end was one of them"


def test_the_padding_token_does_not_matter() -> None:
    model = Counted()
    losses = {float(score(model, batch_of(RAGGED, p)).loss_sum.detach()) for p in (0, 1, END)}
    assert len(losses) == 1


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_batch_scores_as_its_rows_do(tiny_model: TinyModel, architecture: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model(architecture), dtype=torch.float32)
    model.eval()
    scored = score(model, batch_of(RAGGED))
    total, count, correct = by_row(model, RAGGED)
    assert float(scored.loss_sum.detach()) == pytest.approx(total, rel=1e-5)
    assert (scored.count, int(scored.correct)) == (count, correct)


def test_logits_are_computed_only_where_some_row_is_supervised() -> None:
    keeping, plain = Keeping(), Counted()
    kept, full = score(keeping, batch_of(RAGGED)), score(plain, batch_of(RAGGED))
    # tokens 1, 2, 3, 4, 6 and 7 are predicted in some row, from the places before them
    assert keeping.calls[0]["shape"] == (3, 6, 300)
    assert kept.loss_sum.equal(full.loss_sum)
    assert (kept.count, int(kept.correct)) == (full.count, int(full.correct))


def test_the_union_of_places_equals_the_full_logits(tiny_model: TinyModel) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model("llama"), dtype=torch.float32)
    model.eval()
    batch = batch_of(RAGGED)
    with torch.no_grad():
        logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    full = functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), batch.labels[:, 1:].flatten(), reduction="sum"
    )
    torch.testing.assert_close(score(model, batch).loss_sum.detach(), full)


def test_nothing_is_cached_and_padding_is_masked() -> None:
    model = Counted()
    batch = batch_of(RAGGED)
    score(model, batch)
    assert model.calls[0]["use_cache"] is False
    assert model.calls[0]["attention_mask"].equal(batch.attention_mask)


def test_an_adapted_model_keeps_logits_where_its_base_does(tiny_model: TinyModel) -> None:
    from lora_cli.adapters import Lora
    from lora_cli.model.adapter import attach_adapter

    base = AutoModelForCausalLM.from_pretrained(tiny_model("llama"), dtype=torch.float32)
    names = [name for name, _ in base.named_modules() if name.endswith("q_proj")]
    model = attach_adapter(base, Lora(), peft_names=["q_proj"], modules=names, seed=0).model
    shapes: list[Any] = []
    base.lm_head.register_forward_hook(lambda *call: shapes.append(tuple(call[2].shape)))
    score(model, batch_of(RAGGED))
    assert shapes == [(3, 6, 259)]


def test_many_logits_are_computed_in_chunks_of_those_that_are_scored(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lora_cli.adapters import Lora
    from lora_cli.model.adapter import attach_adapter
    from lora_cli.tasks import chunked_loss

    base = AutoModelForCausalLM.from_pretrained(tiny_model("llama"), dtype=torch.float32)
    names = [name for name, _ in base.named_modules() if name.endswith("q_proj")]
    model = attach_adapter(base, Lora(), peft_names=["q_proj"], modules=names, seed=0).model
    shapes: list[Any] = []
    head = base.lm_head.forward
    monkeypatch.setattr(chunked_loss, "CHUNK", 4)
    base.lm_head.register_forward_hook(lambda *call: shapes.append(tuple(call[2].shape)))
    assert score(model, batch_of(RAGGED)).count == 7
    assert [each for each in shapes if each[-1] == 259] == [(4, 259), (3, 259)], "each once"
    assert base.lm_head.forward == head


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
@pytest.mark.parametrize("keeps", [True, False], ids=["logits kept", "all logits"])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize(
    ("variant", "in_front"),
    [("prompt_tuning", True), ("p_tuning", True), ("prefix_tuning", False)],
)
def test_virtual_tokens_do_not_shift_what_is_scored(
    tiny_model: TinyModel,
    monkeypatch: pytest.MonkeyPatch,
    architecture: str,
    variant: str,
    in_front: bool,
    keeps: bool,
) -> None:
    """The loss equals a plain computation over all logits, and the one that peft itself makes."""
    from lora_cli.adapters import AdapterSpec
    from lora_cli.model.adapter import attach_adapter
    from lora_cli.tasks import causal_lm

    spec: Any = TypeAdapter(AdapterSpec).validate_python({"variant": variant, "virtual_tokens": 5})
    base = AutoModelForCausalLM.from_pretrained(tiny_model(architecture), dtype=torch.float32)
    model = attach_adapter(base, spec, peft_names=[], modules=[], seed=0).model.eval()
    monkeypatch.setattr(causal_lm, "_keeps_logits", lambda _model: keeps)
    batch = batch_of(RAGGED)
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    rows, longest = batch.input_ids.shape
    with torch.no_grad():
        logits = model(**inputs).logits
        assert logits.shape[:2] == (rows, longest + (5 if in_front else 0))
        own = model(**inputs, labels=batch.labels).loss
        scored = score(model, batch)
    full = functional.cross_entropy(
        logits[:, -longest:-1].flatten(0, 1), batch.labels[:, 1:].flatten(), reduction="sum"
    )
    torch.testing.assert_close(scored.loss_sum, full)
    torch.testing.assert_close(scored.loss_sum / scored.count, own)


def test_a_loss_is_float32_and_has_gradients_whatever_the_model_computes_in() -> None:
    model = Counted().to(torch.bfloat16)
    scored = score(model, batch_of(RAGGED))
    assert scored.loss_sum.dtype == torch.float32
    scored.loss_sum.backward()
    assert model.table.weight.grad is not None
    assert not scored.correct.requires_grad


def test_rows_with_nothing_supervised_add_nothing() -> None:
    model = Counted()
    nothing = pair([1, 2, 3], [])
    alone = score(model, batch_of([nothing]))
    assert (float(alone.loss_sum.detach()), alone.count, int(alone.correct)) == (0.0, 0, 0)
    beside = score(model, batch_of([*RAGGED, nothing]))
    assert beside.count == 7
    torch.testing.assert_close(beside.loss_sum, score(model, batch_of(RAGGED)).loss_sum)


rows = st.integers(2, 12).flatmap(
    lambda length: st.tuples(
        st.lists(st.integers(0, 299), min_size=length, max_size=length),
        st.sets(st.integers(0, length - 1)),
    )
)


@given(st.lists(rows, min_size=1, max_size=5))
def test_any_rows_score_as_a_batch_as_they_do_alone(
    drawn: list[tuple[list[int], set[int]]],
) -> None:
    """Whatever is supervised, the first token excepted, which nothing predicts."""
    model = Counted()
    made = [pair(ids, sorted(places)) for ids, places in drawn]
    scored = score(model, batch_of(made))
    total, count, correct = by_row(model, made)
    assert float(scored.loss_sum.detach()) == pytest.approx(total, rel=1e-4, abs=1e-4)
    assert (scored.count, int(scored.correct)) == (count, correct)
