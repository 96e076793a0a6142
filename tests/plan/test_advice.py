"""Each warning: when it is said, in which words, and when it is not."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lora_cli.data.chat.chat_template import FOLDER
from lora_cli.plan.inputs import Facts
from lora_cli.plan.make import make_plan
from lora_cli.plan.resolve import resolve_plan
from lora_cli.recipe.load import LoadedRecipe
from tests.helpers.tiny_models import chat_row, sum_rows, write_rows

Probed = Callable[..., tuple[LoadedRecipe, Facts]]
CALM: dict[str, Any] = {
    "training": {"epochs": 2, "batch_size": 4, "learning_rate": 2e-4},
    "evaluation": {"split": 0.25},
}


@pytest.fixture
def warnings_of(probed: Probed) -> Callable[..., tuple[str, ...]]:
    def warnings(*overrides: str, architecture: str = "llama", **sections: Any) -> tuple[str, ...]:
        return resolve_plan(*probed(architecture, *overrides, **{**CALM, **sections})).warnings

    return warnings


WarningsOf = Callable[..., tuple[str, ...]]


@pytest.mark.parametrize(
    ("adapter", "method", "told"),
    [
        ({"variant": "pissa"}, "nf4", True),
        ({"variant": "olora"}, "int8", True),
        ({"variant": "pissa"}, "none", False),
        ({"variant": "loftq", "iterations": 2}, "fp4", True),
        ({"variant": "loftq"}, "fp4", False),
        ({"variant": "lora"}, "nf4", False),
    ],
)
def test_a_base_of_its_own_is_announced(
    warnings_of: WarningsOf, adapter: dict[str, Any], method: str, told: bool
) -> None:
    warnings = warnings_of(adapter={**adapter, "rank": 4}, quantization=method)
    expected = (
        f"{adapter['variant']} quantizes other weights than the model's: the run writes its "
        f"{method} base beside the adapter, which works on no other"
    )
    assert (expected in warnings) is told


def test_a_sound_recipe_is_not_talked_over(warnings_of: WarningsOf) -> None:
    assert warnings_of() == ()


@pytest.mark.parametrize(
    ("flags", "warning"),
    [
        (
            ["adapter.alpha=16"],
            "alpha is 16 at rank 4: without rank-stabilised scaling 8 is lora's usual choice",
        ),
        (
            ["training.learning_rate=6e-4"],
            (
                "a learning rate of 0.0006 is over 0.0005, which is high for lora: "
                "watch for a jump in the loss"
            ),
        ),
        (
            ["adapter.target_modules=attention"],
            "only attention is adapted: all-linear usually learns more at the same rank",
        ),
        (
            ["adapter.target_modules=[q_proj, v_proj]"],
            "only attention is adapted: all-linear usually learns more at the same rank",
        ),
        (
            ["adapter.rank=65"],
            "rank 65 without rsLoRA: alpha / rank shrinks the update; try variant rslora",
        ),
        (["training.epochs=21"], "21 passes over 18 rows memorise more than they teach"),
    ],
)
def test_a_warning_and_its_words(warnings_of: WarningsOf, flags: list[str], warning: str) -> None:
    assert warning in warnings_of(*flags)


@pytest.mark.parametrize(
    "flags",
    [
        ["adapter.variant=rslora", "adapter.alpha=3", "adapter.rank=200"],
        ["adapter.rank=64"],
        ["adapter.alpha=8"],
        ["adapter.variant=adalora"],
        ["adapter.variant=pissa", "adapter.alpha=4"],
        ["training.learning_rate=5e-4"],
        ["adapter.target_modules=[q_proj, up_proj]"],
        ["adapter.target_modules=mlp"],
        ["training.epochs=20"],
    ],
)
def test_what_is_not_warned_of(warnings_of: WarningsOf, flags: list[str]) -> None:
    small = "is all of it"  # the tiny model's layers are small for some of these ranks
    assert [each for each in warnings_of(*flags) if not each.endswith(small)] == []


@pytest.mark.parametrize(
    ("flags", "warning"),
    [
        (
            ["training.batch_size=30", "training.gradient_accumulation_steps=4"],
            "a step asks for 120 rows, and there are 18: it takes all",
        ),
        (
            ["training.epochs=1", "evaluation.every_steps=1000"],
            "evaluation every 1,000 steps of 5 is one at the end",
        ),
        (
            ["training.epochs=1", "evaluation.every_steps=9", "evaluation.patience=2"],
            "evaluation every 9 steps of 5 is one at the end, and patience has nothing to wait for",
        ),
        (
            ["adapter={variant: lokr, rank: 64}"],
            "lokr of rank 64 is that of rank 4, where its factors are whole",
        ),
        (
            ["adapter.rank_pattern={v_proj: 17}"],
            (
                "rank 17 is more than `model.layers.0.self_attn.v_proj` (16 × 32) can have: "
                "16 is all of it"
            ),
        ),
    ],
)
def test_what_can_have_no_effect(warnings_of: WarningsOf, flags: list[str], warning: str) -> None:
    assert warning in warnings_of(*flags)


def test_no_evaluation(probed: Probed) -> None:
    assert resolve_plan(*probed(training=CALM["training"])).warnings == (
        "no evaluation: nothing will tell learning from memorising; try `evaluation: 0.1`",
    )


def test_evaluation_on_the_training_rows(
    warnings_of: WarningsOf, probed: Probed, tmp_path: Path
) -> None:
    warning = "the evaluation rows are training rows: their loss says nothing about new ones"
    assert warnings_of(evaluation={"path": "rows.jsonl"}) == (warning,)
    shutil.copy(tmp_path / "rows.jsonl", tmp_path / "copy.jsonl")
    assert warnings_of(evaluation={"path": "copy.jsonl"}) == (warning,)
    write_rows(tmp_path / "apart.jsonl", sum_rows(3))
    assert warnings_of(evaluation={"path": "apart.jsonl"}) == ()


def test_rows_that_are_cut(probed: Probed, tmp_path: Path) -> None:
    loaded, _ = probed("llama", "training.truncation=tokens", **CALM)
    long = chat_row("Why?", "Because. " * 40)
    write_rows(tmp_path / "rows.jsonl", [*sum_rows(9), long])
    plan = make_plan(loaded)
    cut = plan.data.train.truncated_rows
    apart = plan.evaluation.tokens.truncated_rows if plan.evaluation else 0
    assert cut + apart == 1
    rows = plan.data.train.rows
    expected = (
        f"cut before their end-of-turn token: 1 of {rows} rows",
        f"longer than max_length, and cut: 1 row ({1 / rows:.1%}), with 1 answer",
    )
    assert plan.warnings == (expected if cut else ())


def test_turns_that_are_cut(probed: Probed, tmp_path: Path) -> None:
    loaded, _ = probed(**CALM)
    (first, *others) = sum_rows(9)
    more = chat_row("Why?", "Because. " * 40)["messages"]
    write_rows(tmp_path / "rows.jsonl", [{"messages": first["messages"] + more + more}, *others])
    plan = make_plan(loaded)
    assert plan.evaluation is not None
    assert plan.data.train.cut_turns + plan.evaluation.tokens.cut_turns == 2
    rows = plan.data.train.rows
    assert plan.data.train.rows_with_end == rows
    told = f"longer than max_length, and cut: 1 row ({1 / rows:.1%}), with 2 answers"
    assert plan.warnings == ((told,) if plan.data.train.cut_turns else ())


def test_tokens_that_a_chosen_template_writes_in_vain(
    warnings_of: WarningsOf, tmp_path: Path
) -> None:
    zephyr = (FOLDER / "zephyr.jinja").read_text("utf-8")
    (tmp_path / "headings.jinja").write_text(zephyr, "utf-8")
    assert warnings_of("model.chat_template=zephyr") == ()
    (warning,) = warnings_of("model.chat_template=headings.jinja")
    assert warning == (
        "the chat template writes what is no token of this model, and is read in pieces: "
        "`<|user|>`, `<|assistant|>`"
    )


def test_rows_that_are_dropped_and_columns_that_are_not_read(
    probed: Probed, tmp_path: Path
) -> None:
    loaded, _ = probed("llama", "dataset.on_bad_row=skip", **CALM)
    extra = {"id": 1, "notes": []}
    bad = [{"messages": []}, {"messages": 3}]
    write_rows(tmp_path / "rows.jsonl", [{**row, **extra} for row in sum_rows(9)] + bad)
    plan = make_plan(loaded)
    assert plan.warnings == (
        "dropped: 2 rows; `loracli preview` says which and why",
        "columns of the data that nothing reads: `id`, `notes`",
    )
    reason = "column `messages` must be a list of turns that is not empty"
    assert plan.data.sources[0].dropped == (f"10: {reason}", f"11: {reason}")
    assert plan.data.sources[0].dropped_by_reason == {reason: 2}


def test_experts_that_are_not_adapted(warnings_of: WarningsOf) -> None:
    """And nothing is said of attention, which is all that there is beside them."""
    (warning,) = warnings_of(architecture="mixtral")
    assert warning == (
        "the experts are not adapted: in 2 modules such as `model.layers.0.mlp.experts` one tensor "
        "holds them, and no linear layer; write `target_parameters: experts`"
    )
    assert warnings_of("adapter.target_parameters=experts", architecture="mixtral") == ()


def test_experts_that_stay_in_full_precision(warnings_of: WarningsOf) -> None:
    warnings = warnings_of("quantization=nf4", architecture="mixtral")
    (warning,) = (each for each in warnings if "stay in" in each)
    assert re.match(r"\d\d% of the model's parameters stay in \w+ on this base in nf4: ", warning)
    assert warning.endswith("bitsandbytes quantizes linear layers alone")
    assert not any("stay in" in each for each in warnings_of("quantization=nf4"))


def test_experts_that_the_variant_cannot_adapt(warnings_of: WarningsOf) -> None:
    (warning,) = warnings_of("adapter.variant=dora", architecture="mixtral")
    assert warning.endswith("write `target_parameters: experts`, with variant lora or rslora")


def test_an_end_that_is_never_learnt(probed: Probed) -> None:
    loaded, facts = probed(**CALM)
    train = facts.dataset.train.model_copy(update={"rows_with_end": 0})
    endless = replace(facts, dataset=replace(facts.dataset, train=train))
    assert resolve_plan(loaded, endless).warnings == (
        "no row trains on an end-of-turn token: the model may never stop",
    )
