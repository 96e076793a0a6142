"""The base that an adapter was trained on: found, checked, its weights fetched.

`loracli.json` beside an adapter, where there is one, names the base that was really used.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from lora_cli.errors import MergeError, PlanError, RunError
from lora_cli.facts.model_source import ModelSource, find_model
from lora_cli.merge.adapter_config import AdapterConfig, read_json
from lora_cli.merge.output import COMPANIONS
from lora_cli.model.weights import fetch_weights
from lora_cli.words import reason_of

ORIGIN = "loracli.json"
FINGERPRINT = "base_fingerprint"


def read_origin(adapter: Path) -> dict[str, Any]:
    """Return what `loracli.json` says of an adapter's base; nothing for one made elsewhere."""
    return read_json(adapter / ORIGIN) if (adapter / ORIGIN).is_file() else {}


def quantization_of(origin: Mapping[str, Any]) -> str:
    """Return how the base was held while training: a method's name, or `none`."""
    return str((origin.get("quantization") or {}).get("method", "none"))


def made_from(origin: Mapping[str, Any]) -> str:
    """Return the name of the model that a run made a base of its own of; "" where it did not."""
    return str(origin.get("base_made_from", {}).get("base", ""))


def base_name(config: AdapterConfig, origin: Mapping[str, Any]) -> str:
    """Return the base's name or path.

    Raises:
        MergeError: there is none.
    """
    name = origin.get("base") or config.base_name
    if not isinstance(name, str):
        raise MergeError("does not name its base model", str(config.path))
    return name


def find_base(
    config: AdapterConfig,
    origin: Mapping[str, Any],
    elsewhere: str = "",
    *,
    any_base: bool = False,
) -> ModelSource:
    """Return where the adapter's base is: where its files say, or `elsewhere`.

    Raises:
        MergeError: it cannot be found, or is not the one the adapter was trained on.
    """
    name = elsewhere or base_name(config, origin)
    try:
        revision = None if elsewhere else config.revision
        source = find_model(name, revision=revision, base_dir=Path.cwd())
    except PlanError as error:
        moved = "" if elsewhere else "if it was moved, `loracli merge --base` says where it is"
        problems = [
            replace(each, hint="; ".join(filter(None, (each.hint, moved))))
            for each in error.problems
        ]
        raise MergeError.from_problems(problems) from error
    if _is_another(origin, source) and not any_base:
        message = f"`{name}` is not the base that the adapter was trained on"
        place = str(config.path.parent / ORIGIN)
        hint = (
            f"{source.fingerprint} ≠ {origin[FINGERPRINT]}; the same weights in other files differ "
            "too: `loracli merge --any-base` takes whatever has the right shapes"
        )
        raise MergeError(message, place, hint)
    return source


def doubt_about(origin: Mapping[str, Any], source: ModelSource) -> str:
    """Return why `source` is not known to be the base of the training; nothing where it is."""
    planned = origin.get(FINGERPRINT)
    if not planned:
        return "the adapter does not tell its base's weights: only their shapes were checked"
    if _is_another(origin, source):
        return "it is not the base that the adapter was trained on (--any-base)"
    if planned != source.fingerprint:
        return f"the adapter was trained on {planned}: that these are its weights was not checked"
    return ""


def _is_another(origin: Mapping[str, Any], source: ModelSource) -> bool:
    """Return whether this is surely not the base of the training.

    A commit of the hub and a folder's content tell nothing of each other.
    """
    planned = str(origin.get(FINGERPRINT) or "")
    alike = planned.partition(":")[0] == source.fingerprint.partition(":")[0]
    return alike and planned != source.fingerprint


def fetch_base(source: ModelSource) -> Path:
    """Return the folder that holds the base's weights as safetensors.

    Raises:
        MergeError: they cannot be had.
    """
    try:
        return fetch_weights(
            source.kind,
            source.folder,
            name=source.hub_id,
            revision=source.revision,
            gguf=source.gguf,
            allow_pickle=False,
        )
    except (PlanError, RunError) as error:
        raise MergeError.from_problems(error.problems) from error


@contextmanager
def full_precision(base: Path) -> Iterator[Path]:
    """Give the folder of a base's weights in full precision: its own, or a temporary one.

    A base that is quantized in its files is dequantised as a whole first.

    Raises:
        MergeError: it cannot be.
    """
    settings = read_json(base / "config.json")
    quantized = settings.get("quantization_config")
    if not quantized:
        yield base
        return
    with tempfile.TemporaryDirectory(prefix="loracli-dequantised-") as temporary:
        _dequantise(base, Path(temporary), settings)
        yield Path(temporary)


def _dequantise(base: Path, folder: Path, settings: Mapping[str, Any]) -> None:
    method = settings["quantization_config"].get("quant_method")
    if method != "bitsandbytes":
        message = f"is held in {method}, which is not dequantised here"
        raise MergeError(message, str(base), "serve the adapter with peft, on that base")
    import torch
    import transformers

    named = (settings.get("architectures") or [""])[0]
    loader = getattr(transformers, named, transformers.AutoModelForCausalLM)
    try:
        model = loader.from_pretrained(str(base), device_map={"": "cpu"})
        model = model.dequantize(torch.float32)
    except (OSError, ValueError, RuntimeError, ImportError, TypeError) as error:
        raise MergeError(f"cannot be dequantised: {reason_of(error)}", str(base)) from error
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    _turn_back(model)
    model._weight_conversions = None  # noqa: SLF001  # those that read packed weights do not write
    model.save_pretrained(str(folder))
    for file in base.iterdir():
        if file.suffix in COMPANIONS and not (folder / file.name).exists():
            shutil.copyfile(file, folder / file.name)


def _turn_back(model: Any) -> None:
    """Give weights the layout of their files: bitsandbytes holds as (out, in) GPT-2's (in, out)."""
    import torch
    from transformers.pytorch_utils import Conv1D

    with torch.device("meta"):
        plain = type(model)(model.config)
    for name, module in plain.named_modules():
        held = model.get_submodule(name)
        if isinstance(module, Conv1D) and not isinstance(held, Conv1D):
            held.weight = torch.nn.Parameter(held.weight.T.contiguous(), requires_grad=False)
