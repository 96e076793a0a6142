"""How far a run is, and what it has come to: the small state that every checkpoint carries."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Progress:
    """Steps done, the best evaluation so far, and the figures of all steps together."""

    step: int = 0
    loss: float | None = None
    """Training loss of the last step."""
    best_loss: float | None = None
    best_step: int = 0
    evaluations_since_best: int = 0
    tokens: int = 0
    seconds: float = 0.0
    """Of training steps; evaluations and loading aside."""
    peak_memory_bytes: int = 0

    def add_step(self, *, loss: float, tokens: int, seconds: float, memory_bytes: int) -> None:
        """Count one more step."""
        self.step += 1
        self.loss = loss
        self.tokens += tokens
        self.seconds += seconds
        self.peak_memory_bytes = max(self.peak_memory_bytes, memory_bytes)

    def add_evaluation(self, loss: float) -> bool:
        """Count an evaluation at this step; return whether it is the best so far."""
        better = self.best_loss is None or loss < self.best_loss
        if better:
            self.best_loss, self.best_step, self.evaluations_since_best = loss, self.step, 0
        else:
            self.evaluations_since_best += 1
        return better
