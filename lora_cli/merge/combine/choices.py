"""The words by which adapters are combined; a command's help imports these and nothing heavier."""

from typing import Literal

Method = Literal["linear", "cat", "svd", "ties", "dare_linear", "dare_ties", "magnitude_prune"]
MajoritySign = Literal["total", "frequency"]
Into = Literal["adapter", "model"]
