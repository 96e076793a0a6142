"""OLoRA: orthonormal low-rank adaptation. Büyükakyüz 2024, arXiv 2406.01775, section 3."""

from __future__ import annotations

from typing import Literal

from lora_cli.adapters.residual import ResidualSpec
from lora_cli.adapters.variant import Evidence, Factors, Start


class OLora(ResidualSpec):
    """B starts as orthonormal columns, A as their share of W; the frozen base gives up s·B·A.

    On a quantized base, the rest is what is quantized.
    """

    variant: Literal["olora"] = "olora"
    """The method: LoRA on the first columns of a QR decomposition."""

    def start(self, evidence: Evidence) -> Start:
        """Return B = Q[:, :r], A = R[:r] of W = Q·R (algorithm 1)."""
        import torch

        columns, shares = torch.linalg.qr(evidence.weight)
        part = Factors(a=shares[: evidence.rank], b=columns[:, : evidence.rank])
        return Start(part, taken=part)
