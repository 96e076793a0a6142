"""The closed form: against figures worked out by hand, and near what is simulated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lora_cli.memory.closed_form import closed_form
from lora_cli.memory.components import by_category, by_phase
from lora_cli.memory.simulate import simulate, twice
from lora_cli.memory.subject import Subject, subject_of_settings
from lora_cli.memory.trace import Trace
from lora_cli.tasks.task import CHUNK
from tests.helpers.model_folders import config_folder

Bare = Callable[..., Subject]
HIDDEN, INSIDE, LAYERS, HEADS, KEYS, VOCABULARY = 1024, 2816, 4, 16, 256, 32000
LINEAR = LAYERS * (2 * HIDDEN * HIDDEN + 2 * HIDDEN * KEYS + 3 * HIDDEN * INSIDE)
NORMS = (2 * LAYERS + 1) * HIDDEN
RANK = 16
SMALL = ("training.batch_size=2", "training.max_length=512")
TOKENS = 2 * 512
LAYERS_OF_EXPERTS = 2


def trace_of(subject: Subject) -> Trace:
    return closed_form(subject.plan, subject.facts.base, subject.batch)


def test_weights_take_two_bytes_in_bfloat16_and_four_in_float32(bare: Bare) -> None:
    found = by_category(trace_of(bare(*SMALL)))
    assert found["base weights"] == 2 * (LINEAR + NORMS)
    assert found["embeddings and head"] == 2 * 2 * VOCABULARY * HIDDEN
    wide = by_category(trace_of(bare(*SMALL, "model.dtype=float32")))
    assert wide["base weights"] == 2 * found["base weights"]


def test_four_bits_take_half_a_byte_and_their_scales(bare: Bare) -> None:
    twice = by_category(trace_of(bare(*SMALL, "quantization=nf4")))
    assert twice["base weights"] == LINEAR // 2 + 2 * NORMS
    assert twice["quantization constants"] == LINEAR // 64 + 4 * LINEAR // 64 // 256
    once = by_category(
        trace_of(bare(*SMALL, "quantization={method: nf4, double_quantization: false}"))
    )
    assert once["quantization constants"] == 4 * LINEAR // 64
    whole = by_category(trace_of(bare(*SMALL, "quantization=int8")))
    assert whole["base weights"] == LINEAR + 2 * NORMS


def test_an_adapter_and_its_state_are_in_float32(bare: Bare) -> None:
    subject = bare(*SMALL)
    trainable = subject.plan.adapter.trainable_parameters
    found = by_category(trace_of(subject))
    assert found["adapter"] == 4 * trainable
    assert found["optimizer"] == 8 * trainable
    small = by_category(trace_of(bare(*SMALL, "training.optimizer=adamw_8bit")))
    assert small["optimizer"] == round((2 + 8 / 256) * trainable)


def test_pages_hold_the_state_of_large_tensors_alone(bare: Bare) -> None:
    """bitsandbytes pages from 100,000 numbers on: at rank 64, what is 2816 long and no other."""
    paged = ("adapter.rank=64", "training.optimizer=paged_adamw")
    assert by_category(trace_of(bare(*SMALL, *paged)))["optimizer"] == 8 * 64 * LAYERS * (
        4 * HIDDEN + 2 * HIDDEN + 2 * KEYS + 2 * HIDDEN + HIDDEN
    )  # q and o at both ends, k and v, the inputs of gate and up, the output of down
    whole = by_category(trace_of(bare(*SMALL, *paged, device="M-series 16GB")))["optimizer"]
    assert whole == 8 * bare("adapter.rank=64").plan.adapter.trainable_parameters


def activations(targets: list[tuple[int, int]], bytes_of_targets: Callable[[int], int]) -> int:
    """Return the formula of the module's docstring for the Llama, in bfloat16."""
    norms = 2 * (4 * HIDDEN + 4)
    attention = 2 * HIDDEN + 4 * KEYS + 2 * HIDDEN + 4 * HEADS
    gating = 6 * INSIDE
    kept = sum(bytes_of_targets(inputs) for inputs, _ in targets)
    return LAYERS * TOKENS * (norms + attention + gating + kept)


def test_activations_are_those_of_the_formula(bare: Bare) -> None:
    only_q_and_v = "adapter.target_modules=[q_proj, v_proj]"
    two = [(HIDDEN, HIDDEN), (HIDDEN, KEYS)]
    found = by_category(trace_of(bare(*SMALL, only_q_and_v)))["activations"]
    assert found == activations(two, lambda inputs: 4 * inputs + 4 * RANK)
    dropped = by_category(trace_of(bare(*SMALL, only_q_and_v, "adapter.dropout=0.1")))
    assert dropped["activations"] == activations(two, lambda n: 4 * n + 4 * RANK + n)
    frozen = by_category(trace_of(bare(*SMALL, only_q_and_v, "training.optimizer=lora_fa")))
    assert frozen["activations"] == activations(two, lambda _: 4 * RANK)


def test_pairs_in_the_dtype_of_the_base_share_an_input_and_halve_the_rest(bare: Bare) -> None:
    only_q_and_v = ("adapter.target_modules=[q_proj, v_proj]", "adapter.dtype=bfloat16")
    subject = bare(*SMALL, *only_q_and_v)
    trainable, found = subject.plan.adapter.trainable_parameters, by_category(trace_of(subject))
    assert (found["adapter"], found["optimizer"]) == (2 * trainable, 4 * trainable)
    two = [(HIDDEN, HIDDEN), (HIDDEN, KEYS)]
    assert found["activations"] == activations(two, lambda inputs: inputs + 2 * RANK)
    dropped = by_category(trace_of(bare(*SMALL, *only_q_and_v, "adapter.dropout=0.1")))
    assert dropped["activations"] == activations(two, lambda n: 2 * n + 2 * RANK + n)
    small = by_category(trace_of(bare(*SMALL, *only_q_and_v, "training.optimizer=adamw_8bit")))
    assert small["optimizer"] == round((2 + 8 / 256) * trainable)


def test_what_is_trained_beside_such_pairs_is_in_float32(bare: Bare) -> None:
    subject = bare(*SMALL, "adapter.dtype=bfloat16", "adapter.modules_to_save=[lm_head]")
    pairs = subject.plan.adapter.trainable_parameters - VOCABULARY * HIDDEN
    found = by_category(trace_of(subject))
    assert found["adapter"] == 2 * pairs + 4 * VOCABULARY * HIDDEN
    assert found["optimizer"] == 2 * found["adapter"]


def test_the_loss_is_twelve_bytes_a_logit_of_a_chunk(bare: Bare) -> None:
    found = by_category(trace_of(bare(*SMALL)))
    states = 3 * 2 * HIDDEN * TOKENS
    assert found["logits and loss"] == 12 * VOCABULARY * min(CHUNK, TOKENS) + states


def test_checkpointing_keeps_one_vector_a_layer(bare: Bare) -> None:
    trace = trace_of(bare(*SMALL, "training.gradient_checkpointing=true"))
    assert by_category(trace)["activations"] == LAYERS * 2 * HIDDEN * TOKENS


def test_what_a_step_begins_with_is_left_after_it(bare: Bare) -> None:
    trace = trace_of(bare(*SMALL))
    left = sum(trace.storages[e].size if e >= 0 else -trace.storages[~e].size for e in trace.events)
    assert left == by_phase(trace)["loading"]
    assert list(by_phase(trace)) == ["loading", "forward", "loss", "backward", "optimizer"]


@pytest.mark.parametrize(
    ("less", "more"),
    [
        ("training.batch_size=1", "training.batch_size=3"),
        ("training.max_length=256", "training.max_length=320"),
        ("adapter.rank=8", "adapter.rank=64"),
        ("adapter.dropout=0", "adapter.dropout=0.1"),
        ("adapter.dtype=bfloat16", "adapter.dtype=float32"),
        ("quantization=nf4", "quantization=none"),
        ("training.gradient_checkpointing=true", "training.gradient_checkpointing=false"),
    ],
)
def test_more_of_anything_needs_more(bare: Bare, less: str, more: str) -> None:
    assert trace_of(bare(less)).peak_bytes() < trace_of(bare(more)).peak_bytes()


def test_a_token_goes_through_some_experts_alone(tmp_path: Path) -> None:
    """Kept of the experts: as many as a token has, of both stacks' larger side."""

    def of(experts: int, chosen: int) -> int:
        folder = config_folder(
            tmp_path / f"{experts}-{chosen}",
            "Qwen3MoeConfig",
            hidden_size=64,
            moe_intermediate_size=32,
            num_hidden_layers=LAYERS_OF_EXPERTS,
            num_attention_heads=4,
            num_experts=experts,
            num_experts_per_tok=chosen,
            vocab_size=64,
        )
        subject = subject_of_settings(
            [f"model={folder}", "adapter=lora", "adapter.target_modules=attention"], {}
        )
        return by_category(trace_of(subject))["activations"]

    assert of(8, 2) == of(4, 2)
    # two more of each stack's larger side, in bfloat16: gate and up in one, and down
    assert of(8, 4) - of(8, 2) == 2 * 2 * (64 + 64) * LAYERS_OF_EXPERTS * 8 * 1024


@pytest.mark.parametrize(
    ("settings", "most"),
    [
        ((), 0.06),
        (("training.gradient_checkpointing=true", "quantization=nf4"), 0.06),
        (("adapter.dropout=0.1",), 0.06),
        (("adapter.dtype=bfloat16",), 0.06),
        (("training.optimizer=lora_fa",), 0.06),
    ],
    ids=["plain", "checkpointed nf4", "dropout", "adapter in bfloat16", "frozen A"],
)
def test_the_closed_form_is_near_the_simulation(
    bare: Bare, settings: tuple[str, ...], most: float
) -> None:
    """Well inside the ±15 % that are said of it."""
    subject = bare("training.batch_size=1", "training.max_length=512", *settings)
    simulated = simulate(subject.plan, twice(subject.plan, subject.batch))
    assert trace_of(subject).peak_bytes() == pytest.approx(simulated.peak_bytes(), rel=most)
