"""The machine a plan is made for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """One device and what it can do."""

    device: str
    """`cuda` or `cpu`."""
    name: str
    """What the device calls itself."""
    fast_bfloat16: bool
    """Whether products in bfloat16 run in hardware."""
    memory_bytes: int
    """Memory of the device; for `cpu`, of the machine."""
    processes: int
    """How many processes train together."""


def probe_machine() -> MachineFacts:
    """Return the facts of the device that training would use here."""
    import torch

    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return MachineFacts(
            device="cuda",
            name=properties.name,
            fast_bfloat16=torch.cuda.is_bf16_supported(including_emulation=False),
            memory_bytes=properties.total_memory,
            processes=processes,
        )
    name, flags = _processor()
    return MachineFacts(
        device="cpu",
        name=f"{name}, {os.cpu_count()} cores",
        fast_bfloat16=bool(flags & {"avx512_bf16", "amx_bf16", "bf16"}),
        memory_bytes=_host_memory_bytes(),
        processes=processes,
    )


def _processor() -> tuple[str, frozenset[str]]:
    """Return the processor's name and feature flags, as far as the system tells them."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return "CPU", frozenset()
    fields = dict(
        (key.strip(), value.strip())
        for key, _, value in (line.partition(":") for line in text.splitlines())
    )
    flags = fields.get("flags") or fields.get("Features") or ""
    return fields.get("model name", "CPU"), frozenset(flags.split())


def _host_memory_bytes() -> int:
    import psutil

    return int(psutil.virtual_memory().total)
