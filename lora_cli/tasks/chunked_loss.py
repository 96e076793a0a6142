"""Cross-entropy over a large vocabulary, some tokens at a time: no step holds the logits of all.

The gradient of a chunk's hidden states is worked out while its logits are there, in the forward
pass; nothing of the vocabulary's size is kept for the backward pass or computed again (the fused
linear cross-entropy of Hsu et al. 2024, arXiv 2410.10989, in plain operations).

It does not know heads that are trained or adapted, nor models that change what their head returns,
as by a soft cap: `plain_head` finds none there, and their logits are computed at once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional

from lora_cli.tasks.task import CHUNK


def head_for(model: Any, tokens: int) -> torch.nn.Linear | None:
    """Return the head for `summed_loss`; None where all logits are best computed at once."""
    return plain_head(model) if tokens > CHUNK else None


def plain_head(model: Any) -> torch.nn.Linear | None:
    """Return the frozen layer whose output is a model's logits as they are; None if there is none.

    The model's own code says so: it is run around a body that does nothing.
    """
    model = getattr(model, "module", model)  # a data-parallel wrapper hides the model
    model = model.get_base_model() if hasattr(model, "get_base_model") else model
    body = getattr(model, getattr(model, "base_model_prefix", ""), None)
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if body is None or type(head) is not torch.nn.Linear:
        return None
    if any(parameter.requires_grad for parameter in head.parameters()):
        return None
    states = torch.zeros(1, 1, head.in_features, dtype=head.weight.dtype)
    logits = torch.zeros(1, 1, 1)
    output = _body_output()(last_hidden_state=states)
    with _standing_in(body, lambda *_, **__: output), _standing_in(head, lambda _: logits):
        try:
            found = model(input_ids=torch.zeros(1, 1, dtype=torch.int64), use_cache=False).logits
        except (IndexError, KeyError, RuntimeError, TypeError, ValueError):
            return None  # it wants more of its body than this
    return head if found is logits else None


@functools.cache
def _body_output() -> Any:
    """Return the class of a body's output, in which all is None that is not given."""
    from transformers.modeling_outputs import BaseModelOutputWithPast

    class Output(BaseModelOutputWithPast):  # type: ignore[misc]  # transformers has no types
        def __getattr__(self, name: str) -> None:
            return None

    return Output


def left_out(head: torch.nn.Linear) -> Any:
    """Let a model return hidden states where its head would return logits."""
    return _standing_in(head, lambda states: states)


@contextmanager
def _standing_in(module: torch.nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    own = vars(module).get("forward")  # one that somebody has put there
    module.forward = forward
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own


def summed_loss(
    states: torch.Tensor, targets: torch.Tensor, head: torch.nn.Linear
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (summed cross-entropy in float32, how many targets are the likeliest token).

    `states` (tokens, hidden size) in the head's type, `targets` (tokens,).
    """
    loss, correct = _SummedLoss.apply(states, targets, head)  # type: ignore[no-untyped-call]
    return loss, correct


class _SummedLoss(torch.autograd.Function):
    """The sum over all chunks, with the gradient by the states at hand."""

    @staticmethod
    def forward(
        ctx: Any, states: torch.Tensor, targets: torch.Tensor, head: torch.nn.Linear
    ) -> tuple[torch.Tensor, torch.Tensor]:
        loss = torch.zeros((), device=states.device)
        correct = torch.zeros((), dtype=torch.int64, device=states.device)
        gradients = torch.empty_like(states) if ctx.needs_input_grad[0] else None
        for start in range(0, len(targets), CHUNK):
            part, labels = states[start : start + CHUNK], targets[start : start + CHUNK]
            with torch.set_grad_enabled(gradients is not None):
                part = part.detach().requires_grad_(gradients is not None)
                chunk_loss, right = _of_chunk(part, labels, head)
            correct += right
            loss += chunk_loss.detach()
            if gradients is not None:
                (found,) = torch.autograd.grad(chunk_loss, part)
                gradients[start : start + CHUNK] = found
        ctx.save_for_backward(gradients)
        ctx.mark_non_differentiable(correct)
        return loss, correct

    @staticmethod
    def backward(
        ctx: Any, gradient: torch.Tensor, _correct: Any
    ) -> tuple[torch.Tensor, None, None]:
        (gradients,) = ctx.saved_tensors
        return gradients * gradient, None, None


def _of_chunk(
    states: torch.Tensor, labels: torch.Tensor, head: torch.nn.Linear
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss and the right ones; the logits are gone before a gradient is made."""
    logits = head(states).float()
    loss = functional.cross_entropy(logits, labels, reduction="sum")
    return loss, (logits.detach().argmax(-1) == labels).sum()
