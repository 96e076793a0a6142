"""A planned model → a local folder that holds its weights as safetensors (or trusted pickle).

Hub weights are fetched; a GGUF is dequantised once into the cache folder that `facts` made for it.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lora_cli.errors import RunError
from lora_cli.facts.model_source import CONFIG_FILES, download
from lora_cli.words import reason_of

if TYPE_CHECKING:
    import torch

WEIGHTS = "model.safetensors"


def fetch_weights(
    kind: Literal["hub", "folder", "gguf"],
    folder: Path,
    *,
    name: str,
    revision: str,
    gguf: Path | None,
    allow_pickle: bool,
) -> Path:
    """Return the folder to load the model from; what is missing is fetched or made first.

    Raises:
        PlanError: the hub cannot be reached.
        RunError: the GGUF has gone, or is not what it says.
    """
    if kind == "hub":
        patterns = ["*.safetensors", *(["*.bin"] if allow_pickle else []), *CONFIG_FILES]
        return Path(download(name, revision, patterns))
    if kind == "gguf" and not (folder / WEIGHTS).is_file():
        assert gguf is not None, "a model of kind gguf has a file"
        if not gguf.is_file():
            raise RunError("has gone since the plan was made", str(gguf), "plan again")
        _dequantise(gguf, folder)
    return folder


def _dequantise(gguf: Path, folder: Path) -> None:
    """Write the GGUF's weights into `folder` as safetensors, whole or not at all."""
    model = _load_gguf(gguf)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".dequantising-") as temporary:
        model.save_pretrained(temporary, max_shard_size="1000GB")
        written = Path(temporary) / WEIGHTS
        written.chmod((folder / "config.json").stat().st_mode & 0o666)
        with written.open("rb") as file:
            os.fsync(file.fileno())
        written.replace(folder / WEIGHTS)


def _load_gguf(gguf: Path) -> Any:
    from transformers import AutoModelForCausalLM

    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            str(gguf.parent), gguf_file=gguf.name, dtype=_dtype(gguf), output_loading_info=True
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise RunError(f"cannot be dequantised: {reason_of(error)}", str(gguf)) from error
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        message = f"lacks tensors of the model: {len(missing)} in all, the first `{missing[0]}`"
        raise RunError(message, str(gguf))
    # transformers leaves its GGUF reader on the dequantised model and then refuses to save it
    model.hf_quantizer = None
    model.is_quantized = False
    model.quantization_method = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model


def _dtype(gguf: Path) -> torch.dtype:
    """Return bfloat16 for weights that were quantized, float32 for those that hold more than that.

    bfloat16's rounding is a part of what quantizing to 8 bits or fewer has cost already; a matrix
    in float16 or float32 would lose by it.
    """
    import torch
    from gguf import GGMLQuantizationType, GGUFReader

    fine = {GGMLQuantizationType.F16, GGMLQuantizationType.F32, GGMLQuantizationType.F64}
    tensors = GGUFReader(gguf).tensors
    exact = any(tensor.tensor_type in fine and len(tensor.shape) > 1 for tensor in tensors)
    return torch.float32 if exact else torch.bfloat16
