"""The frozen base model, from local weights, quantized if the plan says so.

Weights that are not there are an error: transformers would make them up and only warn.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_cli.errors import RunError
from lora_cli.quantization import QuantizationSpec

MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class BaseOptions:
    """How the base is loaded; every value final."""

    dtype: str
    attention: str
    device: str
    trust_remote_code: bool
    allow_pickle: bool


@dataclass(frozen=True, slots=True)
class LoadedBase:
    """A base model, and the names of the tensors in its files that the model has no place for."""

    model: Any
    unused: tuple[str, ...]


def load_base(folder: Path, quantization: QuantizationSpec, options: BaseOptions) -> LoadedBase:
    """Return the frozen base model on its device.

    Raises:
        RunError: the weights cannot be read, or do not fit the model that the config describes.
    """
    if (folder / "adapter_config.json").is_file():
        message = "holds an adapter beside the weights, and transformers would load it with them"
        raise RunError(message, str(folder), "merge the adapter first, or move it away")
    model, info = _from_pretrained(folder, quantization, options)
    _check_complete(folder, info)
    quantization.after_load(model)
    model.requires_grad_(False)
    return LoadedBase(model, tuple(sorted(info["unexpected_keys"])))


def _from_pretrained(
    folder: Path, quantization: QuantizationSpec, options: BaseOptions
) -> tuple[Any, dict[str, Any]]:
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    dtype = getattr(torch, options.dtype)
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            str(folder),
            dtype=dtype,
            attn_implementation=options.attention,
            trust_remote_code=options.trust_remote_code,
            use_safetensors=None if options.allow_pickle else True,
            device_map={"": options.device},
            ignore_mismatched_sizes=True,  # reported below, by name
            output_loading_info=True,
            **quantization.load_kwargs(dtype),
        )
    except (
        OSError,
        ValueError,
        RuntimeError,
        ImportError,
        SafetensorError,
        pickle.UnpicklingError,
    ) as error:
        reason = str(error).strip().split("\n")[0]
        raise RunError(f"the base model cannot be loaded: {reason}", str(folder)) from error
    return model, info


def _check_complete(folder: Path, info: dict[str, Any]) -> None:
    missing = sorted(info["missing_keys"])
    if missing:
        message = f"tensors of the model are missing in its files: {_listing(missing)}"
        raise RunError(message, str(folder), "fetch the weights again; a shard may be lacking")
    mismatched = sorted(info["mismatched_keys"])
    if mismatched:
        shapes = [
            f"`{name}` is {tuple(held)}, the model's is {tuple(due)}"
            for name, held, due in mismatched
        ]
        message = f"tensors do not fit config.json: {_listing(shapes, quote=False)}"
        raise RunError(message, str(folder), "config.json and the weights are of two models")


def _listing(names: Iterable[str], *, quote: bool = True) -> str:
    shown = [f"`{name}`" if quote else name for name in names]
    more = f" and {len(shown) - MOST_NAMED} more" if len(shown) > MOST_NAMED else ""
    return ", ".join(shown[:MOST_NAMED]) + more
