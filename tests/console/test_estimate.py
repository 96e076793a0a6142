"""Estimates on the terminal, as JSON, and what is asked for wrongly."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from lora_cli.console.estimate import Asked, make_and_show_estimate
from lora_cli.console.estimate_text import WIDTH, bar, interval, show
from lora_cli.errors import LoraCliError
from lora_cli.memory import estimate as estimating
from lora_cli.memory.answers import on_each, on_one
from lora_cli.memory.devices import card_of, find_device
from lora_cli.memory.fit import fit
from lora_cli.memory.interval import Interval
from lora_cli.memory.simulate import CannotSimulate
from lora_cli.memory.subject import Subject, subject_of_recipe
from lora_cli.memory.trace import Storage, Trace
from lora_cli.plan.run_plan import RunPlan
from lora_cli.recipe.load import load_recipe

GIB = 1 << 30


@pytest.fixture
def subject(
    recipe_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Subject]:
    """Return a recipe for a device, whose step needs 1 GiB of weights and 2 for each row."""

    def simulate(plan: RunPlan, batches: list[object]) -> Trace:
        rows = plan.schedule.batch_size
        modules = [f"model.layers.{n % 2}.mlp: mm" for n in range(2 * rows)]
        storages = (
            Storage(GIB, "base weights", "model.layers.0.mlp.weight", "loading"),
            *(Storage(GIB, "activations", name, "forward") for name in modules),
        )
        events = (*range(len(storages)), *(~n for n in range(1, len(storages))))
        return Trace(storages, events, ((0, "loading"), (1, "forward")))

    monkeypatch.setattr(estimating, "simulate", simulate)

    def make(*overrides: str, device: str = "L4") -> Subject:
        loaded = load_recipe(recipe_file(), overrides)
        return subject_of_recipe(loaded).on(find_device(device).machine())

    return make


def asked(recipe: Path | None = None, **changes: object) -> Asked:
    fields: dict[str, object] = {
        "recipe": recipe, "settings": {}, "overrides": (), "device": None, "fit": None,
        "all_devices": False, "levers": None, "as_json": False,
    }  # fmt: skip
    return Asked(**{**fields, **changes})  # type: ignore[arg-type]


def shown(found: object) -> str:
    text = io.StringIO()
    show(found, Console(file=text, highlight=False, width=200))  # type: ignore[arg-type]
    return text.getvalue()


def test_an_estimate_says_what_fits_and_what_the_peak_is_made_of(
    subject: Callable[..., Subject],
) -> None:
    text = shown(on_one(subject()))
    for piece in (
        "L4 24GB: 9.27–10.3 GiB of 22.0 GiB: fits",
        "4 rows of ",
        "simulated with torch 2.",
        "the peak, in the forward phase",
        "base weights",
        "activations",
        "context",
        "8.00 GiB  model.layers.*.mlp",
        "8 × model.layers.*.mlp: mm  (activations",
        "to load the base",
        "--levers: what each change",
    ):
        assert piece in text, piece


def test_levers_are_lines_to_copy(subject: Callable[..., Subject]) -> None:
    text = shown(on_one(subject(), levers=True))
    assert "what to change, each by itself" in text
    flags = "--set training.batch_size=1 --set training.gradient_accumulation_steps=4"
    (line,) = [line for line in text.splitlines() if flags in line]
    assert line.startswith("-6.03 GiB  fits")
    assert "the same steps, more passes" in line
    assert "adamw_8bit" not in text  # saves nothing of this step


def test_nothing_to_change_is_said(subject: Callable[..., Subject]) -> None:
    text = shown(on_one(subject("training.batch_size=1"), levers=True))
    assert "no change that a recipe can say would save anything" in text


def test_the_answers_to_fit_are_lines_to_copy(subject: Callable[..., Subject]) -> None:
    room = 10 * GIB
    text = shown(fit(subject().on(card_of(room)), room))
    assert "as it is: 9.27–10.3 GiB of 10.0 GiB: tight" in text
    lines = {line.split("  ")[0]: line for line in text.splitlines() if line}
    assert "2 rows" in lines["largest micro batch"]
    assert "--set training.batch_size=2 --set" in lines["largest micro batch"]
    assert "none fits" in lines["longest rows"]
    assert "one row at a time" in lines["mildest changes"]
    tiny = shown(fit(subject().on(card_of(GIB)), GIB))
    assert "no set of changes fits" in tiny
    large = shown(fit(subject().on(card_of(80 * GIB)), 80 * GIB))
    assert "none needed" in large
    assert "24 rows, the most there can be (a step of 24 rows, not of 4)" in large


def test_all_devices_are_a_row_each(subject: Callable[..., Subject]) -> None:
    devices = [find_device(name) for name in ("RTX 3060", "L4", "T4", "M-series 16GB")]
    lines = shown(on_each(subject("model.dtype=bfloat16"), devices)).splitlines()
    assert [line.split("  ")[0] for line in lines] == [each.name for each in devices]
    assert "fits" in lines[0]
    assert "9.27–10.3 GiB of 11.7 GiB" in lines[0]
    assert "not planned" in lines[2]
    assert "has no bfloat16" in lines[2]


def test_what_was_not_simulated_says_so(
    subject: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_plan: RunPlan, _batches: object) -> Trace:
        raise CannotSimulate("a value of the weights is asked for")

    made = subject()
    monkeypatch.setattr(estimating, "simulate", refuse)
    text = shown(on_one(made))
    assert "in closed form, ±15%: not simulated (a value of the weights is asked for)" in text


@pytest.mark.parametrize("size", [0, 1, 10, 500, 999, 1000, 2000])
def test_a_bar_is_never_longer_than_its_width_and_never_hides_what_is_there(size: int) -> None:
    drawn = bar(size, 1000)
    assert len(drawn) <= WIDTH
    assert bool(drawn) == (size > 0)


def test_a_larger_size_has_no_shorter_bar() -> None:
    lengths = [len(bar(size, 1000)) for size in range(0, 1001, 25)]
    assert lengths == sorted(lengths)
    assert bar(1000, 1000) == "█" * WIDTH
    assert bar(500, 1000) == "█" * (WIDTH // 2)


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (GIB, 2 * GIB, "1.00–2.00 GiB"),
        (GIB, GIB, "1.00 GiB"),
        (1 << 20, GIB, "1.0 MiB to 1.00 GiB"),
        (12 * GIB, 12 * GIB + 1, "12.0 GiB"),
    ],
)
def test_intervals_are_short(low: int, high: int, text: str) -> None:
    assert interval(Interval(low, high)) == text


def test_a_program_gets_json_alone(
    subject: Callable[..., Subject],
    recipe_file: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_and_show_estimate(asked(recipe_file(), device="L4", as_json=True))
    found = json.loads(capsys.readouterr().out)
    assert (found["device"], found["verdict"], found["method"]) == ("L4 24GB", "fits", "simulated")
    assert found["allocated"] == 9 * GIB
    make_and_show_estimate(asked(recipe_file(), fit="10GiB", as_json=True))
    assert json.loads(capsys.readouterr().out)["batch_size"]["value"] == 2
    make_and_show_estimate(asked(recipe_file(), all_devices=True, as_json=True))
    assert len(json.loads(capsys.readouterr().out)["devices"]) > 20


def test_without_a_recipe_settings_are_enough(
    subject: Callable[..., Subject],
    tiny_model: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings: dict[str, str | int] = {
        "model": str(tiny_model()), "adapter.variant": "rslora", "adapter.rank": 2,
        "training.batch_size": 3, "training.max_length": 64,
    }  # fmt: skip
    make_and_show_estimate(asked(settings=settings, overrides=("quantization=nf4",), fit="24GB"))
    text = capsys.readouterr().out
    assert "3 rows of 64 tokens, the longest that max_length lets in" in text
    assert "as it is: " in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fit": "3 bananas"}, "--fit 3 bananas: `3 bananas` is no size"),
        ({"fit": "24"}, "write a number and a unit"),
        ({"fit": "0GB"}, "is no size"),
        ({"device": "RTX 9090"}, "--device RTX 9090: no device"),
        ({"device": "A100"}, "is several devices"),
        ({"overrides": ("adapter.rank=0",)}, "--set adapter.rank=0"),
        ({"overrides": ("adapter.rnak=4",)}, "unknown key `adapter.rnak`"),
        ({"overrides": ("model=./nowhere",)}, "there is no model"),
        ({"overrides": ("adapter.target_modules=[q_porj]",)}, "q_porj"),
        ({"overrides": ("dataset=row.jsonl",)}, "there is no file"),
        (
            {"recipe": None, "settings": {"model": "./nowhere"}},
            "--model ./nowhere model.name: there is no model",
        ),
        ({"recipe": None, "settings": {"model": "nobody/nothing"}}, "--model nobody/nothing "),
        (
            {"recipe": None, "settings": {"model": "x", "adapter.variant": "loar"}},
            "--variant loar ",
        ),
        (
            {"recipe": None, "settings": {"model": "x", "adapter.rank": 0}},
            "--rank 0 adapter.rank: ",
        ),
        ({"recipe": Path("missing.yaml")}, "missing.yaml: does not exist"),
    ],
)
def test_a_wrong_question_is_answered_with_exit_code_2(
    recipe_file: Callable[..., Path], changes: dict[str, object], message: str
) -> None:
    question = asked(**{"recipe": recipe_file(), **changes})  # type: ignore[arg-type]
    with pytest.raises(LoraCliError) as error:
        make_and_show_estimate(question)
    assert message in str(error.value)
    assert error.value.exit_code == 2
