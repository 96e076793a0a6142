"""The methods on ΔW, one module at a time: prune each, then add, or average those that agree.

As peft's `…_svd` kinds of `add_weighted_adapter` compute them before they are cut to a rank. What
peft calls `ties` or `linear` alone is done to A and to B, each for itself, whose product is another
matrix: of a sum of two pairs it has cross terms that neither adapter has.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lora_cli.merge.combine.options import DRAWING, VOTING, CombineOptions

if TYPE_CHECKING:
    import torch


def combined_change(
    changes: Mapping[int, torch.Tensor],
    weights: Sequence[float],
    options: CombineOptions,
    module: str,
) -> torch.Tensor:
    """Return the combination of one module's ΔWs (out, in), by the adapters' positions."""
    import torch

    pruned = {
        position: _pruned(change, options, f"{options.seed or 0}:{module}:{position}")
        for position, change in changes.items()
    }
    if options.method in VOTING:
        return _mean_of_agreeing(pruned, weights, options)
    total = torch.zeros_like(next(iter(pruned.values())))
    for position, change in pruned.items():
        total.add_(change, alpha=weights[position])
    return total


def _pruned(change: torch.Tensor, options: CombineOptions, place: str) -> torch.Tensor:
    density = options.density
    assert density is not None, "the options are checked"
    if options.method in DRAWING:
        return drop_and_rescale(change, density, place)
    return keep_largest(change, density)


def keep_largest(change: torch.Tensor, density: float) -> torch.Tensor:
    """Return ΔW with its share `density` of entries of largest magnitude, and 0 for the others.

    Yadav et al. 2023, arXiv 2306.01708, "trim"; there over all weights of a model, here (as in
    peft) over those of each module.
    """
    import torch

    if density == 1:
        return change
    flat = change.flatten()
    kept = flat.abs().topk(int(density * flat.numel())).indices
    return torch.zeros_like(flat).index_copy_(0, kept, flat[kept]).view_as(change)


def drop_and_rescale(change: torch.Tensor, density: float, place: str) -> torch.Tensor:
    """Return ΔW with its entries kept at the rate `density`, and divided by it.

    Which are kept depends on `place` alone: the seed, the module and the adapter's position. Yu et
    al. 2023, arXiv 2311.03099, equations 3 and 4, with density = 1 − p.
    """
    import torch

    digest = hashlib.sha256(place.encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))
    kept = torch.empty_like(change).bernoulli_(density, generator=generator)
    return kept.mul_(change).div_(density)


def _mean_of_agreeing(
    changes: Mapping[int, torch.Tensor], weights: Sequence[float], options: CombineOptions
) -> torch.Tensor:
    """Return, for each entry, the weighted mean of those that have the elected sign.

    The sign is that of the unweighted sum or count, + where they cancel out. Yadav et al. 2023,
    arXiv 2306.01708, algorithm 1, steps 2 and 3; weights as in peft.
    """
    import torch

    first = next(iter(changes.values()))
    votes, total, agreeing = (torch.zeros_like(first) for _ in range(3))
    for change in changes.values():
        votes.add_(change.sign() if options.majority_sign_method == "frequency" else change)
    elected = torch.where(votes >= 0, 1.0, -1.0)
    for position, change in changes.items():
        agrees = change.sign() == elected
        total.add_(change * agrees, alpha=weights[position])
        agreeing.add_(agrees)
    return total.div_(agreeing.clamp_(min=1))
