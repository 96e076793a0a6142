"""The adapters that are folded without building a model: plain LoRA on the commonest decoders.

Building one imports transformers and peft, which takes longer than merging a billion parameters.
"""

from __future__ import annotations

from pathlib import Path

from lora_cli.merge.adapter_config import CAUSAL_TASKS, beside_pairs, read_json
from lora_cli.merge.adapter_folder import AdapterFolder, Update, pairs_of
from lora_cli.merge.checkpoint import Checkpoint
from lora_cli.merge.exportable import ENDS

STORED_AS_NAMED = frozenset(
    [
        "gemma",
        "gemma2",
        "granite",
        "llama",
        "mistral",
        "olmo2",
        "phi3",
        "qwen2",
        "qwen3",
        "smollm3",
        "starcoder2",
    ]
)
"""Model types whose files hold each linear layer's weight, (out, in), under the layer's own name.

A test compares this with transformers: no conversion of names or layouts, and no Conv1D.
"""


def plain_updates(
    adapter: AdapterFolder, base: Path, files: Checkpoint
) -> dict[str, Update] | None:
    """Return the updates by the names of the base's tensors, or None where more has to be known.

    Raises:
        MergeError: the adapter is a plain LoRA, but its tensors do not fit together.
    """
    config = adapter.config
    if config.kind != "LORA" or beside_pairs(config) or config.task not in CAUSAL_TASKS:
        return None
    if read_json(base / "config.json").get("model_type") not in STORED_AS_NAMED:
        return None
    if any(ENDS.intersection(name.split(".")) for name in adapter.tensors):
        return None
    pairs = pairs_of(adapter.tensors, config)
    updates = {f"{module}.weight": update for module, update in pairs.items()}
    return updates if updates.keys() <= files.tensors.keys() else None
