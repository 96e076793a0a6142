"""The small state that every checkpoint carries."""

from __future__ import annotations

from dataclasses import asdict

from lora_cli.engine.progress import Progress


def test_steps_add_up() -> None:
    progress = Progress()
    progress.add_step(loss=2.0, tokens=10, seconds=0.5, memory_bytes=300)
    progress.add_step(loss=1.5, tokens=12, seconds=0.25, memory_bytes=200)
    assert asdict(progress) == {
        "step": 2,
        "loss": 1.5,
        "best_loss": None,
        "best_step": 0,
        "evaluations_since_best": 0,
        "tokens": 22,
        "seconds": 0.75,
        "peak_memory_bytes": 300,
    }


def test_the_first_evaluation_is_the_best_until_a_lower_one() -> None:
    progress = Progress()
    seen = []
    for step, loss in enumerate([3.0, 3.5, 3.0, 2.0, 2.5], 1):
        progress.step = step
        better = progress.add_evaluation(loss)
        seen.append((better, progress.best_step, progress.evaluations_since_best))
    assert seen == [(True, 1, 0), (False, 1, 1), (False, 1, 2), (True, 4, 0), (False, 4, 1)]
    assert progress.best_loss == 2.0


def test_a_loss_of_zero_can_be_the_best() -> None:
    progress = Progress(step=1)
    assert progress.add_evaluation(0.0)
    assert not progress.add_evaluation(0.1)
