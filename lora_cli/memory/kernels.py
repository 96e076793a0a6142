"""What the kernels of a device do otherwise than those of the meta device.

On the meta device, attention is computed in plain steps, dropout keeps its mask in the dtype of
its input, and optimizers go tensor by tensor. Here is what happens on a GPU, or on the CPU. Kernels
for the meta device are registered for as long as a simulation lasts, and reach no other device.

Not known: the buffers inside torch's own kernels, such as the workspace of a GPU's matrix products,
and on the CPU the state of the random numbers, 5 kB, that each checkpointed layer keeps.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch

from lora_cli.memory.attention import attention_on_cpu, attention_on_cuda
from lora_cli.memory.quantized_kernels import copied_4bit, int8_product_on_cpu


@contextmanager
def kernels_of(device: str) -> Iterator[None]:
    """Let the meta device allocate as a device type (`cpu`, `cuda`) does; undo it after that."""
    with ExitStack() as stack:
        library: Any = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
        stack.callback(library._destroy)  # no public way to undo it
        for each in _patches(device, library):
            stack.enter_context(each)
        yield


def _patches(device: str, library: Any) -> Iterator[AbstractContextManager[Any]]:
    key = "AutogradMeta"
    # clipping goes over all gradients at once on either device, and AdamW on a GPU
    yield patch("torch.nn.utils.clip_grad._has_foreach_support", lambda _tensors, _device: True)
    if device == "cpu":
        library.impl("scaled_dot_product_attention", attention_on_cpu, key)
    else:
        library.impl("scaled_dot_product_attention", attention_on_cuda, key)
        library.impl("dropout", _dropout_on_cuda, key)
        supported = "torch.optim.optimizer._get_foreach_kernels_supported_devices"
        yield patch(supported, lambda: ["cuda", "meta"])
    if "bitsandbytes" in sys.modules:
        # its codes, kept for whoever quantizes next, would be without values
        yield patch.dict("bitsandbytes.functional.name2qmap", clear=True)
        yield patch("bitsandbytes.nn.Params4bit.__deepcopy__", copied_4bit)
        if device == "cpu":
            yield patch("bitsandbytes.matmul", int8_product_on_cpu)


def _dropout_on_cuda(values: torch.Tensor, p: float, train: bool) -> torch.Tensor:
    """Return what dropout leaves; its mask takes a byte a number."""
    if not train or p == 0:
        return values.view_as(values)
    kept: torch.Tensor = torch.native_dropout(values, p, True)[0]
    return kept
