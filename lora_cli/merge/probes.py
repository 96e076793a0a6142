"""The texts that a merged model and its base with the adapter are asked alike."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import NonNegativeInt, TypeAdapter

from lora_cli.merge.adapter_folder import AdapterFolder
from lora_cli.plan.run_folder import MOST_PROBES, PROBE_TOKENS, PROBES

if TYPE_CHECKING:
    import torch

TEXTS = (
    "The capital of Norway is Oslo, and the capital of Portugal is",
    "def mean(values):\n    return sum(values) / len(values)\n",
    "Please answer in one word: is water wet? ",
    '{"name": "lamp", "price": 19.90, "in_stock": true}',
    "3, 6, 12, 24, 48,",
    "Der Zug fährt um acht Uhr ab, und wir sind noch zu Hause.",
)
NO_PADDING_TOKEN = 0
"""What pads where the model names no token for it."""
NUMBERED_TOKENS = 24
"""How long a probe is where there is no tokenizer: token ids drawn by a fixed seed."""


@dataclass(frozen=True)
class Probes:
    """Texts to answer, padded on the right: both (texts, tokens)."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor


def probes_for(adapter: AdapterFolder, config: Any) -> Probes:
    """Return the ends of the run's own evaluation rows, or texts of all kinds, as tokens.

    The end of a row is its own, where the beginning may be the same for all.
    """
    import torch

    reads = config.get_text_config()
    longest = min(PROBE_TOKENS, getattr(reads, "max_position_embeddings", None) or PROBE_TOKENS)
    encoded = _evaluation_rows(adapter.path.parent) or _encoded_texts(adapter.path)
    kept = {tuple(ids[-longest:]): None for ids in encoded if ids and max(ids) < reads.vocab_size}
    rows = [torch.tensor(ids) for ids in kept]
    if not rows:
        generator = torch.Generator().manual_seed(0)
        shape = (len(TEXTS), min(longest, NUMBERED_TOKENS))
        rows = list(torch.randint(reads.vocab_size, shape, generator=generator))
    pad = partial(torch.nn.utils.rnn.pad_sequence, batch_first=True)
    padding = getattr(reads, "pad_token_id", None)
    padding = NO_PADDING_TOKEN if padding is None else padding
    return Probes(pad(rows, padding_value=padding), pad([torch.ones_like(row) for row in rows]))


def _evaluation_rows(run: Path) -> list[list[int]]:
    """Return what a run left of its evaluation rows."""
    try:
        rows = TypeAdapter(list[list[NonNegativeInt]]).validate_json((run / PROBES).read_bytes())
    except (OSError, ValueError):  # none, or a file of that name which no run wrote
        return []
    return rows[:MOST_PROBES]


def _encoded_texts(folder: Path) -> list[list[int]]:
    tokenizer = _tokenizer(folder)
    return [tokenizer(text)["input_ids"] for text in TEXTS] if tokenizer else []


def _tokenizer(folder: Path) -> Any:
    if not (folder / "tokenizer_config.json").is_file():
        return None
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(folder))
    except (OSError, ValueError, ImportError):
        return None
