"""What a run leaves behind: its result, the adapter and where it came from, curves."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_cli import __version__
from lora_cli.engine.metrics import read_metrics
from lora_cli.facts.model_source import fingerprint_folder
from lora_cli.files import new_folder, write_bytes, write_text
from lora_cli.model.adapter import AttachedAdapter
from lora_cli.model.base import save_base
from lora_cli.plan.run_plan import ModelPlan, RunPlan
from lora_cli.plan.task_part import config_changes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ORIGIN = "loracli.json"
"""Written beside the adapter: which base it was trained on, and by which plan."""

PACKAGES = ("torch", "transformers", "peft", "accelerate", "bitsandbytes")


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
    figures: Mapping[str, float] = field(default_factory=dict)
    """What the task measured on the evaluation rows at the best step."""
    per_class: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """The same for each label."""
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    memory_before_bytes: int = 0
    """What `peak_memory_bytes` had come to before the model was loaded."""
    largest_batch: dict[str, Any] | None = None
    """The fields of the largest micro batch's `BatchShape`, since the run began or was resumed."""
    base: str | None = None
    """The quantized base that the adapter belongs to, where nobody else has it."""

    def to_json(self) -> str:
        """Return the result as indented JSON."""
        return json.dumps(asdict(self), indent=2) + "\n"


def write_base(folder: Path, adapter: AttachedAdapter, tokenizer: Any) -> None:
    """Write the base that the adapter was trained on so that transformers loads it as it is."""
    with new_folder(folder) as new:
        save_base(adapter.model, new)
        tokenizer.save_pretrained(str(new))


def write_adapter(
    folder: Path,
    adapter: AttachedAdapter,
    *,
    tokenizer: Any,
    plan: RunPlan,
    weights: Path,
    own_base: Path | None = None,
) -> None:
    """Write the adapter so that plain peft loads it, tokenizer and chat template beside it.

    `own_base` is where `write_base` put the base, if it is not the one in `weights`.
    """
    from safetensors.torch import save_file

    hub = plan.model.kind == "hub" and own_base is None
    saved = adapter.saved()
    config = saved.config
    config.base_model_name_or_path = plan.model.name if hub else str(own_base or weights)
    config.revision = plan.model.revision if hub else None
    config.inference_mode = True
    for name, value in vars(config).items():
        if isinstance(value, set):
            setattr(config, name, sorted(value))  # a set has no order to repeat
    with new_folder(folder) as new:
        config.save_pretrained(str(new))
        save_file(saved.tensors, new / "adapter_model.safetensors", metadata={"format": "pt"})
        if plan.task.has_new_head:
            _write_labels(new, weights, plan)
            if tokenizer.pad_token_id is None:
                tokenizer.pad_token = tokenizer.convert_ids_to_tokens(plan.model.padding_token)
        tokenizer.save_pretrained(str(new))
        _write_generation_config(new / "generation_config.json", adapter.model)
        write_text(new / ORIGIN, json.dumps(_origin(plan, own_base), indent=2) + "\n")


def _write_labels(folder: Path, weights: Path, plan: RunPlan) -> None:
    """Write the base's config with the task's labels: an adapter's own says nothing of them."""
    from transformers import AutoConfig

    trusted = plan.model.trust_remote_code
    changes = config_changes(plan)
    config = AutoConfig.from_pretrained(str(weights), trust_remote_code=trusted, **changes)
    config.architectures = [plan.model.architecture]
    config.save_pretrained(str(folder))


def _write_generation_config(file: Path, model: Any) -> None:
    """Write how the trained model generates, the tokens that end an answer among it.

    A model that generates nothing has none.
    """
    config = getattr(model, "generation_config", None)
    if config is not None:
        # its own way to save refuses settings that many base models come with
        write_text(file, config.to_json_string(use_diff=True) + "\n")


def _origin(plan: RunPlan, own_base: Path | None) -> dict[str, Any]:
    base: dict[str, Any] = {
        "base": base_name(plan.model),
        "base_fingerprint": plan.model.fingerprint,
    }
    if own_base is not None:
        fingerprint = f"folder:sha256:{fingerprint_folder(own_base)}"
        base = {"base": str(own_base), "base_fingerprint": fingerprint, "base_made_from": base}
    return {
        **base,
        "dtype": plan.model.dtype,
        "quantization": plan.quantization.model_dump(),
        "heads": plan.model.heads,
        "task": plan.task.model_dump(),
        "plan_digest": plan.digest,
        "versions": versions(),
    }


def base_name(model: ModelPlan) -> str:
    """Return a name that finds the base again from any folder of this machine."""
    if model.kind == "hub" or model.name.startswith("package://"):
        return model.name
    return model.gguf if model.kind == "gguf" and model.gguf else model.folder


def versions() -> dict[str, str]:
    """Return the versions of the packages that decide a result."""
    return {"loracli": __version__, **{package: version(package) for package in PACKAGES}}


def write_loss_curve(metrics: Path, picture: Path) -> None:
    """Draw a metrics file as PNG: training loss by step, its trend, and evaluation loss."""
    from matplotlib.figure import Figure

    lines = read_metrics(metrics)
    steps, losses = _series(lines, "step")
    figure = Figure(figsize=(8, 4.5))
    axes = figure.add_axes((0.09, 0.12, 0.88, 0.85))
    axes.plot(steps, losses, color="#9bb7d4", linewidth=1, label="training, each step")
    axes.plot(steps, _smoothed(losses), color="#1f4e79", linewidth=2, label="training, trend")
    evaluated, evaluations = _series(lines, "evaluation")
    if evaluated:
        axes.plot(evaluated, evaluations, color="#c0504d", marker="o", label="evaluation")
    top = 1.05 * max([*losses, *evaluations], default=1.0)
    axes.set(xlabel="step", ylabel="loss", ylim=(0, top))
    axes.legend()
    _write_figure(figure, axes, picture)


def write_rank_curve(metrics: Path, picture: Path) -> None:
    """Draw the modules' ranks by step as PNG, for a method that shares ranks out; else nothing."""
    from matplotlib.figure import Figure

    lines = [line for line in read_metrics(metrics) if line["kind"] == "ranks"]
    if not lines:
        return
    steps = [line["step"] for line in lines]
    ranks = [sorted(line["by_module"].values()) for line in lines]
    figure = Figure(figsize=(8, 3))
    axes = figure.add_axes((0.09, 0.17, 0.88, 0.78))
    lowest, highest = [each[0] for each in ranks], [each[-1] for each in ranks]
    axes.fill_between(
        steps, lowest, highest, step="post", color="#9bb7d4", alpha=0.5, label="lowest to highest"
    )
    means = [sum(each) / len(each) for each in ranks]
    axes.step(steps, means, where="post", color="#1f4e79", linewidth=2, label="average")
    axes.set(xlabel="step", ylabel="rank of a module", ylim=(0, 1.05 * max(highest)))
    axes.legend()
    _write_figure(figure, axes, picture)


def _write_figure(figure: Figure, axes: Axes, picture: Path) -> None:
    axes.grid(alpha=0.3)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=120)
    write_bytes(picture, png.getvalue())


def _series(lines: list[dict[str, Any]], kind: str) -> tuple[list[int], list[float]]:
    chosen = [line for line in lines if line["kind"] == kind]
    return [line["step"] for line in chosen], [line["loss"] for line in chosen]


def _smoothed(values: list[float], share: float = 0.9) -> list[float]:
    """Return the exponential moving average, without the bias of its start."""
    average, smoothed = 0.0, []
    for count, value in enumerate(values, 1):
        average = share * average + (1 - share) * value
        smoothed.append(average / (1 - share**count))
    return smoothed
