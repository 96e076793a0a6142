"""What is extracted, and how much may be lost of it."""

from __future__ import annotations

from dataclasses import dataclass

from lora_cli.errors import UsageError
from lora_cli.merge.fits import limit_error
from lora_cli.merge.truncate import Limit


@dataclass(frozen=True)
class ExtractOptions:
    """What is extracted, and how much may be lost; a rank, an energy or both are needed.

    Raises:
        UsageError: neither is given, or one that is none.
    """

    rank: int | None = None
    """The highest rank."""
    energy: float | None = None
    """Least share of each ΔW's squared singular values that is kept; the rank follows from it."""
    targets: tuple[str, ...] = ()
    """Linear layers by name, or by the end of their names; none: all but the output head."""
    allow_rest: bool = False
    """Whether what a LoRA cannot hold may be left as it is in the base."""

    def __post_init__(self) -> None:
        if self.rank is None and self.energy is None:
            hint = "a rank, as in --rank 32, or a share of the change, as in --energy 0.95"
            raise UsageError("how near the LoRA should come is not said", hint=hint)
        if self.rank is not None and self.rank < 1:
            hint = "give a whole number from 1 on, such as 16"
            raise UsageError(f"{self.rank} is no rank", hint=hint)
        if self.energy is not None and not 0 < self.energy <= 1:
            message = f"energy {self.energy:g} is not over 0 and up to 1"
            raise UsageError(message, hint="0.95 loses 5 %")

    @property
    def limit(self) -> Limit:
        """Return what may be lost."""
        return Limit(self.rank, None if self.energy is None else limit_error(self.energy))
