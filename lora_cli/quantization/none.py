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

    def load_kwargs(self, dtype: torch.dtype) -> dict[str, Any]:
        """Return nothing: loading takes no more than the dtype."""
        return {}

    def after_load(self, model: torch.nn.Module) -> None:
        """Do nothing."""
