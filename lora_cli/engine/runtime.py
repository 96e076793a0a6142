"""Devices and processes: the only place that knows accelerate."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from lora_cli.errors import RunError

if TYPE_CHECKING:
    import torch


class Runtime:
    """One process of a run: its device, its rank, and the sums over all processes."""

    def __init__(self, *, device: str, dtype: str, processes: int) -> None:
        """Start accelerate for a device type (`cpu`, `cuda`).

        Raises:
            RunError: more or fewer processes came up than the plan counts on. A launch profile that
                is ignored would start N unconnected copies of the run.
        """
        from accelerate import Accelerator

        # float16 needs loss scaling; bfloat16 and float32 run in the weights' own precision
        precision = "fp16" if dtype == "float16" else "no"
        self._accelerator = Accelerator(cpu=device == "cpu", mixed_precision=precision)
        launched = int(os.environ.get("WORLD_SIZE", "1"))
        if not self.processes == processes == launched:
            message = f"{self.processes} processes are connected; the plan has {processes}"
            raise RunError(f"{message} and {launched} were launched", hint="check the launch profile")

    @property
    def device(self) -> torch.device:
        """Return this process's device."""
        return self._accelerator.device

    @property
    def processes(self) -> int:
        """Return how many processes train together."""
        return int(self._accelerator.num_processes)

    @property
    def rank(self) -> int:
        """Return this process's number, from 0."""
        return int(self._accelerator.process_index)

    @property
    def is_main(self) -> bool:
        """Return whether this process writes the results."""
        return bool(self._accelerator.is_main_process)

    def prepare(self, model: Any, optimizer: Any) -> tuple[Any, Any]:
        """Return model and optimizer as this kind of run needs them."""
        prepared: tuple[Any, Any] = self._accelerator.prepare(model, optimizer)
        return prepared

    def without_sync(self, model: Any) -> AbstractContextManager[None]:
        """Return a context in which gradients are not yet summed over processes."""
        if self.processes == 1:
            return nullcontext()
        context: AbstractContextManager[None] = self._accelerator.no_sync(model)
        return context

    def backward(self, loss: torch.Tensor) -> None:
        """Add the loss's gradients to the parameters."""
        self._accelerator.backward(loss)

    def unscale(self) -> None:
        """Undo float16's loss scaling, so that norms are true."""
        self._accelerator.unscale_gradients()

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        """Return the sum of a tensor over all processes."""
        total: torch.Tensor = self._accelerator.reduce(value, reduction="sum")
        return total

    def wait(self) -> None:
        """Wait until every process is here."""
        self._accelerator.wait_for_everyone()

    def memory_bytes(self) -> int:
        """Return the peak so far: of the allocator on a GPU, of the process on a CPU."""
        import torch

        if self.device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self.device))
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
