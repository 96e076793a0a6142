"""No quantization: the base keeps the precision that the plan chose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from lora_cli.section import Section

if TYPE_CHECKING:
    import torch


class Unquantized(Section):
    """The base is loaded as it is."""

    main_field = "method"

    method: Literal["none"] = "none"
    """No quantization."""

    def settled(self, _dtype: str) -> Unquantized:
        """Return it as it is: nothing is left open."""
        return self

    def keeps(self, _module: str) -> bool:
        """Return that every module is in full precision."""
        return True

    def load_kwargs(self, _dtype: torch.dtype, _heads: Sequence[str] = ()) -> dict[str, Any]:
        """Return nothing: loading takes no more than the dtype."""
        return {}

    def requantized(self, weight: torch.Tensor) -> torch.Tensor:
        """Return what the base keeps of an (out, in) weight: all of it."""
        return weight

    def after_load(self, _model: torch.nn.Module) -> None:
        """Do nothing."""
