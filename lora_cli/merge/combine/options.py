"""How adapters are to be combined: a method and its numbers, each of them checked."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

from lora_cli.errors import Problem, UsageError, Where
from lora_cli.merge.combine.choices import Into, MajoritySign, Method
from lora_cli.merge.fits import limit_error
from lora_cli.merge.truncate import Limit
from lora_cli.words import counted

METHODS: tuple[Method, ...] = get_args(Method)
STACKED: tuple[Method, ...] = ("linear", "cat")
"""The weighted sum as it is: pairs side by side, nothing lost."""
PRUNING: tuple[Method, ...] = ("ties", "dare_linear", "dare_ties", "magnitude_prune")
"""Entry by entry on ΔW, of which only a share is kept."""
VOTING: tuple[Method, ...] = ("ties", "dare_ties")
"""Each entry is the mean of those that have the sign of most."""
DRAWING: tuple[Method, ...] = ("dare_linear", "dare_ties")
"""What is kept is drawn."""


@dataclass(frozen=True)
class CombineOptions:
    """How adapters are combined.

    Raises:
        UsageError: with a problem for each value that is wrong, or that the method does not read.
    """

    method: Method = "linear"
    weights: tuple[float, ...] = ()
    """One an adapter; none: 1 each."""
    density: float | None = None
    """Share of each ΔW's entries that is kept."""
    majority_sign_method: MajoritySign | None = None
    """Which sign most have: by their sum (`total`, the default) or by count (`frequency`)."""
    rank: int | None = None
    """The highest rank of the result; by default that of the adapters, and in a model any."""
    energy: float | None = None
    """Least share of a combined ΔW's squared singular values that is kept; the rank follows."""
    seed: int | None = None
    """Of what DARE drops; by default 0."""
    into: Into = "adapter"
    """What the result is for: a model holds a change of any rank, a small adapter does not."""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            near = difflib.get_close_matches(str(self.method), METHODS, n=1)
            guess = f"did you mean `{near[0]}`? " if near else ""
            message = f"`{self.method}` is no method to combine adapters"
            raise UsageError(message, hint=f"{guess}methods: {', '.join(METHODS)}")
        problems = [Problem(Where(), message, hint) for message, hint in self._wrong()]
        if problems:
            raise UsageError.from_problems(problems)

    def weights_for(self, adapters: int) -> tuple[float, ...]:
        """Return each adapter's weight.

        Raises:
            UsageError: there are more or fewer weights than adapters.
        """
        if self.weights and len(self.weights) != adapters:
            weights = counted(len(self.weights), "weight")
            message = f"{weights} for {counted(adapters, 'adapter')}"
            raise UsageError(message, hint="give one for each, in the same order, or none at all")
        return self.weights or (1.0,) * adapters

    def limit(self, highest_rank: int) -> Limit:
        """Return what may be lost where the adapters' highest rank is `highest_rank`."""
        if self.rank is None and self.energy is None:
            whole = self.method in STACKED or self.into == "model"
            return Limit() if whole else Limit(highest_rank)
        return Limit(self.rank, None if self.energy is None else limit_error(self.energy))

    def _wrong(self) -> Iterator[tuple[str, str]]:
        """Yield (message, hint) for each value that is wrong."""
        if not all(math.isfinite(weight) for weight in self.weights):
            yield f"weights {self.weights} are not all numbers", "give numbers, such as 0.5 or -1"
        if self.weights and not any(self.weights):
            yield "all weights are 0: nothing would be left", "give one that is not"
        yield from self._wrong_density()
        yield from self._wrong_limit()
        if self.majority_sign_method not in (None, *get_args(MajoritySign)):
            yield f"`{self.majority_sign_method}` is no way to elect a sign", "total or frequency"
        elif self.majority_sign_method and self.method not in VOTING:
            yield f"`{self.method}` elects no sign", f"methods that do: {', '.join(VOTING)}"
        if self.seed is not None and self.method not in DRAWING:
            hint = f"methods that do: {', '.join(DRAWING)}"
            yield f"`{self.method}` draws nothing: it takes no seed", hint

    def _wrong_density(self) -> Iterator[tuple[str, str]]:
        if self.method not in PRUNING:
            if self.density is not None:
                yield f"`{self.method}` has no density", f"methods that do: {', '.join(PRUNING)}"
        elif self.density is None:
            hint = "the share of entries to keep, such as 0.2 for TIES or 0.5"
            yield f"`{self.method}` needs a density", hint
        elif not 0 < self.density <= 1:
            yield f"density {self.density:g} is not over 0 and up to 1", "0.2 keeps a fifth"

    def _wrong_limit(self) -> Iterator[tuple[str, str]]:
        if self.rank is not None and self.rank < 1:
            yield f"{self.rank} is no rank", "give a whole number from 1 on, such as 16"
        if self.energy is not None and not 0 < self.energy <= 1:
            yield f"energy {self.energy:g} is not over 0 and up to 1", "0.95 loses 5 %"
        if self.method in STACKED and (self.rank is not None or self.energy is not None):
            message = f"`{self.method}` keeps everything: it takes no rank and no energy"
            yield message, "`svd` is the same sum at a rank"
