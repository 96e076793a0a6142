"""The machine a plan is made for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lora_cli.errors import PlanError


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """One device and what it can do."""

    device: Literal["cpu", "cuda"]
    name: str
    """What the device calls itself."""
    fast_bfloat16: bool
    """Whether products in bfloat16 run in hardware."""
    memory_bytes: int
    """Memory of the device; for `cpu`, of the machine."""
    processes: int
    """How many processes train together."""


def probe_machine() -> MachineFacts:
    """Return the facts of the device that training would use here.

    Raises:
        PlanError: the launcher's WORLD_SIZE is no number of processes.
    """
    import torch

    processes = _processes()
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


def _processes() -> int:
    text = os.environ.get("WORLD_SIZE", "1")
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        message = f"WORLD_SIZE is `{text}`, not a number of processes"
        raise PlanError(message, hint="a launcher sets it; unset it to train in one process")
    return int(text)


def _processor() -> tuple[str, frozenset[str]]:
    """Return the processor's name and feature flags, as far as the system tells them."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return "CPU", frozenset()
    return read_cpuinfo(text)


def read_cpuinfo(text: str) -> tuple[str, frozenset[str]]:
    """Return the first processor's name and feature flags out of Linux's /proc/cpuinfo."""
    fields = {
        key.strip(): value.strip()
        for key, _, value in (line.partition(":") for line in text.splitlines())
    }
    flags = fields.get("flags") or fields.get("Features") or ""
    return fields.get("model name", "CPU"), frozenset(flags.split())


def _host_memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
