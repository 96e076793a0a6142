"""No quantization: the base keeps the precision that the plan chose."""

from __future__ import annotations

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

    def load_kwargs(self, _dtype: torch.dtype) -> dict[str, Any]:
        """Return nothing: loading takes no more than the dtype."""
        return {}

    def after_load(self, _model: torch.nn.Module) -> None:
        """Do nothing."""
