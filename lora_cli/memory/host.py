"""What the machine's own memory must hold beside the device: to load a base, and to merge into it.

Told from the headers of the weight files, or from the config where these are not here; no weight is
read. Loading maps the files and takes one tensor after another: the whole of a file need not be in
memory, but may be, as far as the system has room. It does not know how much of the libraries is in
use: that is a range.
"""

from __future__ import annotations

from dataclasses import dataclass

from lora_cli.facts.base_model import BaseModelFacts
from lora_cli.facts.weight_files import StoredSize, stored_sizes
from lora_cli.memory.interval import Interval, exactly
from lora_cli.plan.run_plan import RunPlan

LIBRARIES = {
    "cpu": Interval(450 << 20, 900 << 20),
    "cuda": Interval(600 << 20, 3500 << 20),
}
"""Resident memory of a process with torch, transformers and peft imported, by device: seen in runs
on one machine for `cpu`, guessed for `cuda`, where the driver has its share."""
KEPT_AT_LEAST = 3 << 29
"""Bytes that a process on a CPU may keep of those it has given back, however small its steps are.
glibc gives a block back by itself from 32 MiB on; smaller ones, of many sizes, leave holes that the
next do not fit. A SmolLM2 in nf4, with recomputed steps of 0.2 GB, held 1.3 GB beyond what was live
at its 14th step: 0.9 GB of holes, 0.4 GB of them from loading, and the file that its weights were
read from. The quickstart's process grew by 1.4 GB in 110 steps."""
COPIES_LOADING = 2
"""Of the tensor that is being loaded: as read, and converted or on its way to the device."""
COPIES_MERGING = 3
"""Of the largest tensor in float32: the weight, its change, and the sum."""


@dataclass(frozen=True, slots=True)
class HostMemory:
    """Bytes of the machine's own memory."""

    loading: Interval
    merging: Interval
    largest_tensor: int
    stored: int
    """All weight files together: what the system's cache may hold of them."""
    from_headers: bool
    """Whether the weight files were there to be asked."""


def host_memory(plan: RunPlan, base: BaseModelFacts) -> HostMemory:
    """Return what loading and merging take of the machine's own memory."""
    headers = stored_sizes(base.source)
    sizes = headers or _sizes_in_config(base)
    largest = max(size.stored_bytes for size in sizes)
    stored = sum(size.stored_bytes for size in sizes)
    in_float32 = 4 * max(size.numbers for size in sizes)
    on_host = _on_host(plan)
    reading = Interval(largest, COPIES_LOADING * largest)
    return HostMemory(
        loading=LIBRARIES[plan.device.type] + on_host + reading,
        merging=LIBRARIES["cpu"] + Interval(largest, COPIES_MERGING * in_float32),
        largest_tensor=largest,
        stored=stored,
        from_headers=bool(headers),
    )


def kept_on_cpu(plan: RunPlan, step: int) -> Interval:
    """Return what a process on a CPU keeps of the memory that loading and steps have given back.

    A step takes `step` bytes beyond the weights; loading reads in full precision what it quantizes.
    """
    read = 0 if plan.quantization.method == "none" else _in_full(plan)
    return Interval(0, max(step + read, KEPT_AT_LEAST))


def _in_full(plan: RunPlan) -> int:
    return plan.model.parameters * (4 if plan.model.dtype == "float32" else 2)


def _on_host(plan: RunPlan) -> Interval:
    """Return what of the base stays in the machine's memory when it is loaded."""
    in_full = _in_full(plan)
    if plan.device.type == "cuda":
        unpacked = in_full if plan.model.kind == "gguf" else 0  # once, into the cache
        return exactly(in_full) if _starts_in_full_precision(plan) else Interval(0, unpacked)
    if plan.quantization.method == "none":
        return exactly(in_full)
    return Interval(in_full // 4, in_full)  # weight by weight, as far as transformers lets go


def _starts_in_full_precision(plan: RunPlan) -> bool:
    """Return whether a start is computed on the CPU from the weights before they are quantized."""
    kind = plan.adapter.spec.start_from
    return plan.quantization.method != "none" and kind in ("original weights", "quantization error")


def _sizes_in_config(base: BaseModelFacts) -> list[StoredSize]:
    """Return the sizes of the model's matrices as if they were stored in 16 bits."""
    ends = [base.embedding, *([base.output_head] if base.output_head else [])]
    matrices = [each.in_features * each.out_features for each in (*ends, *base.linears)]
    stacks = [each.matrices * each.rows * each.columns for each in base.bare_parameters]
    return [StoredSize(numbers, 2 * numbers) for numbers in (*matrices, *stacks)]
