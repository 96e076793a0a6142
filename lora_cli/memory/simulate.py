"""simulate(plan, batches) → Trace: steps of a plan without weights, on the meta device.

What runs is what trains: the installed transformers, peft and bitsandbytes, the plan's task and
optimizer, and `step.update`. Only the processes, of which there is one, are stood in for.

Left out: the base while it is read, the start of an adapter that is computed, and generated
answers. Values of the weights are not known: no input of an int8 base is an outlier, and a router
sends equally many tokens to each expert. Of a paged optimizer, the state of tensors with 100,000
numbers or more is in pages that torch does not allocate: it is not in the trace.
"""

from __future__ import annotations

from collections.abc import Sequence

from lora_cli.errors import EstimateError, GuardTrippedError, LoraCliError, RunError
from lora_cli.memory.batch_shape import BatchShape, longest_batch
from lora_cli.memory.steps import per_step, run_steps, twice
from lora_cli.memory.trace import Trace
from lora_cli.plan.run_plan import RunPlan
from lora_cli.words import reason_of

__all__ = ["BatchShape", "CannotSimulate", "per_step", "simulate", "twice"]


_SIZES_DIFFER = ("The size of tensor a", "cannot be multiplied", "is invalid for input of size")
"""What torch says of sizes that do not go together, on any device."""
_MEND = "numbers in its config.json contradict each other: mend it, or fetch it again"
_LEAVE_OUT = "leave such layers out: `adapter.exclude_modules`"


class CannotSimulate(LoraCliError):  # noqa: N818  # what cannot be done, not what is wrong
    """The installed code does not run on the meta device, for the reason that is its message."""


def simulate(plan: RunPlan, batches: Sequence[BatchShape] = ()) -> Trace:
    """Return what a device of the plan's type allocates: the model, steps, and an evaluation batch.

    `batches` are micro batches in the order of training; a step takes as many as `per_step` says.
    By default, two steps of the longest batch.

    Raises:
        CannotSimulate: the installed code does not run on the meta device.
        EstimateError: no device could run it, with its weights or without.
    """
    shapes = batches or twice(plan, longest_batch(plan))
    try:
        return _trace(plan, shapes)
    except EstimateError:
        raise
    except GuardTrippedError as error:
        (problem,) = error.problems
        message = f"a guard would stop the first step: {problem.message}"
        raise EstimateError(message, hint=problem.hint or _LEAVE_OUT) from error
    except Exception as error:  # other people's code breaks without weights in any way
        reason = reason_of(error)
        if any(said in reason for said in _SIZES_DIFFER):
            raise EstimateError(f"{plan.model.name} cannot run: {reason}", hint=_MEND) from error
        raise CannotSimulate(reason) from error


def _trace(plan: RunPlan, shapes: Sequence[BatchShape]) -> Trace:
    from lora_cli.memory.kernels import kernels_of
    from lora_cli.memory.meta_model import build_on_meta
    from lora_cli.memory.mode import SimulatedDevice
    from lora_cli.memory.places import Places
    from lora_cli.memory.quantized_kernels import bitsandbytes_kernels
    from lora_cli.memory.tracker import Storages

    if plan.quantization.method != "none" or plan.optimizer.package == "bitsandbytes":
        import bitsandbytes  # noqa: F401  # its kernels are put in place where it is imported
    storages = Storages()
    with kernels_of(plan.device.type):
        try:
            built = build_on_meta(plan)
        except RunError as error:  # with its weights the model would be refused as well
            raise EstimateError.from_problems(error.problems) from error
        for name, category, tensor in built.tensors(plan.model.heads):
            storages.note(tensor, category, name)
        places = Places(built.module_names(), plan.model.heads)
        kernels = bitsandbytes_kernels(plan.device.type)
        on_cpu = plan.device.type == "cpu"
        with places.followed(), SimulatedDevice(storages, places, kernels, on_cpu=on_cpu):
            run_steps(plan, shapes, built.adapter, storages)
        return storages.trace()
