"""A model whose weights take no memory: each has its shape, and one NaN for all its numbers.

An adapter is put on it as on the model itself, and its layers can be asked one by one, each with
its true weight in hand. What is computed without one is no number, and cannot be overlooked.
Files are not known here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_cli.errors import MergeError
from lora_cli.words import reason_of

if TYPE_CHECKING:
    import torch


def load_config(folder: Path) -> Any:
    """Return transformers' config of the model in `folder`.

    Raises:
        MergeError: it cannot be read.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    wrong = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError)
    try:
        return AutoConfig.from_pretrained(str(folder), trust_remote_code=False)
    except (*wrong, StrictDataclassError) as error:
        raise MergeError(f"its config cannot be used: {reason_of(error)}", str(folder)) from error


def weightless_model(config: Any, auto_class: str) -> Any:
    """Return the model that `config` describes, all weights on the CPU, shaped, and without memory.

    Buffers, such as the frequencies of positions, are what they are in any such model.

    Raises:
        MergeError: transformers builds no such model.
    """
    import torch
    import transformers

    try:
        with torch.device("meta"):
            loader = getattr(transformers, auto_class)
            model = loader.from_config(
                config, trust_remote_code=False, attn_implementation="eager", dtype=torch.float32
            )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        kind = auto_class.removeprefix("AutoModel")
        message = f"its config builds no model {kind or 'of its own'}: {reason_of(error)}"
        raise MergeError(message, str(config.name_or_path)) from error
    for module in model.modules():
        for name, parameter in module._parameters.items():  # noqa: SLF001  # keeps ties apart
            if parameter is not None:
                empty: Any = torch.nn.Parameter(_hollow(parameter.shape), requires_grad=False)
                empty._is_hf_initialized = True  # noqa: SLF001
                module._parameters[name] = empty  # noqa: SLF001
        for name, buffer in module._buffers.items():  # noqa: SLF001
            if buffer is not None:
                module._buffers[name] = torch.zeros(buffer.shape, dtype=buffer.dtype)  # noqa: SLF001
        holds_buffers = next(module.buffers(), None) is not None  # a parent may fill them
        module._is_hf_initialized = not holds_buffers  # noqa: SLF001
    model.initialize_weights()  # fills buffers that no file holds, and passes over parameters
    model.tie_weights()
    return model.eval()


def _hollow(shape: Collection[int]) -> torch.Tensor:
    import torch

    size = tuple(shape)
    return torch.full((1,) * len(size), torch.nan).expand(size)


def is_weightless(parameter: torch.Tensor) -> bool:
    """Return whether one NaN stands for all its numbers."""
    import torch

    alone = parameter.untyped_storage().nbytes() == parameter.element_size()
    return alone and bool(torch.isnan(parameter.as_strided((), ())))


def weightless_linear(inputs: int, outputs: int, *, bias: bool) -> Any:
    """Return a linear layer of a shape, without memory."""
    from torch import nn

    linear = nn.Linear(inputs, outputs, bias=bias, device="meta")
    linear.weight = nn.Parameter(_hollow((outputs, inputs)), requires_grad=False)
    if bias:
        linear.bias = nn.Parameter(_hollow((outputs,)), requires_grad=False)
    return linear


def make_room(model: Any, name: str) -> None:
    """Give a parameter memory of its own, so that it can be loaded into."""
    import torch

    owner, _, leaf = name.rpartition(".")
    module = model.get_submodule(owner)
    held = getattr(module, leaf)
    setattr(module, leaf, torch.nn.Parameter(torch.zeros(held.shape), requires_grad=False))


def set_apart(module: Any, name: str) -> None:
    """Give a module a weight of its own that it had in common with another module."""
    import torch

    empty = _hollow(getattr(module, name).shape)
    setattr(module, name, torch.nn.Parameter(empty, requires_grad=False))


@contextmanager
def holding(module: Any, weights: dict[str, torch.Tensor]) -> Iterator[None]:
    """Put true weights into a module's own parameters, by name; take them out again after that."""
    before = {name: getattr(module, name).data for name in weights}
    try:
        for name, weight in weights.items():
            getattr(module, name).data = weight
        yield
    finally:
        for name, empty in before.items():
            getattr(module, name).data = empty
