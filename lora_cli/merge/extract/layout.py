"""What each tensor of a checkpoint is in its model, which is built from the config alone."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from lora_cli.errors import ExtractError, PlanError, Problem, UsageError, Where
from lora_cli.facts.bare_parameters import bare_parameters
from lora_cli.facts.base_model import heads_of
from lora_cli.facts.heads import is_inside, new_heads
from lora_cli.facts.model_source import ModelSource
from lora_cli.facts.on_meta import any_model_on_meta
from lora_cli.facts.peft_names import names_taken_for_experts
from lora_cli.merge.merged_model import auto_class_for, peft_task_for
from lora_cli.targets.names import did_you_mean, is_meant, last_names, listing
from lora_cli.tasks.token_classification import TokenClassification

OUTSIDE = "linear layer outside --targets"
_TASKS_WITH_HEAD = ("SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS")
"""peft's names of those whose head an adapter always brings."""
_ANY_HEAD = TokenClassification(name="token_classification")
_UNREAD = (r"rotary_emb\.inv_freq$",)
"""Tensors of old checkpoints that no model reads any more, whatever its class says of them."""


@dataclass(frozen=True, slots=True)
class LinearLayer:
    """A linear layer that a LoRA can be put on."""

    module: str
    input_by_output: bool
    """The files hold its weight as (in, out), as GPT-2's do."""


def build_model(source: ModelSource) -> Any:
    """Return a model on the meta device, of the class that its config names.

    Raises:
        ExtractError: it cannot be built, or is quantized.
    """
    try:
        model = any_model_on_meta(source.folder, trust_remote_code=False)
    except PlanError as error:
        raise ExtractError.from_problems(error.problems) from error
    if getattr(model.config, "quantization_config", None):
        message = "is quantized: only full-precision weights are compared"
        raise ExtractError(message, str(source.folder), "name the model in full precision")
    return model


class Layout:
    """The tensors of a model by the names that it gives them, and what they are."""

    def __init__(self, model: Any, stored_in_base: Collection[str]) -> None:
        """Take in a model on the meta device; its task's head is trained as a whole."""
        self._model = model
        self.peft_task = peft_task_for(auto_class_for([type(model).__name__]))
        with_head = self.peft_task in _TASKS_WITH_HEAD
        self.whole = new_heads(model, _ANY_HEAD, stored_in_base) if with_head else ()
        """Names of the modules that an adapter holds as they are, and not as a change."""
        tensors = (
            *self._model.named_parameters(remove_duplicate=False),
            *self._model.named_buffers(),
        )
        self._names = frozenset(name for name, _ in tensors)
        self._heads = heads_of(self._model, self.whole)
        self._prefix = f"{self._model.base_model_prefix}."
        ignored = getattr(self._model, "_keys_to_ignore_on_load_unexpected", None) or ()
        self._unread = re.compile("|".join([*_UNREAD, *ignored]))
        self.linears = {layer.module + ".weight": layer for layer in self._linear_layers()}

    def model_class(self) -> dict[str, str]:
        """Return what peft notes of a model that is for none of its tasks."""
        own = type(self._model)
        return {"base_model_class": own.__name__, "parent_library": own.__module__}

    def whole_shapes(self, model: Any) -> dict[str, tuple[int, ...]]:
        """Return the shapes, in `model`, of the parameters that are held as they are."""
        shapes = {name: tuple(each.shape) for name, each in model.named_parameters()}
        return {name: shape for name, shape in shapes.items() if self.is_whole(name)}

    def has(self, name: str) -> bool:
        """Return whether the model has a tensor."""
        return name in self._names

    def is_whole(self, name: str) -> bool:
        """Return whether a tensor belongs to a module that is held as it is."""
        return is_inside(name, self.whole)

    def stored(self, names: Iterable[str]) -> dict[str, str]:
        """Return a checkpoint's names by the model's.

        Files without a head lack the prefix; a weight that is tied may lie under either name, or
        both; what no model reads is left out. Linear layers that share a weight have it each.
        """
        ties: dict[str, str] = self._model.all_tied_weights_keys
        found: dict[str, str] = {}
        for name in names:
            whole = name if name in self._names else self._prefix + name
            if whole not in self._names:
                whole = name
                if self._unread.search(name):
                    continue
            if whole in ties:
                found.setdefault(ties[whole], name)
            if whole not in ties or whole in self.linears:
                found[whole] = name
        for sharer, source in ties.items():
            if sharer in self.linears and source in found:
                found.setdefault(sharer, found[source])
        return found

    def kind(self, name: str) -> str:
        """Return what a tensor is, in a word or two."""
        from torch import nn

        owner, _, last = name.rpartition(".")
        module = self._model.get_submodule(owner) if name in self._names else None
        kinds = {
            OUTSIDE: name in self.linears,
            "experts": "expert" in owner.lower(),
            "bias": last == "bias",
            "embedding": isinstance(module, nn.Embedding),
            "norm": "norm" in type(module).__name__.lower(),
            "output head": owner in self._heads,
            "linear layer that peft takes for experts": isinstance(module, nn.Linear),
        }
        return next((kind for kind, fits in kinds.items() if fits), "other weight")

    def chosen(self, targets: Collection[str]) -> dict[str, LinearLayer]:
        """Return the linear layers that `targets` means, all of them if it is empty.

        Raises:
            UsageError: with a problem for each name that means none.
        """
        modules = [layer.module for layer in self.linears.values()]
        wrong = [name for name in targets if not any(is_meant(each, (name,)) for each in modules)]
        if wrong:
            problems = [
                Problem(
                    Where("--targets"),
                    f"`{name}` is no linear layer of this model",
                    f"{did_you_mean(name, modules)}its layers: {listing(modules)}",
                )
                for name in wrong
            ]
            raise UsageError.from_problems(problems)
        return {
            name: layer
            for name, layer in self.linears.items()
            if not targets or is_meant(layer.module, tuple(targets))
        }

    def shortest_names(self, modules: Collection[str]) -> list[str]:
        """Return last names if they single out `modules` among all modules, else their names."""
        leaves = last_names(modules)
        matched = {name for name, _ in self._model.named_modules() if is_meant(name, leaves)}
        return sorted(leaves) if matched == set(modules) else sorted(modules)

    def _linear_layers(self) -> list[LinearLayer]:
        from torch import nn
        from transformers.pytorch_utils import Conv1D

        layers = [
            LinearLayer(name, isinstance(module, Conv1D))
            for name, module in self._model.named_modules()
            if isinstance(module, nn.Linear | Conv1D) and name not in self._heads
        ]
        if not bare_parameters(self._model):
            return layers
        taken = names_taken_for_experts(self._model, last_names(each.module for each in layers))
        return [each for each in layers if each.module.rpartition(".")[2] not in taken]
