"""BOFT: butterfly orthogonal fine-tuning. Liu et al. 2023, arXiv 2311.06243.

peft lays the blocks of several factors out with a CUDA kernel that it compiles on the spot; where
that fails it silently takes one factor. Here a few lines of torch take the kernel's place.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from lora_cli.adapters.blocks import nearest_block
from lora_cli.adapters.capability import Capability
from lora_cli.adapters.targeted import TargetedSpec
from lora_cli.adapters.variant import Factors, FieldProblem, SavedAdapter, Setting

if TYPE_CHECKING:
    import torch
    from peft import BOFTConfig, PeftModel


class Boft(TargetedSpec):
    """W' = diag(s)·W·R, R = R_m … R_1: each factor turns blocks of inputs.

    From one factor to the next, twice as many inputs meet: R turns block·2^(m−1) of them together
    with far fewer numbers than one block of that size. R starts as the identity, s as ones.
    """

    variant: Literal["boft"] = "boft"
    """The method: rotations of blocks of inputs, one after another, and a scale for each output."""
    block_size: int = Field(default=8, ge=2)
    """Inputs that one block of a factor turns together."""
    butterfly_factors: int = Field(default=2, ge=1)
    """Rotations one after another; block_size·2^(factors − 1) must divide every module's inputs."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of one factor's blocks that are left unturned in a forward pass of training."""

    capability: ClassVar[Capability] = Capability(
        conv1d="no code for weights held as (in, out): use lora or vera, or a quantized base",
        exports="approximation",
    )
    learning_rate: ClassVar[float] = 5e-4

    @property
    def span(self) -> int:
        """Return how many inputs the factors turn together."""
        return self.block_size << (self.butterfly_factors - 1)

    def problems(self, setting: Setting) -> Iterator[FieldProblem]:
        """Yield that the factors do not cut a module's inputs, or cannot halve their blocks."""
        together = 2 ** (self.butterfly_factors - 1)
        halved = together > 1
        odd = [each for each in setting.modules if each.in_features % self.span]
        if odd or (halved and self.block_size % 2):
            message = f"several factors halve blocks, and {self.block_size} is odd"
            if odd:
                inputs = f"the {odd[0].in_features} inputs of `{odd[0].name}`"
                message = f"{together} × blocks of {self.block_size} do not divide {inputs}"
            sides = [each.in_features for each in setting.modules]
            near = nearest_block(self.block_size, sides, times=together, even=halved)
            hint = f"use {near}" if near else "use fewer butterfly factors"
            yield FieldProblem("block_size", message, hint)

    def trainable_parameters(self, setting: Setting) -> int:
        """Return the sum of factors·in·block + out."""
        numbers = self.butterfly_factors * self.block_size
        return sum(numbers * each.in_features + each.out_features for each in setting.modules)

    def summary(self) -> str:
        """Return variant, blocks, factors and dropout."""
        factors = f"{self.butterfly_factors} × blocks of {self.block_size}"
        return f"boft, {factors}, dropout {self.dropout:g}"

    def peft_config(self, target_modules: list[str], *, task: str = "CAUSAL_LM") -> BOFTConfig:
        """Return peft's configuration for exactly these modules."""
        from peft import BOFTConfig
        from peft.tuners.boft import layer

        layer._FBD_CUDA = _BlockDiagonal()  # noqa: SLF001  # where peft keeps its compiled kernel
        return BOFTConfig(
            task_type=task,
            target_modules=target_modules,
            boft_block_size=self.block_size,
            boft_n_butterfly_factor=self.butterfly_factors,
            boft_dropout=self.dropout,
        )

    def saved(self, model: PeftModel, taken: Mapping[str, Factors]) -> SavedAdapter:
        """Return the same rotations as one factor of larger blocks, which peft loads anywhere."""
        saved = super().saved(model, taken)
        if self.butterfly_factors == 1:
            return saved
        config = copy.copy(saved.config)
        config.boft_block_size, config.boft_n_butterfly_factor = self.span, 1
        tensors = dict(saved.tensors)
        for name in (name for name in saved.tensors if name.endswith(".boft_R")):
            layer = model.get_submodule(name.removesuffix(".boft_R"))
            rotation, _scale = layer.get_delta_weight("default")
            tensors[name] = _skew(_diagonal_blocks(rotation, self.span))[None]
        return SavedAdapter(config, tensors)


class _BlockDiagonal:
    """peft's kernel: blocks (factors, n, size, size) ↔ matrices (factors, n·size, n·size)."""

    def forward(self, blocks: torch.Tensor) -> list[torch.Tensor]:
        """Return the blocks on the diagonals of matrices of zeros."""
        factors, count, size, _ = blocks.shape
        matrices = blocks.new_zeros(factors, count, size, count, size)
        matrices.diagonal(dim1=1, dim2=3).copy_(blocks.permute(0, 2, 3, 1))
        return [matrices.reshape(factors, count * size, count * size)]

    def backward(self, gradient: torch.Tensor, blocks: torch.Tensor) -> list[torch.Tensor]:
        """Return the gradient on the diagonals."""
        factors, count, size, _ = blocks.shape
        gradient = gradient.reshape(factors, count, size, count, size)
        return [gradient.diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)]


def _diagonal_blocks(matrix: torch.Tensor, size: int) -> torch.Tensor:
    """Return the blocks (n, size, size) on the diagonal of a matrix."""
    count = len(matrix) // size
    blocks = matrix.reshape(count, size, count, size).diagonal(dim1=0, dim2=2)
    return blocks.permute(2, 0, 1)


def _skew(rotations: torch.Tensor) -> torch.Tensor:
    """Return the skew-symmetric S of which (I − S)·(I + S)⁻¹ is each rotation."""
    import torch

    identity = torch.eye(rotations.shape[-1], dtype=torch.float64, device=rotations.device)
    exact = rotations.double()
    skew: torch.Tensor = torch.linalg.solve(identity + exact, identity - exact)
    return ((skew - skew.mT) / 2).float()
