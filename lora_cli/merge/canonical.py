"""The canonical LoRA: what peft, vLLM and llama.cpp all read as the same ΔW = B·A.

Servers know one rank and one alpha: every pair is padded with zeros to the highest rank, the
scaling is a part of B, and alpha is the rank, so that what is left of it is 1.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_cli.adapters.variant import Factors
from lora_cli.files import write_text
from lora_cli.merge.adapter_config import AdapterConfig
from lora_cli.merge.adapter_folder import PREFIX, SIDE_A, SIDE_B, TENSORS
from lora_cli.merge.base import ORIGIN
from lora_cli.merge.output import tokenizer_files
from lora_cli.merge.place import check_room

if TYPE_CHECKING:
    import torch


def uniform_rank(pairs: Mapping[str, Factors]) -> int:
    """Return the rank that all pairs are padded to: the highest, and at least 1."""
    return max(1, *(len(pair.a) for pair in pairs.values()))


def padded(pair: Factors, rank: int) -> Factors:
    """Return the pair at a rank no lower than its own, with zeros in what is added."""
    from torch.nn.functional import pad

    if missing := rank - len(pair.a):
        pair = Factors(pad(pair.a, (0, 0, 0, missing)), pad(pair.b, (0, missing)))
    return Factors(pair.a.contiguous(), pair.b.contiguous())


def write_canonical(
    folder: Path,
    pairs: Mapping[str, Factors],
    config: AdapterConfig,
    origin: Mapping[str, Any],
    *,
    whole: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Write pairs that hold their scaling into an existing folder, as plain peft saves a LoRA.

    `config` is that of the adapter they were made of, whose tokenizer is copied; `whole` are
    parameters of its `modules_to_save`, by their names in the base's model.

    Raises:
        MergeError: the disk has no room for it.
    """
    from peft import LoraConfig
    from safetensors.torch import save_file

    rank = uniform_rank(pairs)
    tensors = {f"{PREFIX}{name}": tensor for name, tensor in (whole or {}).items()}
    for module, pair in pairs.items():
        even = padded(pair, rank)
        tensors[f"{PREFIX}{module}{SIDE_A}"] = even.a
        tensors[f"{PREFIX}{module}{SIDE_B}"] = even.b
    check_room(folder.parent, sum(tensor.nbytes for tensor in tensors.values()))
    save_file(tensors, folder / TENSORS, metadata={"format": "pt"})
    LoraConfig(
        task_type=config.task,
        auto_mapping=config.settings.get("auto_mapping"),
        r=rank,
        lora_alpha=rank,
        target_modules=_targets(config, pairs),
        modules_to_save=config.settings.get("modules_to_save"),
        fan_in_fan_out=bool(config.settings.get("fan_in_fan_out")),
        base_model_name_or_path=config.base_name,
        revision=config.revision,
        inference_mode=True,
        init_lora_weights=True,
    ).save_pretrained(str(folder))
    for file in tokenizer_files(config.path.parent):
        shutil.copyfile(file, folder / file.name)
    write_text(folder / ORIGIN, json.dumps(dict(origin), indent=2) + "\n")


def _targets(config: AdapterConfig, modules: Iterable[str]) -> list[str]:
    """Return the adapter's own names, where nothing beside them chose the modules; else all."""
    own = config.settings.get("target_modules")
    chosen_by_more = any(
        config.settings.get(key) for key in ("layers_to_transform", "exclude_modules")
    )
    if isinstance(own, list) and not chosen_by_more:
        return own
    return sorted(modules)
