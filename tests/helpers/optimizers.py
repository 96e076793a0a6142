"""A pair as peft names it, and the paper's AdamW written out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from lora_cli.optimizers.settings import AdamWSettings


def pair_of(module: str, rank: int = 2, size: int = 3) -> dict[str, torch.nn.Parameter]:
    """Return A (rank, size), random, and B (size, rank), zero, by their names in a model."""
    name = f"model.{module}.lora_{{}}.default.weight"
    return {
        name.format("A"): torch.nn.Parameter(torch.randn(rank, size)),
        name.format("B"): torch.nn.Parameter(torch.zeros(size, rank)),
    }


def papers_adamw(
    spec: AdamWSettings,
    parameter: torch.nn.Parameter,
    gradients: Sequence[object],
    *,
    learning_rate: float,
) -> Iterator[torch.Tensor]:
    """Put each gradient on the parameter; yield what it is after the step that is due then.

    Loshchilov & Hutter 2019, algorithm 2.
    """
    expected = parameter.detach().clone()
    mean, square = torch.zeros_like(expected), torch.zeros_like(expected)
    for step, values in enumerate(gradients, 1):
        parameter.grad = torch.as_tensor(values, dtype=parameter.dtype)
        mean = spec.beta1 * mean + (1 - spec.beta1) * parameter.grad
        square = spec.beta2 * square + (1 - spec.beta2) * parameter.grad**2
        root = (square / (1 - spec.beta2**step)).sqrt()
        change = (mean / (1 - spec.beta1**step)) / (root + spec.epsilon)
        expected = expected - learning_rate * (spec.weight_decay * expected + change)
        yield expected
