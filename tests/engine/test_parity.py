"""The engine against a plain peft + torch loop written here: the same losses, step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, get_cosine_schedule_with_warmup

from lora_cli.data.batches.order import BatchOrder
from lora_cli.data.batches.units import units_of
from lora_cli.engine.prepare import planned_dataset, planned_tokenizer
from lora_cli.plan.run_plan import RunPlan
from tests.helpers.runs import PLAIN_PEFT, losses_of, plan_of, train, write_recipe

pytestmark = PLAIN_PEFT
TinyModel = Callable[[str], Path]
STEPS = 20
TOLERANCE = 1e-5
TARGETS = {
    "llama": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "gpt2": ["c_attn", "c_proj", "c_fc"],
}


def planned(folder: Path, base: Path, /, **sections: Any) -> RunPlan:
    training = {"steps": STEPS, "batch_size": 2, "learning_rate": 0.01, "warmup_ratio": 0.1}
    training |= sections.pop("training", {})
    return plan_of(write_recipe(folder, base, training=training, **sections))


def plain_model(plan: RunPlan, architecture: str) -> Any:
    """Return the adapted model as a user of peft would make it."""
    base = AutoModelForCausalLM.from_pretrained(
        plan.model.folder, dtype=torch.float32, attn_implementation=plan.model.attention
    )
    torch.manual_seed(plan.seed)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=4,
        lora_alpha=plan.adapter.spec.resolved_alpha,
        lora_dropout=0.0,
        use_rslora=plan.adapter.spec.variant == "rslora",
        target_modules=TARGETS[architecture],
        fan_in_fan_out=architecture == "gpt2",
    )
    return get_peft_model(base, config)


def plain_losses(plan: RunPlan, architecture: str, batch: int, accumulation: int) -> list[float]:
    """Return the losses of a loop that shares no code with the engine but rows and their order."""
    train = planned_dataset(plan, planned_tokenizer(plan)).train
    rows = [row.tokens for row in train]
    units = units_of(train.lengths, [len(train)])
    order = BatchOrder(units, batch, accumulation, processes=1, seed=plan.seed)
    model = plain_model(plan, architecture)
    model.train()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.0)
    scheduler = get_cosine_schedule_with_warmup(optimizer, STEPS // 10, STEPS)
    losses = []
    for step in range(1, STEPS + 1):
        chosen = [rows[index] for index in order.rows_of_step(step)]
        losses.append(backward_of_mean(model, chosen, batch))
        clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
    return losses


def backward_of_mean(model: Any, rows: Sequence[Any], batch: int) -> float:
    """Add the gradients of the mean loss over all supervised tokens; return that mean."""
    supervised = sum(int((row.labels[1:] != -100).sum()) for row in rows)
    mean = 0.0
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        ids = [torch.tensor(row.input_ids, dtype=torch.long) for row in part]
        labels = [torch.tensor(row.labels, dtype=torch.long) for row in part]
        targets = pad_sequence(labels, batch_first=True, padding_value=-100)[:, 1:]
        logits = model(
            input_ids=pad_sequence(ids, batch_first=True),
            attention_mask=pad_sequence([torch.ones_like(i) for i in ids], batch_first=True),
        ).logits[:, :-1]
        loss = cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum") / supervised
        loss.backward()
        mean += loss.item()
    return mean


def largest_difference(one: Sequence[float], other: Sequence[float]) -> float:
    assert len(one) == len(other)
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("variant", ["lora", "rslora"])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_losses_equal_those_of_a_plain_loop(
    tmp_path: Path,
    tiny_model: TinyModel,
    architecture: str,
    variant: str,
    accumulation: int,
    record_property: Callable[[str, object], None],
) -> None:
    plan = planned(
        tmp_path,
        tiny_model(architecture),
        adapter={"variant": variant},
        training={"gradient_accumulation_steps": accumulation},
    )
    plain = plain_losses(plan, architecture, 2, accumulation)
    result, _ = train(plan)
    ours = losses_of(result.run_dir)
    difference = largest_difference(ours, plain)
    record_property("largest_difference", difference)
    assert difference <= TOLERANCE
    assert len(ours) == STEPS
    assert ours[-1] < ours[0] - 0.1, "the loop learnt too little for the comparison to mean much"


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_gradient_checkpointing_changes_no_loss(
    tmp_path: Path, tiny_model: TinyModel, architecture: str
) -> None:
    plan = planned(tmp_path, tiny_model(architecture), training={"gradient_checkpointing": True})
    plain = plain_losses(plan, architecture, 2, 1)
    result, _ = train(plan)
    assert largest_difference(losses_of(result.run_dir), plain) <= TOLERANCE


def test_eager_attention_gives_the_losses_of_sdpa(tmp_path: Path, tiny_model: TinyModel) -> None:
    losses = {}
    for attention in ("eager", "sdpa"):
        (tmp_path / attention).mkdir()
        plan = planned(tmp_path / attention, tiny_model("llama"), model={"attention": attention})
        assert plan.model.attention == attention
        result, _ = train(plan)
        losses[attention] = losses_of(result.run_dir)
    assert largest_difference(losses["eager"], losses["sdpa"]) <= TOLERANCE


def test_four_times_two_rows_train_as_one_batch_of_eight(
    tmp_path: Path, tiny_model: TinyModel
) -> None:
    """Rows of a step hold unequal numbers of supervised tokens: a mean of means would differ."""
    losses = {}
    for batch, accumulation in ((8, 1), (2, 4)):
        folder = tmp_path / str(batch)
        folder.mkdir()
        sizes = {"batch_size": batch, "gradient_accumulation_steps": accumulation}
        result, _ = train(planned(folder, tiny_model("llama"), training=sizes))
        losses[batch] = losses_of(result.run_dir)
    assert largest_difference(losses[8], losses[2]) <= TOLERANCE
