"""An adapter, its base and the user's wishes → the plan of a merge, and what its proof asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lora_cli.errors import MergeError
from lora_cli.merge.adapter_config import read_json
from lora_cli.merge.adapter_folder import AdapterFolder
from lora_cli.merge.checkpoint import TORCH_NAMES, Checkpoint, open_checkpoint
from lora_cli.merge.merge_plan import MergePlan, plan_adapted, plan_folding
from lora_cli.merge.plain import plain_updates

if TYPE_CHECKING:
    import torch

    from lora_cli.merge.opened import Opened

Onto = Literal["dequantised", "original"]
COARSEST_FIRST = ("BF16", "F16", "F32", "F64")


@dataclass(frozen=True)
class MergeOptions:
    """What a user may choose."""

    output: Path | None = None
    """None is `merged` in a run, and beside an adapter's folder."""
    dtype: str | None = None
    """torch's name of what to write; None is each tensor's own."""
    max_shard_bytes: int | None = None
    """None keeps the base's files."""
    base: str = ""
    """Where the base is, if not where the adapter says."""
    any_base: bool = False
    """Whether a base is taken whose fingerprint is another one than in training."""
    onto: Onto = "dequantised"
    """For an adapter trained on a quantized base: what that base held, or the original weights."""
    verify: bool = True
    overwrite: bool = False


@dataclass(frozen=True)
class Prepared:
    """A merge before its first byte."""

    adapter: AdapterFolder
    """As it is merged: without its quantization, if that is done with."""
    base: Path
    files: Checkpoint
    plan: MergePlan
    settings: Mapping[str, Any]
    """What is different in config.json."""
    on_original: bool
    """Whether the files' weights were asked for, whatever the base held in training."""

    def coarsest(self) -> str:
        """Return the type, of those that are written, that rounds most."""
        written = {tensor.dtype for tensor in self.plan.tensors}
        return next(TORCH_NAMES[code] for code in COARSEST_FIRST if code in written)


def prepare_merge(
    adapter: AdapterFolder, base: Path, options: MergeOptions, *, dequantised: bool = False
) -> Prepared:
    """Return the plan of a merge; no weight of the base is read.

    `dequantised` says that the files hold what the base held in training already.

    Raises:
        MergeError: the adapter and the base do not go together, or it changes no weight.
    """
    files = open_checkpoint(base)
    if dequantised or options.onto == "original":
        adapter = adapter.on_full_precision()
    if adapter.quantization == "none":
        updates = plain_updates(adapter, base, files)
        if updates is not None:
            plan = plan_folding(files, updates, _torch_dtype(options.dtype))
            original = options.onto == "original"
            return Prepared(adapter, base, files, plan, _dtype_settings(options), original)
    return _by_peft(adapter, base, files, options)


def _by_peft(
    adapter: AdapterFolder, base: Path, files: Checkpoint, options: MergeOptions
) -> Prepared:
    from lora_cli.merge.opened import open_adapted

    opened = open_adapted(adapter, base, files)
    plan = plan_adapted(opened.stored, opened.adapted, opened.held, _torch_dtype(options.dtype))
    kind = type(opened.model).__name__
    if plan.untied and opened.model.config.is_encoder_decoder:
        message = f"`{plan.untied[0]}` would get numbers of its own, and {kind} shares them"
        raise MergeError(message, str(adapter.path), "serve it with peft")
    return Prepared(
        adapter=adapter,
        base=base,
        files=files,
        plan=plan,
        settings={**_dtype_settings(options), **_model_settings(opened, base, plan)},
        on_original=options.onto == "original",
    )


def _model_settings(opened: Opened, base: Path, plan: MergePlan) -> dict[str, Any]:
    from lora_cli.merge.weightless import load_config

    settings: dict[str, Any] = {}
    config, before = opened.model.config, read_json(base / "config.json")
    if opened.stored.other_class:
        settings["architectures"] = [type(opened.model).__name__]
    if opened.stored.other_class or config.id2label != load_config(base).id2label:
        settings["id2label"] = {str(key): name for key, name in config.id2label.items()}
        settings["label2id"] = dict(config.label2id)
        if getattr(config, "problem_type", None):
            settings["problem_type"] = config.problem_type
    padding = getattr(config, "pad_token_id", None)
    if opened.stored.other_class and padding != before.get("pad_token_id"):
        settings["pad_token_id"] = padding
    rows = config.get_text_config().vocab_size
    if rows != before.get("text_config", before).get("vocab_size", rows):
        settings["vocab_size"] = rows
    if plan.untied:
        settings["tie_word_embeddings"] = False
    return settings


def _dtype_settings(options: MergeOptions) -> dict[str, Any]:
    return {"dtype": options.dtype} if options.dtype else {}


def _torch_dtype(name: str | None) -> torch.dtype | None:
    import torch

    return getattr(torch, name) if name else None
