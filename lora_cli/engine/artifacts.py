"""What a run leaves behind: the adapter, its card, the loss curve and a report."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lora_cli.engine.metrics import read_metrics
from lora_cli.files import new_folder, write_text
from lora_cli.plan.run_plan import RunPlan

ORIGIN = "loracli.json"
"""Written beside the adapter: which base it was trained on, and by which plan."""

PACKAGES = ("loracli", "torch", "transformers", "peft", "accelerate")


@dataclass(frozen=True)
class RunResult:
    """What a run wrote, and its final figures."""

    run_dir: str
    adapter: str
    digest: str
    steps: int
    final_loss: float
    tokens: int
    seconds: float
    """Of training steps, evaluations and loading aside."""
    peak_memory_bytes: int
    best_step: int | None = None
    best_evaluation_loss: float | None = None
    scores: dict[str, dict[str, float]] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the result as indented JSON."""
        return json.dumps(asdict(self), indent=2) + "\n"


def write_adapter(folder: Path, model: Any, tokenizer: Any, plan: RunPlan, base: Path) -> None:
    """Write the adapter so that plain peft loads it, tokenizer and chat template beside it."""
    config = model.peft_config["default"]
    config.base_model_name_or_path = plan.model.name if plan.model.kind == "hub" else str(base)
    config.revision = plan.model.revision if plan.model.kind == "hub" else None
    origin = {
        "base": plan.model.name,
        "base_fingerprint": plan.model.fingerprint,
        "quantization": plan.quantization.model_dump(),
        "plan_digest": plan.digest,
        "versions": versions(),
    }
    with new_folder(folder) as new:
        model.save_pretrained(str(new), safe_serialization=True)
        tokenizer.save_pretrained(str(new))
        write_text(new / ORIGIN, json.dumps(origin, indent=2) + "\n")
        (new / "README.md").unlink(missing_ok=True)  # peft's empty card; ours is the run's


def versions() -> dict[str, str]:
    """Return the versions of the packages that decide a result."""
    return {package: version(package) for package in PACKAGES}


def write_loss_curve(folder: Path) -> None:
    """Draw metrics.jsonl as loss.png: training loss by step, its trend, and evaluation loss."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.figure import Figure

    metrics = read_metrics(folder / "metrics.jsonl")
    steps = [line for line in metrics if line["kind"] == "step"]
    evaluations = [line for line in metrics if line["kind"] == "evaluation"]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    losses = [line["loss"] for line in steps]
    numbers = [line["step"] for line in steps]
    axes.plot(numbers, losses, color="#9bb7d4", linewidth=1, label="training, each step")
    axes.plot(numbers, _smoothed(losses), color="#1f4e79", linewidth=2, label="training, trend")
    if evaluations:
        axes.plot(
            [line["step"] for line in evaluations],
            [line["loss"] for line in evaluations],
            color="#c0504d",
            marker="o",
            label="evaluation",
        )
    axes.set(xlabel="step", ylabel="loss (nats a supervised token)", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(folder / "loss.png", dpi=120)


def _smoothed(values: list[float], share: float = 0.9) -> list[float]:
    """Return the exponential moving average, without the bias of its start."""
    average, smoothed = 0.0, []
    for count, value in enumerate(values, 1):
        average = share * average + (1 - share) * value
        smoothed.append(average / (1 - share**count))
    return smoothed
