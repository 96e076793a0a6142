"""Devices and processes: the only place that knows accelerate."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from lora_cli.errors import RunError

if TYPE_CHECKING:
    import torch


class Runtime:
    """One process of a run: its device, its rank, and the sums over all processes."""

    def __init__(self, *, device: str, processes: int) -> None:
        """Start accelerate for a device type (`cpu`, `cuda`).

        Raises:
            RunError: several processes, which this version does not train with; or not as many as
                the plan counts on: N unconnected copies of a run would be started.
        """
        from accelerate import Accelerator
        from accelerate.utils import GradientAccumulationPlugin

        launched = int(os.environ.get("WORLD_SIZE", "1"))
        if processes > 1 or launched > 1:
            message = f"{max(processes, launched)} processes; this version trains in one"
            raise RunError(message, hint="start it without a launcher")
        # weights have the plan's precision already, and the loop does its own accumulation: a
        # launcher's environment must change neither
        self._accelerator = Accelerator(
            cpu=device == "cpu",
            mixed_precision="no",
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        )
        if self.device.type != device:
            raise RunError(f"the plan is for {device}; accelerate found {self.device.type}")

    @property
    def device(self) -> torch.device:
        """Return this process's device."""
        device: torch.device = self._accelerator.device
        return device

    @property
    def processes(self) -> int:
        """Return how many processes train together."""
        return int(self._accelerator.num_processes)

    @property
    def rank(self) -> int:
        """Return this process's number, from 0."""
        return int(self._accelerator.process_index)

    def prepare(self, model: Any, optimizer: Any) -> tuple[Any, Any]:
        """Return model and optimizer as this kind of run needs them."""
        prepared: tuple[Any, Any] = self._accelerator.prepare(model, optimizer)
        return prepared

    def backward(self, loss: torch.Tensor) -> None:
        """Add the loss's gradients to the parameters."""
        self._accelerator.backward(loss)

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        """Return the sum of a tensor over all processes."""
        total: torch.Tensor = self._accelerator.reduce(value, reduction="sum")
        return total

    def memory_bytes(self) -> int:
        """Return the peak so far: of the allocator on a GPU, of the process on a CPU."""
        import torch

        if self.device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self.device))
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
