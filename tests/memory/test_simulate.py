"""Simulated steps of whole plans: phases, categories, what they know and what they cannot do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest

from lora_cli.errors import EstimateError
from lora_cli.memory.batch_shape import BatchShape, longest_batch, shape_of
from lora_cli.memory.beside import compare_peaks
from lora_cli.memory.estimate import estimate
from lora_cli.memory.host import KEPT_AT_LEAST
from lora_cli.memory.simulate import CannotSimulate, per_step, simulate, twice
from lora_cli.memory.subject import subject_of_settings
from lora_cli.memory.trace import Trace
from lora_cli.plan.run_plan import RunPlan
from tests.helpers.architectures import SMALL_CONFIGS
from tests.helpers.model_folders import config_folder
from tests.helpers.runs import plan_of, write_recipe

TinyModel = Callable[[str], Path]
BF16 = {"dtype": "bfloat16", "attention": "sdpa"}
EVEN = BatchShape(2, 48)


def on_a_gpu(plan: RunPlan) -> RunPlan:
    return plan.model_copy(update={"device": plan.device.model_copy(update={"type": "cuda"})})


def planned(folder: Path, base: Path, **sections: Any) -> RunPlan:
    return plan_of(write_recipe(folder, base, **sections))


def peaks(trace: Trace) -> dict[str, int]:
    """Return the bytes of each category at the peak."""
    found: Counter[str] = Counter()
    for storage in trace.live_at_peak():
        found[storage.category] += storage.size
    return found


def test_a_trace_tells_phases_and_what_is_held(tiny_model: TinyModel, tmp_path: Path) -> None:
    plan = planned(tmp_path, tiny_model("llama"), evaluation={"split": 0.25, "batch_size": 4})
    trace = simulate(plan)
    phases = [phase for _, phase in trace.phases]
    step = ["forward", "loss", "backward", "optimizer"]
    assert phases == ["loading", *step, *step, "evaluation", "optimizer"]
    held: Counter[str] = Counter()
    for storage in trace.storages:
        if storage.phase == "loading":
            held[storage.category] += storage.size
    assert held["adapter"] == 4 * plan.adapter.trainable_parameters
    assert held["base weights"] + held["embeddings and head"] == 4 * plan.model.parameters
    states = [each for each in trace.storages if each.category == "optimizer"]
    assert sum(each.size for each in states) == 2 * held["adapter"]
    gradients = sum(each.size for each in trace.storages if each.category == "gradients")
    assert gradients == 2 * held["adapter"], "those of two steps"
    named = {each.name for each in trace.storages}
    assert "model.layers.0.self_attn.q_proj.weight" in named
    assert "model.layers.1.mlp.act_fn: silu" in named


def test_every_storage_but_the_model_and_its_states_ends(
    tiny_model: TinyModel, tmp_path: Path
) -> None:
    trace = simulate(planned(tmp_path, tiny_model("llama")), [EVEN, EVEN])
    ended = {~event for event in trace.events if event < 0}
    left = [each for index, each in enumerate(trace.storages) if index not in ended]
    activations = [each for each in left if each.category in ("activations", "gradients")]
    assert activations == []


def test_padding_needs_a_mask_and_another_kernel(tiny_model: TinyModel, tmp_path: Path) -> None:
    plan = on_a_gpu(planned(tmp_path, tiny_model("llama"), model=BF16))
    even = {each.name for each in simulate(plan, [EVEN]).storages}
    padded = {each.name for each in simulate(plan, [BatchShape(2, 48, padded=True)]).storages}
    flash, efficient = "_scaled_dot_product_flash", "_scaled_dot_product_efficient"
    assert any(flash in name for name in even - padded)
    assert any(efficient in name for name in padded - even)


def test_what_is_computed_again_is_computed_by_the_same_kernels(
    tiny_model: TinyModel, tmp_path: Path
) -> None:
    plan = planned(
        tmp_path,
        tiny_model("llama"),
        model=BF16,
        adapter={"dropout": 0.1},
        training={"gradient_checkpointing": True},
    )
    again = [each for each in simulate(on_a_gpu(plan), [EVEN]).storages if each.phase == "backward"]
    made = Counter(each.name.rpartition(": ")[2] for each in again)
    assert made["_scaled_dot_product_flash_attention"] > 0
    assert made["native_dropout"] > 0
    assert made["_softmax"] == made["bernoulli_"] == 0
    kept = {each.category for each in again if "mlp.act_fn" in each.name}
    assert "activations" in kept


def test_gradients_of_the_first_micro_batch_wait_for_the_second(
    tiny_model: TinyModel, tmp_path: Path
) -> None:
    plain = planned(tmp_path, tiny_model("llama"))
    summed = planned(tmp_path, tiny_model("llama"), training={"gradient_accumulation_steps": 4})
    assert per_step(plain) == 1
    assert per_step(summed) == 2, "the third is like the second"
    alone, together = (simulate(plan, twice(plan, EVEN)) for plan in (plain, summed))
    gradients = 4 * plain.adapter.trainable_parameters
    assert together.peak_bytes() - alone.peak_bytes() == pytest.approx(gradients, rel=0.2)


def test_only_supervised_positions_have_logits(tiny_model: TinyModel, tmp_path: Path) -> None:
    plan = planned(tmp_path, tiny_model("llama"))

    def logits(shape: BatchShape) -> int:
        found = simulate(plan, [shape]).storages
        return sum(each.size for each in found if each.category == "logits and loss")

    assert logits(BatchShape(2, 48, supervised=12)) < 0.3 * logits(EVEN)


def test_pages_are_not_in_the_memory_of_a_gpu(
    tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(tmp_path, tiny_model("llama"), training={"optimizer": "paged_adamw"})

    def states(plan: RunPlan) -> list[Any]:
        return [each for each in simulate(plan).storages if each.category == "optimizer"]

    assert states(on_a_gpu(plan)), "tensors this small are never paged"
    monkeypatch.setattr("lora_cli.memory.steps.PAGED", 1)
    assert states(on_a_gpu(plan)) == []
    assert states(plan), "on a CPU there is nothing to page to"


@pytest.mark.parametrize("method", ["nf4", "int8"])
def test_a_quantized_mixture_of_experts_on_a_gpu(
    method: str, tiny_model: TinyModel, tmp_path: Path
) -> None:
    plan = planned(tmp_path, tiny_model("mixtral"), model=BF16, quantization=method)
    assert peaks(simulate(on_a_gpu(plan)))["quantization constants"] > 0


def test_what_cannot_be_simulated_says_why(tiny_model: TinyModel, tmp_path: Path) -> None:
    plan = planned(tmp_path, tiny_model("llama"))
    model = plan.model.model_copy(update={"attention": "flash_attention_2"})
    asked = plan.model_copy(update={"model": model})
    with pytest.raises(CannotSimulate, match=r"(?i)flash"):
        simulate(asked)
    compared = compare_peaks(asked, peak=50, before=20, largest=EVEN)
    assert (compared.measured, compared.predicted) == (30, None)
    assert "lash" in compared.why_not


def test_a_step_that_a_guard_would_stop_is_an_error(tmp_path: Path) -> None:
    config_class, values = SMALL_CONFIGS["gemma3"]
    folder = config_folder(tmp_path, config_class, **values)
    subject = subject_of_settings([f"model={folder}", "adapter.variant=lora"], {})
    with pytest.raises(EstimateError, match=r"guard would stop .* get no gradient") as caught:
        estimate(subject)
    assert "vision_tower" in caught.value.problems[0].message
    assert "`adapter.exclude_modules`" in caught.value.problems[0].hint


def test_a_model_whose_sizes_do_not_go_together_is_an_error(tmp_path: Path) -> None:
    config_class, values = SMALL_CONFIGS["llama"]
    odd = {**values, "num_attention_heads": 4, "num_key_value_heads": 3, "head_dim": 8}
    folder = config_folder(tmp_path, config_class, **odd)
    subject = subject_of_settings([f"model={folder}", "adapter.variant=lora"], {})
    with pytest.raises(EstimateError, match="cannot run: The size of tensor a") as caught:
        estimate(subject)
    assert "config.json" in caught.value.problems[0].hint


def test_on_a_cpu_what_the_process_keeps_stands_beside_what_is_live(
    tiny_model: TinyModel, tmp_path: Path
) -> None:
    plan = planned(tmp_path, tiny_model("llama"))
    here = compare_peaks(plan, peak=50, before=20, largest=EVEN)
    there = compare_peaks(on_a_gpu(plan), peak=50, before=20, largest=EVEN)
    assert (here.measured, here.kept) == (30, KEPT_AT_LEAST)
    assert (there.measured, there.kept) == (50, 0)


def test_the_shape_of_rows() -> None:
    import numpy as np

    from lora_cli.data.encoding.tokenized_row import TokenizedRow

    def row(*labels: int) -> TokenizedRow:
        taught = np.array(labels, np.int32)
        return TokenizedRow(np.arange(taught.size, dtype=np.int32), taught, 1, 0, False, 0)

    rows = [row(5, -100, -100, 6), row(-100, 7, 8)]
    assert shape_of(rows, packed=False) == BatchShape(
        2, 4, padded=True, supervised=3, target_tokens=4
    )
    packed = BatchShape(1, 7, documents=(4, 3), supervised=3)
    assert shape_of(rows, packed=True) == packed
    assert packed.size == 7


def test_the_longest_batch_is_taken_for_padded(tiny_model: TinyModel, tmp_path: Path) -> None:
    plan = planned(tmp_path, tiny_model("llama"))
    assert longest_batch(plan) == BatchShape(4, plan.data.train.longest, padded=True)


def test_what_peft_refuses_is_no_matter_of_simulating(
    tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(tmp_path, tiny_model("llama"))

    def refuse(*_: Any) -> None:
        raise ValueError("Module 'q_proj' is incompatible")

    monkeypatch.setattr(peft, "get_peft_model", refuse)
    with pytest.raises(EstimateError, match="peft refuses this adapter: Module 'q_proj'"):
        simulate(plan)
