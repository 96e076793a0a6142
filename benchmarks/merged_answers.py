"""Whether a merged model writes what base and adapter write: a run's own held-out rows, greedily.

    python benchmarks/merged_answers.py RUN MERGED [float32|bfloat16]

Prompts are those of the run's `answers.jsonl`; both models are loaded by transformers and peft in
one precision, and generate 64 tokens at most. Prints how many answers are the same, to the letter.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from lora_cli.merge.adapter_folder import read_adapter
from lora_cli.merge.base import fetch_base, find_base

ROWS_AT_ONCE, TOKENS = 40, 64


def main(run: Path, merged: Path, dtype: str) -> None:
    lines = (run / "answers.jsonl").read_text("utf-8").splitlines()
    prompts = [json.loads(line)["prompt"] for line in lines]
    adapter = read_adapter(run / "adapter")
    base = fetch_base(find_base(adapter.config, adapter.origin))
    tokenizer = AutoTokenizer.from_pretrained(run / "adapter", padding_side="left")
    precision = getattr(torch, dtype)
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=precision)
    adapted = PeftModel.from_pretrained(plain, run / "adapter")
    theirs = answers(adapted.eval(), tokenizer, prompts)
    del adapted, plain
    ours = answers(
        AutoModelForCausalLM.from_pretrained(merged, dtype=precision), tokenizer, prompts
    )
    same = sum(one == other for one, other in zip(ours, theirs, strict=True))
    print(f"{dtype}: {same} of {len(prompts)} answers are the same ({same / len(prompts):.1%})")


def answers(model: Any, tokenizer: Any, prompts: list[str]) -> list[str]:
    """Return what the model writes to each prompt."""
    written: list[str] = []
    for first in range(0, len(prompts), ROWS_AT_ONCE):
        rows = prompts[first : first + ROWS_AT_ONCE]
        inputs = tokenizer(rows, return_tensors="pt", padding=True, add_special_tokens=False)
        stop = tokenizer.convert_tokens_to_ids("<|im_end|>")
        with torch.no_grad():
            tokens = model.generate(
                **inputs, do_sample=False, max_new_tokens=TOKENS, eos_token_id=stop
            )
        written += tokenizer.batch_decode(tokens[:, inputs["input_ids"].shape[1] :])
    return written


if __name__ == "__main__":
    precision = sys.argv[3] if len(sys.argv) > 3 else "float32"
    main(Path(sys.argv[1]), Path(sys.argv[2]), precision)
