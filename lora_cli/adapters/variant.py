"""What every adapter variant is: its fields, what peft builds from them, and how it trains.

A variant's file holds its specification and overrides what the method does differently; all heavy
imports stand inside the methods. This module does not know which modules are adapted (`targets`)
or where a start's evidence comes from (`model.start`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self

from lora_cli.adapters.capability import Capability
from lora_cli.section import Section

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig, PeftModel

StartFrom = Literal[
    "seed", "base weights", "original weights", "quantization error", "inputs", "gradients"
]
"""What an adapter's first values are computed from.

`base weights` are those the model holds (dequantised, where it is quantized); `original weights`
are those of the checkpoint, before any quantization; `quantization error` is what the base loses of
them; `inputs` and `gradients` come from a few batches of the recipe's own data.
"""


class Module(Protocol):
    """A module that is adapted: a product with a weight of `out_features` × `in_features`."""

    @property
    def name(self) -> str:
        """Return its full name."""

    @property
    def in_features(self) -> int:
        """Return the size of what goes in."""

    @property
    def out_features(self) -> int:
        """Return the size of what comes out."""


class Parameter(Protocol):
    """A tensor that is adapted by itself: matrices of `rows` × `columns`, one an expert."""

    @property
    def name(self) -> str:
        """Return its full name."""

    @property
    def matrices(self) -> int:
        """Return how many matrices lie in it."""

    @property
    def rows(self) -> int:
        """Return the first size of each matrix."""

    @property
    def columns(self) -> int:
        """Return the second size of each matrix."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a specification is settled for: the base, the modules and the length of the run."""

    modules: Sequence[Module]
    """The adapted modules, in the model's order."""
    feed_forward_ends: Sequence[str]
    """Those of `modules` whose input is the inside of a feed-forward block."""
    layers: int
    hidden_size: int
    key_value_size: int
    """Size of all keys of one token in one layer."""
    steps: int
    """Optimizer steps of the run."""
    parameters: Sequence[Parameter] = ()
    """The tensors that are adapted by themselves."""


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """A field's value that the base or the run has no use for: why, and what to write instead."""

    field: str
    message: str
    hint: str
    also: str = ""
    """Another field that has a part in it: it is meant where the recipe has it and not `field`."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a start may be computed from, for one module; all tensors float32 on one device."""

    weight: torch.Tensor
    """(out, in)."""
    rank: int
    scaling: float
    requantized: Callable[[torch.Tensor], torch.Tensor]
    """Returns what is left of an (out, in) weight once the base holds it, rounded or quantized."""
    inputs: torch.Tensor | None = None
    """(in, in): the mean of x·xᵀ over the inputs x that the module gets."""
    gradient: torch.Tensor | None = None
    """(out, in): the mean gradient of the loss for the weight."""


@dataclass(frozen=True, slots=True)
class Factors:
    """A pair: a (rank, in), b (out, rank)."""

    a: torch.Tensor
    b: torch.Tensor


@dataclass(frozen=True, slots=True)
class Start:
    """A module's first values, and the pair whose product the base gives up for them."""

    first: Factors
    taken: Factors | None = None
    """The base's weight becomes W − scaling·b·a; None leaves it as it is."""


@dataclass(frozen=True)
class SavedAdapter:
    """An adapter as plain peft loads it: its configuration, and its tensors by name."""

    config: PeftConfig
    tensors: dict[str, torch.Tensor] = field(repr=False)


class VariantSpec(Section):
    """What all variants share; a subclass adds fields and says what it does otherwise."""

    main_field = "variant"

    variant: str
    """The method."""

    capability: ClassVar[Capability] = Capability()
    learning_rate: ClassVar[float] = 2e-4
    """The peak learning rate if the recipe names none."""
    start_from: ClassVar[StartFrom] = "seed"

    @property
    def takes_from_base(self) -> bool:
        """Return whether the base's weights give something up for the start."""
        return False

    def settled(self, _setting: Setting) -> Self:
        """Return it with every value that depends on the run filled in."""
        return self

    def problems(self, _setting: Setting) -> Iterator[FieldProblem]:
        """Yield what makes these values impossible on this base or in this run."""
        yield from ()

    def trainable_parameters(self, setting: Setting) -> int:
        """Return how many numbers are trained."""
        raise NotImplementedError

    def summary(self) -> str:
        """Return the variant and its main settings in a few words."""
        return self.variant

    def peft_config(self, target_modules: list[str], *, task: str = "CAUSAL_LM") -> PeftConfig:
        """Return peft's configuration for exactly these modules."""
        raise NotImplementedError

    def start(self, evidence: Evidence) -> Start:
        """Return the first values of one module, for a variant that does not start from a seed."""
        raise NotImplementedError

    def begin(self, _model: PeftModel) -> None:
        """Put in place the first values that peft does not; torch's seed is the run's."""

    def put_start(self, layer: Any, start: Start) -> None:
        """Put the first values into peft's layer."""
        import torch

        with torch.no_grad():
            layer.lora_A["default"].weight.copy_(start.first.a)
            layer.lora_B["default"].weight.copy_(start.first.b)

    def state(self, model: PeftModel) -> dict[str, torch.Tensor]:
        """Return all tensors that training changes, by the names that `load_state` takes."""
        from peft import get_peft_model_state_dict

        return dict(get_peft_model_state_dict(model, save_embedding_layers=False))

    def load_state(self, model: PeftModel, state: Mapping[str, torch.Tensor]) -> None:
        """Put the tensors of `state` back."""
        from peft import set_peft_model_state_dict

        set_peft_model_state_dict(model, dict(state))

    def penalty(self, _model: PeftModel) -> torch.Tensor | None:
        """Return what is added to the loss that is minimised (and not to the one reported)."""
        return None

    def after_step(self, _model: PeftModel, _step: int) -> None:
        """Do what the method does after optimizer step `step` (from 1), before gradients go."""

    def may_end(self, _step: int) -> bool:
        """Return whether the adapter as it is after `step` can be the run's result."""
        return True

    def ranks(self, _model: PeftModel) -> dict[str, int]:
        """Return each module's rank now, for a method that shares ranks out; else nothing."""
        return {}

    def saved(self, model: PeftModel, _taken: Mapping[str, Factors]) -> SavedAdapter:
        """Return the adapter in the form that reloads to the same model on the original base.

        `taken` is what the start took out of the base's weights, by module.
        """
        return SavedAdapter(model.peft_config["default"], self.state(model))
