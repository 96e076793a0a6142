"""AdaLoRA: ranks shared out by importance. Zhang et al. 2023, arXiv 2303.10512, sections 3.1-3.3.

Every pair starts with the same rank, above the average that is asked for. While the budget falls,
the ranks that matter least anywhere in the model are switched off, by peft's allocator.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field

from lora_cli.adapters.allocator import (
    allocator_state,
    as_plain_lora,
    kept_ranks,
    put_allocator_state,
    ranked_layers,
    remade,
)
from lora_cli.adapters.capability import Capability
from lora_cli.adapters.low_rank import LowRankSpec
from lora_cli.adapters.variant import Factors, FieldProblem, SavedAdapter, Setting

if TYPE_CHECKING:
    import torch
    from peft import AdaLoraConfig, PeftModel


class AdaLora(LowRankSpec):
    """W' = W + (alpha / initial_rank)·B·diag(e)·A, where training takes most values of e away."""

    variant: Literal["adalora"] = "adalora"
    """The method: LoRA whose ranks go to the modules that need them."""
    rank: int = Field(default=16, ge=1)
    """Average rank of the modules once ranks are shared out."""
    initial_rank: int | None = Field(default=None, ge=2)
    """Rank of every module at the start; by default one and a half times `rank`."""
    allocation_start: int | None = Field(default=None, ge=0)
    """Step after which ranks begin to be taken away; by default a tenth of the run."""
    allocation_end: int | None = Field(default=None, ge=2)
    """Step from which on the ranks stay as they are; by default half of the run."""
    allocation_interval: int | None = Field(default=None, ge=1)
    """Steps from one allocation to the next; by default a thousandth of the run, at least 1."""
    beta1: float = Field(default=0.85, gt=0, lt=1)
    """How slowly the average of a weight's importance follows: the share it keeps at each step."""
    beta2: float = Field(default=0.85, gt=0, lt=1)
    """The same for the average of how uncertain that importance is."""
    orthogonality_weight: float = Field(default=0.5, ge=0)
    """Weight of the term that keeps A's rows and B's columns orthogonal; the loss that is shown
    does not hold it."""

    capability: ClassVar[Capability] = Capability(
        patterns="it shares the ranks out itself; use lora to give them",
        lora_fa="its A is trained to be orthogonal; use adamw",
        exports="kept ranks",
    )
    learning_rate: ClassVar[float] = 5e-3  # all three factors start small, one of them at 0
    scaling_formula: ClassVar[str] = "alpha / initial_rank"

    @property
    def resolved_initial_rank(self) -> int:
        """Return the rank at the start, by default 1.5·rank rounded up, as in the paper."""
        return math.ceil(1.5 * self.rank) if self.initial_rank is None else self.initial_rank

    @property
    def resolved_alpha(self) -> float:
        """Return alpha, by default 2·initial_rank: the scaling is then 2, and stays it."""
        return 2.0 * self.resolved_initial_rank if self.alpha is None else self.alpha

    @property
    def scaling(self) -> float:
        """Return alpha / initial_rank: ranks that go do not change what the others add."""
        return self.resolved_alpha / self.resolved_initial_rank

    def settled(self, setting: Setting) -> Self:
        """Return it with the initial rank, alpha and the schedule filled in."""
        defaults = {
            "initial_rank": self.resolved_initial_rank,
            "alpha": self.resolved_alpha,
            "allocation_start": setting.steps // 10,
            "allocation_end": setting.steps // 2,
            "allocation_interval": max(1, setting.steps // 1000),
        }
        left_open = {name: value for name, value in defaults.items() if getattr(self, name) is None}
        return self.model_copy(update=left_open)

    def problems(self, setting: Setting) -> Iterator[FieldProblem]:
        """Yield an initial rank that leaves nothing to take, and a schedule without room for it."""
        if self.resolved_initial_rank <= self.rank:
            message = f"the initial rank of {self.resolved_initial_rank} leaves none to take away"
            hint = f"raise it above `adapter.rank`, which is {self.rank}"
            yield FieldProblem("initial_rank", message, hint)
        start, end = self._schedule()
        # the first step has no importance to go by yet
        if not max(start + 1, 2) <= end <= setting.steps:
            message = (
                f"ranks would be taken away after step {start} and up to step {end} of "
                f"{setting.steps}, which leaves no step to do it in"
            )
            hint = "train for more steps, or set allocation_start and allocation_end within the run"
            yield FieldProblem("allocation_end", message, hint, also="allocation_start")

    def may_end(self, step: int) -> bool:
        """Return whether all ranks have been taken away: before that there are too many."""
        return step >= self._schedule()[1]

    def _schedule(self) -> tuple[int, int]:
        assert self.allocation_start is not None, "a settled specification"
        assert self.allocation_end is not None
        return self.allocation_start, self.allocation_end

    def trainable_parameters(self, setting: Setting) -> int:
        """Return the sum of initial_rank·(in + out + 1)."""
        rank = self.resolved_initial_rank
        return sum(rank * (each.in_features + each.out_features + 1) for each in setting.modules)

    def summary(self) -> str:
        """Return variant, ranks, alpha, scaling and dropout."""
        return (
            f"{self.variant}, rank {self.rank} on average, from {self.resolved_initial_rank}, "
            f"alpha {self.resolved_alpha:g}, scaling {self.scaling:.4g}, dropout {self.dropout:g}"
            f"{self.and_dtype}"
        )

    def peft_config(self, target_modules: list[str], *, task: str = "CAUSAL_LM") -> AdaLoraConfig:
        """Return peft's configuration for exactly these modules.

        For peft, the run ends where ours stops taking ranks: what it does after its last step is
        what it does in its final phase, to hold the ranks as they are.
        """
        from peft import AdaLoraConfig

        start, end = self._schedule()
        return remade(
            super().peft_config(target_modules, task=task),
            AdaLoraConfig,
            r=8,  # peft's default, for a field that AdaLoRA has no use for
            rank_pattern=None,
            target_r=self.rank,
            init_r=self.resolved_initial_rank,
            # divided by the initial rank + 1e-5 in peft's layers
            lora_alpha=self.scaling * (self.resolved_initial_rank + 1e-5),
            tinit=start,
            total_step=end,
            tfinal=0,
            deltaT=self.allocation_interval,
            beta1=self.beta1,
            beta2=self.beta2,
            orth_reg_weight=self.orthogonality_weight,
        )

    def begin(self, model: PeftModel) -> None:
        """Make the divisor of the scaling the initial rank, and keep it that.

        On a base in 16 bits, peft rounds it to 16 bits and lets it be trained.
        """
        import torch

        divisor = torch.tensor([float(self.resolved_initial_rank)])
        for layer in ranked_layers(model).values():
            device = layer.lora_E["default"].device
            frozen = torch.nn.Parameter(divisor.to(device), requires_grad=False)
            layer.ranknum["default"] = frozen

    def penalty(self, model: PeftModel) -> torch.Tensor | None:
        """Return how far A·Aᵀ and Bᵀ·B are from the identity (equation 4), times its weight.

        As in the authors' code, the mean of Frobenius norms, where the paper has a sum of squares.
        """
        import torch

        if self.orthogonality_weight == 0:
            return None
        distances = []
        for layer in ranked_layers(model).values():
            for rows in (layer.lora_A["default"], layer.lora_B["default"].T):
                identity = torch.eye(len(rows), device=rows.device)
                distances.append((rows @ rows.T - identity).norm())
        return self.orthogonality_weight * torch.stack(distances).mean()

    def after_step(self, model: PeftModel, step: int) -> None:
        """Note each weight's importance, and take away the ranks that matter least."""
        model.base_model.update_and_allocate(step)

    def ranks(self, model: PeftModel) -> dict[str, int]:
        """Return the rank that each module has after the last allocation."""
        return kept_ranks(model)

    def state(self, model: PeftModel) -> dict[str, torch.Tensor]:
        """Return what is trained, what the allocator has gathered, and the ranks that it keeps."""
        return allocator_state(model)

    def load_state(self, model: PeftModel, state: Mapping[str, torch.Tensor]) -> None:
        """Put it all back."""
        put_allocator_state(model, state)

    def saved(self, model: PeftModel, _taken: Mapping[str, Factors]) -> SavedAdapter:
        """Return the plain LoRA of the ranks that are left."""
        return as_plain_lora(model, self.scaling)
