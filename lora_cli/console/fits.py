"""How near a LoRA comes to the change of weights that it stands for, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from lora_cli.merge.fits import ModuleFit


class Fitted(Protocol):
    """A result that has an error, over all modules and for each."""

    @property
    def exact(self) -> bool:
        """Return whether nothing was cut off."""

    @property
    def error(self) -> float:
        """Return the relative error over all modules."""

    @property
    def largest_error(self) -> float:
        """Return that of the worst module."""

    @property
    def modules(self) -> Mapping[str, ModuleFit]:
        """Return each module's rank and error."""


def error_of(result: Fitted) -> str:
    """Return the error in words, with the worst module and the ranks."""
    if result.exact:
        return "none: the same change of weights"
    ranks = [fit.rank for fit in result.modules.values()]
    worst = max(result.modules, key=lambda module: result.modules[module].error)
    return (
        f"{result.error:.2%} of the change over all modules, at most {result.largest_error:.2%} "
        f"(`{worst}`); ranks {min(ranks)} to {max(ranks)}"
    )
