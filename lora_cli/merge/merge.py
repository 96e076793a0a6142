"""merge_adapter: from an adapter's folder alone to a merged checkpoint, or to nothing at all."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lora_cli.errors import MergeError
from lora_cli.facts.model_source import ModelSource
from lora_cli.files import new_folder
from lora_cli.merge.adapter_folder import Update, find_adapter, read_adapter
from lora_cli.merge.fold import fold_shard
from lora_cli.model.weights import fetch_weights

TOKENIZER_FILES = ("tokenizer", "special_tokens", "chat_template", "vocab", "merges", "added_tokens")


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
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise MergeError("exists already", str(output), "name another --output, or remove it")
    adapter = read_adapter(find_adapter(adapter_or_run))
    base = _base_folder(adapter.base)
    with new_folder(output) as new:
        _copy_config(base, adapter.path, new)
        tensors, changed = _fold_shards(base, new, adapter.updates)
        size = sum(path.stat().st_size for path in new.iterdir())
    return MergeResult(
        adapter=str(adapter.path),
        base=str(base),
        output=str(output),
        tensors=tensors,
        changed_tensors=len(changed),
        adapter_tensors=2 * len(adapter.updates),
        bytes_written=size,
        seconds=time.perf_counter() - started,
    )


def _base_folder(source: ModelSource) -> Path:
    return fetch_weights(
        source.kind,
        source.folder,
        name=source.hub_id,
        revision=source.revision,
        gguf=source.gguf,
        allow_pickle=False,
    )


def _fold_shards(
    base: Path, new: Path, updates: Mapping[str, Update]
) -> tuple[int, set[str]]:
    shards = sorted(base.glob("*.safetensors"))
    if not shards:
        raise MergeError("has no safetensors weights", str(base))
    tensors, changed = 0, set[str]()
    for shard in shards:
        count, names = fold_shard(shard, new / shard.name, updates)
        tensors += count
        changed |= names
    left = sorted(updates.keys() - changed)
    if left:
        message = f"the base has no tensor for {len(left)} updates, among them `{left[0]}`"
        raise MergeError(message, str(base), "is this the right base?")
    return tensors, changed


def _copy_config(base: Path, adapter: Path, new: Path) -> None:
    """Copy the base's config and the adapter's own tokenizer (the base's, if it has none)."""
    own_tokenizer = (adapter / "tokenizer_config.json").is_file()
    for path in sorted(base.iterdir()):
        tokenizer_file = path.name.startswith(TOKENIZER_FILES)
        wanted = path.suffix in (".json", ".jinja", ".model", ".txt", ".py")
        if path.is_file() and wanted and not (tokenizer_file and own_tokenizer):
            shutil.copyfile(path, new / path.name)
    if own_tokenizer:
        for path in sorted(adapter.iterdir()):
            if path.is_file() and path.name.startswith(TOKENIZER_FILES):
                shutil.copyfile(path, new / path.name)
    if not (new / "config.json").is_file():
        raise MergeError("has no config.json", str(base))
