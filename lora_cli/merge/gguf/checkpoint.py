"""A checkpoint's folder: its config, and its tensors one at a time.

Only safetensors are read. Does not know what GGUF is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_cli.errors import ExportError
from lora_cli.facts.weight_files import weight_files
from lora_cli.words import counted, reason_of

if TYPE_CHECKING:
    import torch

CONFIG = "config.json"


@dataclass(frozen=True)
class Checkpoint:
    """A model in a folder."""

    folder: Path
    config: Any
    """transformers' config."""
    shapes: Mapping[str, tuple[int, ...]]
    """Of every tensor that the model has, in its order; of tied ones, the first."""
    files: Mapping[str, Path]
    """Where each of them lies."""

    def tensors(self, names: Mapping[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield these tensors one at a time, in the order of `names`."""
        from safetensors import safe_open

        with ExitStack() as stack:
            opened: dict[Path, Any] = {}
            for name in names:
                file = self.files[name]
                if file not in opened:
                    opened[file] = stack.enter_context(safe_open(file, framework="pt"))
                yield name, opened[file].get_tensor(name)

    def dtypes(self) -> set[str]:
        """Return how the matrices lie: safetensors' names, such as `BF16`."""
        from safetensors import safe_open

        found = set()
        for file in sorted(set(self.files.values())):
            with safe_open(file, framework="pt") as shard:
                here = [name for name, each in self.files.items() if each == file]
                slices = (shard.get_slice(name) for name in here if len(self.shapes[name]) > 1)
                found |= {part.get_dtype() for part in slices}
        return found


def read_config(folder: Path) -> Any:
    """Return a model's config.

    Raises:
        ExportError: there is none, it cannot be read, or the weights are quantized.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(str(folder), trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportError(f"cannot be read: {reason_of(error)}", str(folder / CONFIG)) from error
    if getattr(config, "quantization_config", None):
        hint = "merge into the full-precision base, then export that"
        raise ExportError(
            "is quantized: only full-precision models are exported", str(folder), hint
        )
    return config


def read_checkpoint(folder: Path, config: Any) -> Checkpoint:
    """Return the model in `folder`, of this config, all its tensors found; no value is read.

    Raises:
        ExportError: a tensor is missing, left over, or of another shape than the config says.
    """
    files = _files_by_tensor(folder)
    shapes, tied = _expected_shapes(folder, config)
    missing = sorted(shapes.keys() - files.keys())
    if missing:
        message = f"{counted(len(missing), 'tensor')} missing, among them `{missing[0]}`"
        raise ExportError(message, str(folder), "is this a whole checkpoint, with its head?")
    left = sorted(
        name for name in files.keys() - shapes.keys() - tied if not name.endswith("inv_freq")
    )
    if left:
        message = f"{counted(len(left), 'tensor')} would be lost, among them `{left[0]}`"
        raise ExportError(message, str(folder), "the config does not say what they are for")
    _check_shapes(folder, shapes, files)
    return Checkpoint(folder, config, shapes, {name: files[name] for name in shapes})


def _files_by_tensor(folder: Path) -> dict[str, Path]:
    from safetensors import SafetensorError, safe_open

    found: dict[str, Path] = {}
    for file in weight_files(folder):
        try:
            with safe_open(file, framework="pt") as shard:
                found |= dict.fromkeys(shard.keys(), file)
        except (OSError, SafetensorError) as error:
            hint = "only safetensors weights are exported"
            raise ExportError(f"cannot be read: {error}", str(file), hint) from error
    return found


def _expected_shapes(folder: Path, config: Any) -> tuple[dict[str, tuple[int, ...]], set[str]]:
    """Return the shapes of a model's tensors by name, and the names that are tied to these."""
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        message = f"is not a causal language model: {reason_of(error)}"
        raise ExportError(message, str(folder)) from error
    tied = set(model.all_tied_weights_keys)
    state = model.state_dict()
    return {name: tuple(each.shape) for name, each in state.items() if name not in tied}, tied


def _check_shapes(
    folder: Path, shapes: Mapping[str, tuple[int, ...]], files: Mapping[str, Path]
) -> None:
    from safetensors import safe_open

    for file in sorted(set(files.values())):
        with safe_open(file, framework="pt") as shard:
            for name in shard.keys():  # noqa: SIM118  # a safetensors handle is no mapping
                found = tuple(shard.get_slice(name).get_shape())
                if name in shapes and found != shapes[name]:
                    message = f"`{name}` is {found}, where the config says {shapes[name]}"
                    raise ExportError(message, str(folder))
