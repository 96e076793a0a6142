"""SIGINT and SIGTERM stop a run between two steps, with a checkpoint and their own exit codes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lora_cli.cli import app
from lora_cli.engine.checkpoint import is_whole
from lora_cli.engine.run import run
from lora_cli.engine.signals import interrupted, signals_noted
from lora_cli.errors import InterruptedRunError
from lora_cli.events import Event, Stage
from tests.helpers.runs import losses_of, metrics_of, plan_of, train, write_recipe

TinyModel = Callable[[str], Path]
BOTH = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
STEPS = 100
"""More than are done before the signal comes."""


@pytest.mark.parametrize(("number", "code"), BOTH)
def test_the_error_names_the_signal_and_carries_its_exit_code(number: int, code: int) -> None:
    error = interrupted(number, 7)
    name = signal.Signals(number).name
    assert str(error).startswith(f"{name} after step 7; a checkpoint is written")
    assert "--resume" in str(error)
    assert error.signal_exit_code == code


@pytest.mark.parametrize(("number", "_code"), BOTH)
def test_the_first_signal_is_noted_and_handlers_are_put_back(number: int, _code: int) -> None:
    before = signal.getsignal(number)
    with signals_noted() as received:
        assert received == []
        signal.raise_signal(number)
        assert received == [number]
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_breaks_off_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), signals_noted():
        press_twice()


def press_twice() -> None:
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)


def test_another_thread_can_train_too() -> None:
    seen: list[list[int]] = []

    def work() -> None:
        with signals_noted() as received:
            seen.append(received)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [[]]


@pytest.mark.parametrize(("number", "code"), BOTH)
def test_after_the_last_step_a_signal_breaks_off_what_can_be_done_again(
    tmp_path: Path, tiny_model: TinyModel, number: int, code: int
) -> None:
    plan = plan_of(write_recipe(tmp_path, tiny_model("llama")))

    def press_while_writing(event: Event) -> None:
        if event == Stage("writing the adapter"):
            signal.raise_signal(number)

    with pytest.raises(
        InterruptedRunError, match=r"after step 4; a checkpoint.*--resume"
    ) as caught:
        run(plan, press_while_writing)
    assert caught.value.signal_exit_code == code
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    result, _ = train(plan, resume=True)
    assert result.steps == 4


@dataclass(frozen=True)
class Stopped:
    """A run of the command line that a signal stopped in the midst of training."""

    folder: Path
    exit_code: int
    errors: str


@pytest.fixture(scope="module")
def stopped(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: TinyModel
) -> Iterator[dict[int, Stopped]]:
    """One stopped run for each signal; they run side by side."""
    running = {}
    for number, _ in BOTH:
        folder = tmp_path_factory.mktemp(signal.Signals(number).name)
        command = [sys.executable, "-m", "lora_cli", "train", str(recipe_in(folder, tiny_model))]
        running[number] = (
            folder,
            subprocess.Popen(
                command,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},  # as in this process
            ),
        )
    try:
        send_once_under_way(running)
        yield {
            number: Stopped(
                folder, errors=process.communicate(timeout=60)[1], exit_code=process.returncode
            )
            for number, (folder, process) in running.items()
        }
    finally:
        for _, process in running.values():
            process.kill()


def send_once_under_way(running: dict[int, tuple[Path, subprocess.Popen[str]]]) -> None:
    """Send each process its signal as soon as it has done some steps."""
    deadline = time.monotonic() + 90
    waiting = dict(running)
    while waiting and time.monotonic() < deadline:
        for number, (folder, process) in list(waiting.items()):
            metrics = folder / "run" / "metrics.jsonl"
            if metrics.is_file() and metrics.read_bytes().count(b"\n") >= 3:
                process.send_signal(number)
                del waiting[number]
            elif process.poll() is not None:
                del waiting[number]
        time.sleep(0.01)


def recipe_in(folder: Path, tiny_model: TinyModel) -> Path:
    training = {"steps": STEPS, "save_steps": 40, "batch_size": 1, "learning_rate": 1e-3}
    adapter = {"dropout": 0.2}
    return write_recipe(folder, tiny_model("llama"), training=training, adapter=adapter)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, tiny_model: TinyModel) -> Path:
    """The run directory of the same run, undisturbed."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    train(plan_of(recipe_in(folder, tiny_model)))
    return folder / "run"


@pytest.mark.parametrize(("number", "code"), BOTH)
def test_the_command_ends_with_the_signals_exit_code(
    stopped: dict[int, Stopped], number: int, code: int
) -> None:
    ended = stopped[number]
    assert ended.exit_code == code, ended.errors
    assert f"{signal.Signals(number).name} after step" in ended.errors
    assert "--resume" in ended.errors
    assert "Traceback" not in ended.errors
    done = len(metrics_of(ended.folder / "run"))
    assert 3 <= done < STEPS
    assert is_whole(ended.folder / "run" / "checkpoints" / f"step-{done:06d}")


@pytest.mark.parametrize("number", [number for number, _ in BOTH])
def test_resume_finishes_as_if_nothing_had_happened(
    stopped: dict[int, Stopped], uninterrupted: Path, tmp_path: Path, number: int
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(stopped[number].folder, folder)
    recipe = folder / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace(str(stopped[number].folder), str(folder)))
    finished = CliRunner().invoke(app, ["train", str(recipe), "--resume"])
    assert finished.exit_code == 0, finished.output
    weights = "adapter/adapter_model.safetensors"
    assert (folder / "run" / weights).read_bytes() == (uninterrupted / weights).read_bytes()
    losses = losses_of(folder / "run")
    assert len(losses) == STEPS
    assert losses == losses_of(uninterrupted)
