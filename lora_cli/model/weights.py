"""A planned model → a local folder that holds its weights as safetensors (or trusted pickle).

Hub weights are fetched; a GGUF is dequantised once into the cache folder that `facts` made for it.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Literal

from lora_cli.errors import PlanError
from lora_cli.facts.model_source import CONFIG_FILES, download

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
        PlanError: the hub cannot be reached, or the GGUF has gone.
    """
    if kind == "hub":
        patterns = ["*.safetensors", *(["*.bin"] if allow_pickle else []), *CONFIG_FILES]
        return Path(download(name, revision, patterns))
    if kind == "gguf" and not (folder / WEIGHTS).is_file():
        if gguf is None or not gguf.is_file():
            raise PlanError(f"{gguf} has gone since the plan was made")
        _dequantise(gguf, folder)
    return folder


def _dequantise(gguf: Path, folder: Path) -> None:
    """Write the GGUF's weights as safetensors in bfloat16, the precision above any GGUF quant."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        str(gguf.parent), gguf_file=gguf.name, dtype=torch.bfloat16
    )
    # transformers leaves its GGUF reader on the dequantised model and then refuses to save it
    model.hf_quantizer = None
    model.is_quantized = False
    model.quantization_method = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    with tempfile.TemporaryDirectory(dir=folder, prefix=".dequantising-") as temporary:
        model.save_pretrained(temporary, max_shard_size="1000GB")
        written = Path(temporary) / WEIGHTS
        with written.open("rb") as file:
            os.fsync(file.fileno())
        written.replace(folder / WEIGHTS)
