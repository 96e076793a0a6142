"""Small rows of each task that a tiny model can learn in a few steps, and models to learn them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from tests.helpers.task_models import make_bert, make_t5
from tests.helpers.tiny_models import make_tiny_model, write_rows

WORDS = ("sunny", "grim", "happy", "sad", "bright", "dull", "warm", "cold")
NAMES = ("anna", "bob", "carla", "dan")


def labelled_texts(count: int) -> list[dict[str, Any]]:
    """Return texts whose label is told by one of their words; a third of them are pairs."""
    rows: list[dict[str, Any]] = []
    for number in range(count):
        row = {"text": f"a {WORDS[number % 8]} day", "label": ("good", "bad")[number % 2]}
        rows.append({**row, "second_text": f"so {number % 5}"} if number % 3 == 2 else row)
    return rows


def labelled_words(count: int) -> list[dict[str, Any]]:
    """Return sentences in which one word is a name, and told to be one."""
    rows = []
    for number in range(count):
        words = [WORDS[number % 8], NAMES[number % 4], WORDS[number % 3]][: 2 + number % 2]
        tags = ["O", "B-NAME", "O"][: len(words)]
        rows.append({"tokens": words, "tags": tags})
    return rows


def sources_and_targets(count: int) -> list[dict[str, Any]]:
    """Return words and what is asked of them."""
    return [
        {"source": f"repeat {WORDS[number % 8]}", "target": WORDS[number % 8]}
        for number in range(count)
    ]


def llama_without_padding(folder: Path) -> Path:
    """Write a tiny Llama whose tokenizer and config know no padding; return its folder."""
    make_tiny_model(folder)
    for name, key in (("config.json", "pad_token_id"), ("tokenizer_config.json", "pad_token")):
        content = json.loads((folder / name).read_text("utf-8"))
        content.pop(key, None)
        (folder / name).write_text(json.dumps(content), "utf-8")
    return folder


CASES: dict[str, tuple[Any, str, Any]] = {
    "bert_texts": (make_bert, "sequence_classification", labelled_texts),
    "llama_texts": (llama_without_padding, "sequence_classification", labelled_texts),
    "bert_words": (make_bert, "token_classification", labelled_words),
    "t5": (make_t5, "seq2seq_lm", sources_and_targets),
}
"""By name: what makes the model, the task, and what makes its rows."""


def write_case(folder: Path, name: str, **sections: Any) -> Path:
    """Write a case's model, rows to learn and to evaluate on, and its recipe; return that."""
    make, task, rows = CASES[name]
    make(folder / "model")
    write_rows(folder / "rows.jsonl", rows(24))
    write_rows(folder / "apart.jsonl", rows(8))
    recipe: dict[str, Any] = {
        "model": {"name": "model", "dtype": "float32", "attention": "eager"},
        "task": task,
        "adapter": {"variant": "lora", "rank": 4},
        "dataset": "rows.jsonl",
        "training": {"batch_size": 4, "steps": 18, "learning_rate": 0.01},
        "evaluation": {"path": "apart.jsonl", "every_steps": 9, "batch_size": 3},
        "output": {"dir": str(folder / "run")},
    }
    recipe.update(sections)
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False), "utf-8")
    return path
