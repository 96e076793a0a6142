"""The frozen base model, from local weights, quantized if the plan says so.

Weights that are not there are an error: transformers would make them up and only warn.
"""

from __future__ import annotations

import pickle
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lora_cli.errors import RunError
from lora_cli.facts.heads import is_inside
from lora_cli.quantization import QuantizationSpec
from lora_cli.words import reason_of

MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class BaseOptions:
    """How the base is loaded; every value final."""

    dtype: str
    attention: str
    device: str
    trust_remote_code: bool
    allow_pickle: bool
    auto_class: str = "AutoModelForCausalLM"
    """transformers' class for the task; it knows the architecture's own."""
    heads: tuple[str, ...] = ()
    """Names of the layers after the model's body, which are never quantized."""
    new_heads: tuple[str, ...] = ()
    """Names of the modules that the task puts on the model: the files need not hold them."""
    config_changes: Mapping[str, Any] = field(default_factory=dict)
    """What the task changes in the model's config."""
    seed: int = 0
    """Decides the first weights of what the files do not hold."""


@dataclass(frozen=True, slots=True)
class LoadedBase:
    """A base model, and the names of the tensors in its files that the model has no place for."""

    model: Any
    unused: tuple[str, ...]


def load_base(
    folder: Path,
    quantization: QuantizationSpec,
    options: BaseOptions,
    *,
    changed: Any | None = None,
) -> LoadedBase:
    """Return the frozen base model on its device.

    `changed` is the same model in full precision, whose weights are to be taken and not the files'.

    Raises:
        RunError: the weights cannot be read, or do not fit the model that the config describes.
    """
    if (folder / "adapter_config.json").is_file():
        message = "holds an adapter beside the weights, and transformers would load it with them"
        raise RunError(message, str(folder), "merge the adapter first, or move it away")
    model, info = _from_pretrained(folder, quantization, options, changed)
    _check_complete(folder, info, options.new_heads)
    quantization.after_load(model)
    model.requires_grad_(False)
    return LoadedBase(model, tuple(sorted(info["unexpected_keys"])))


def _from_pretrained(
    folder: Path,
    quantization: QuantizationSpec,
    options: BaseOptions,
    changed: Any | None,
) -> tuple[Any, dict[str, Any]]:
    import torch
    import transformers
    from safetensors import SafetensorError
    from transformers import AutoConfig

    loader = getattr(transformers, options.auto_class) if changed is None else type(changed)
    dtype, trusted = getattr(torch, options.dtype), options.trust_remote_code
    torch.manual_seed(options.seed)
    try:
        config = AutoConfig.from_pretrained(
            str(folder), trust_remote_code=trusted, **options.config_changes
        )
        # weights that are quantized in the files are read as they are
        held = getattr(config, "quantization_config", None) is not None
        model, info = loader.from_pretrained(
            str(folder) if changed is None else None,
            config=config,
            state_dict=None if changed is None else changed.state_dict(),
            dtype=dtype,
            attn_implementation=options.attention,
            trust_remote_code=trusted,
            use_safetensors=None if options.allow_pickle else True,
            device_map={"": options.device},
            ignore_mismatched_sizes=True,  # reported below, by name
            output_loading_info=True,
            **({} if held else quantization.load_kwargs(dtype, options.heads)),
        )
    except (
        OSError,
        ValueError,
        RuntimeError,
        ImportError,
        SafetensorError,
        pickle.UnpicklingError,
    ) as error:
        message = f"the base model cannot be loaded: {reason_of(error)}"
        raise RunError(message, str(folder)) from error
    if changed is not None and changed.can_generate():
        model.generation_config = changed.generation_config
    return model, info


def _check_complete(folder: Path, info: dict[str, Any], new_heads: Collection[str]) -> None:
    missing = sorted(name for name in info["missing_keys"] if not is_inside(name, new_heads))
    if missing:
        message = f"tensors of the model are missing in its files: {_listing(missing)}"
        raise RunError(message, str(folder), "fetch the weights again; a shard may be lacking")
    mismatched = sorted(key for key in info["mismatched_keys"] if not is_inside(key[0], new_heads))
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


def save_base(adapted: Any, folder: Path) -> None:
    """Write the base under peft's model so that transformers loads it as it is held.

    A quantized base is written quantized, with a config that says how.
    """
    base = adapted.get_base_model()
    with _without_adapter(base):
        base.save_pretrained(str(folder))


@contextmanager
def _without_adapter(base: Any) -> Iterator[None]:
    """Put the base's own layers where peft put its own around them; then peft's again."""
    around: dict[str, Any] = {}
    for name, layer in base.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in around)
        if not inside and _own_layer(layer) is not layer:
            around[name] = layer
    for name, layer in around.items():
        base.set_submodule(name, _own_layer(layer))
    try:
        yield
    finally:
        for name, layer in around.items():
            base.set_submodule(name, layer)


def _own_layer(layer: Any) -> Any:
    """Return the base's own layer under all that peft put around it."""
    for name in ("base_layer", "original_module"):
        inner = getattr(layer, name, None)
        if inner is not None:
            return _own_layer(inner)
    return layer
