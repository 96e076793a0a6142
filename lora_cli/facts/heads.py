"""What comes after a model's body: the output head, and what a task puts there anew."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from lora_cli.tasks import TaskSpec


def output_head(model: Any) -> Any:
    """Return the layer that scores the vocabulary; None in a model without one.

    FSMT names its decoder's embedding instead: the head is then the last layer of that shape.
    """
    from torch import nn

    head = model.get_output_embeddings()
    if not isinstance(head, nn.Embedding):
        return head
    layers = [each for each in model.modules() if isinstance(each, nn.Linear)]
    return next((each for each in layers[::-1] if each.weight.shape == head.weight.shape), None)


def new_heads(model: Any, task: TaskSpec, stored: Collection[str]) -> tuple[str, ...]:
    """Return the names of the modules that a task with a head of its own trains as a whole.

    These are all modules beside the model's body that have weights, and a pooler inside the body
    where the files, which hold the tensors `stored`, hold none: transformers would make one up.
    """
    body = model.base_model
    if not task.has_new_head or body is model:
        return ()
    heads = [
        name
        for name, module in model.named_children()
        if module is not body and any(True for _ in module.parameters())
    ]
    pooler = getattr(body, "pooler", None)
    if pooler is not None and stored and not any("pooler." in name for name in stored):
        heads.append(next(name for name, module in model.named_modules() if module is pooler))
    return tuple(heads)


def is_inside(name: str, heads: Collection[str]) -> bool:
    """Return whether a module or a tensor is one of `heads`, or lies in one."""
    return any(name == head or name.startswith(f"{head}.") for head in heads)
