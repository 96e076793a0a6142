"""merge_adapter: from an adapter's folder alone to a merged checkpoint, or to nothing at all."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from lora_cli.errors import MergeError
from lora_cli.files import new_folder
from lora_cli.merge.adapter_config import CONFIG, read_json
from lora_cli.merge.adapter_folder import AdapterFolder, find_adapter, read_adapter
from lora_cli.merge.base import fetch_base
from lora_cli.merge.fold import fold_shard
from lora_cli.merge.layout import weight_updates
from lora_cli.merge.output import COMPANIONS, TOKENIZER_FILES, check_free, tokenizer_files

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"


@dataclass(frozen=True)
class MergeResult:
    """What a merge wrote."""

    adapter: str
    base: str
    output: str
    tensors: int
    changed_tensors: int
    adapter_tensors: int
    bytes_written: int
    seconds: float


def merge_adapter(adapter_or_run: Path, output: Path) -> MergeResult:
    """Write `output`: the base of the adapter with the adapter folded in, ready to load.

    Raises:
        MergeError: the output is taken, or any tensor of the adapter would be lost.
    """
    started = time.perf_counter()
    check_free(output)
    adapter = read_adapter(find_adapter(adapter_or_run))
    base = fetch_base(adapter.base)
    try:
        with new_folder(output) as new:
            _copy_config(base, adapter.path, new)
            tensors, changed = _fold_shards(base, new, adapter)
            size = sum(path.stat().st_size for path in new.iterdir())
    except OSError as error:
        reason = f"cannot be written: {error.strerror or error}"
        raise MergeError(reason, str(error.filename or output)) from error
    return MergeResult(
        adapter=str(adapter.path),
        base=str(base),
        output=str(output),
        tensors=tensors,
        changed_tensors=changed,
        adapter_tensors=2 * len(adapter.updates),
        bytes_written=size,
        seconds=time.perf_counter() - started,
    )


def _fold_shards(base: Path, new: Path, adapter: AdapterFolder) -> tuple[int, int]:
    """Write every shard; return how many tensors there are, and how many are changed."""
    shards = _shards(base)
    stored = [name for shard in shards for name in _tensor_names(shard)]
    updates = weight_updates(base, adapter.updates, stored)
    changed: set[str] = set()
    for shard in shards:
        changed |= fold_shard(shard, new / shard.name, updates)[1]
    assert changed == updates.keys(), "every update has a tensor"
    return len(stored), len(changed)


def _shards(base: Path) -> list[Path]:
    """Return the files that transformers would load, and no others that lie beside them."""
    if (base / INDEX).is_file():
        names = read_json(base / INDEX).get("weight_map", {}).values()
        shards = [base / name for name in sorted(set(names))]
    else:
        shards = [base / SINGLE]
    absent = [shard for shard in shards if not shard.is_file()]
    if absent or not shards:
        hint = "only safetensors weights are merged"
        name = absent[0].name if absent else INDEX
        raise MergeError(f"has no weights in {name}", str(base), hint)
    return shards


def _tensor_names(shard: Path) -> list[str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(shard, framework="pt") as file:
            return list(file.keys())
    except SafetensorError as error:
        raise MergeError(f"cannot be read: {error}", str(shard)) from error


def _copy_config(base: Path, adapter: Path, new: Path) -> None:
    """Copy the base's config and the adapter's own tokenizer (the base's, if it has none)."""
    if not (base / "config.json").is_file():
        raise MergeError("has no config.json", str(base))
    own_tokenizer = (adapter / "tokenizer_config.json").is_file()
    for path in _companions(base):
        if not (own_tokenizer and path.name.startswith(TOKENIZER_FILES)):
            shutil.copyfile(path, new / path.name)
    if own_tokenizer:
        for path in tokenizer_files(adapter):
            shutil.copyfile(path, new / path.name)


def _companions(folder: Path) -> list[Path]:
    """Return the files beside the weights that belong to a model, not to an adapter."""
    return [
        path
        for path in sorted(folder.iterdir())
        if path.is_file() and path.suffix in COMPANIONS and path.name != CONFIG
    ]
