"""An adapter of any method on a weightless base, to be asked what becomes of each parameter.

peft's own layers do the arithmetic, each with its true weight in hand and in float32. Files of the
base are not known here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_cli.errors import MergeError
from lora_cli.merge.adapter_folder import PREFIX, base_parameters
from lora_cli.merge.loaded import load_adapter
from lora_cli.merge.weightless import holding, make_room, set_apart
from lora_cli.words import reason_of

if TYPE_CHECKING:
    import torch

    Tensors = Mapping[str, torch.Tensor]

ADAPTER = "default"
"""peft's name for the adapter that is loaded first."""


@dataclass(frozen=True)
class AdaptedModule:
    """A module of the base, and peft's layers around it."""

    name: str
    base: Any
    layers: tuple[Any, ...]
    parameters: tuple[str, ...]
    """The full names of those of its parameters that merging may change."""

    def merge(self, weights: MutableMapping[str, torch.Tensor]) -> None:
        """Put the merged parameters in the place of the base's, all in float32 or finer.

        Raises:
            MergeError: peft does not merge this kind of layer.
        """
        own = {name.removeprefix(f"{self.name}."): weights[name] for name in self.parameters}
        with holding(self.base, own):
            for layer in self.layers:
                try:
                    layer.merge(safe_merge=False, adapter_names=[ADAPTER])
                except Exception as error:  # each of peft's methods refuses in its own way
                    message = f"peft does not merge `{self.name}`: {reason_of(error)}"
                    raise MergeError(message) from error
                layer.merged_adapters.clear()
                getattr(layer, "_caches", {}).clear()  # DoRA keeps what it computed
            merged = self.layers[0].get_base_layer()  # LN tuning puts its own in the base's place
            for short in own:
                weights[f"{self.name}.{short}"] = getattr(merged, short).data


@dataclass(frozen=True)
class Adapted:
    """All that an adapter changes."""

    model: Any
    """peft's model, whose base takes no memory."""
    modules: tuple[AdaptedModule, ...]
    replaced: Mapping[str, torch.Tensor]
    """Parameters that the adapter holds as a whole, by their names in the base."""
    ties: Mapping[str, str]
    """Parameters that share the numbers of another one in the base, with its name."""

    @property
    def base(self) -> Any:
        """Return the base under the adapter, with peft's layers in it."""
        return self.model.base_model.model

    def alike(self, one: str, other: str) -> bool:
        """Return whether two tied parameters share their numbers with the adapter on them too."""
        ours, theirs = self.replaced.get(one), self.replaced.get(other)
        if ours is not theirs and (ours is None or theirs is None or not ours.equal(theirs)):
            return False
        layers = {
            name: module.layers
            for module in self.modules
            for name in module.parameters
            if name in (one, other)
        }
        if not layers:
            return True
        return len(layers) == 2 and _share_tokens(layers[one], layers[other])

    def without(self, parameter: str) -> Adapted:
        """Return all but what is said of a parameter."""
        modules = tuple(each for each in self.modules if parameter not in each.parameters)
        replaced = {name: each for name, each in self.replaced.items() if name != parameter}
        return replace(self, modules=modules, replaced=replaced)

    def changed(self) -> set[str]:
        """Return the names of all parameters that it changes."""
        return {*self.replaced, *(name for each in self.modules for name in each.parameters)}


def attach(model: Any, folder: Path, tensors: Tensors) -> Adapted:
    """Return the adapter in `folder`, whose file holds `tensors`, on a weightless `model`.

    Raises:
        MergeError: peft does not take the adapter as it is, or it changes no weight.
    """
    by_name = dict(model.named_modules())
    ties = dict(model.all_tied_weights_keys)
    whole = base_parameters(tensors, dict(model.named_parameters(remove_duplicate=False)))
    for name in set(whole.values()):
        make_room(model, name)
    adapted = load_adapter(model, folder, tensors)
    base = adapted.base_model.model if hasattr(adapted.base_model, "model") else None
    if base is not model:
        message = "adds to what the model reads, and changes no weight"
        raise MergeError(message, str(folder), "serve it with peft")
    names = {id(module): name for name, module in by_name.items()}
    found = tuple(_modules(adapted, names))
    if not found and not whole:
        raise MergeError("changes no weight", str(folder))
    copied = _trained_copies(adapted)
    trained = {
        PREFIX + name for name in whole.values() if id(_place(by_name, name)[0]) in copied
    } & whole.keys()
    given = {name: tensors[held] for held, name in whole.items() if held not in trained}
    _tie(by_name, ties, given)
    replaced = given | {whole[held]: tensors[held] for held in trained}
    return Adapted(adapted, found, replaced, ties)


def _tie(
    modules: Mapping[str, Any], ties: Mapping[str, str], given: MutableMapping[str, torch.Tensor]
) -> None:
    """Give both of two tied parameters what was saved of one: peft loads it into what they share.

    Those of which nothing was saved are set apart, for each to have a layer of its own around it.
    """
    for parameter, source in ties.items():
        if parameter in given and source not in given:
            _share(modules, given, parameter, source)
    for parameter, source in ties.items():
        if source in given and parameter not in given:
            _share(modules, given, source, parameter)
        elif source not in given:
            set_apart(*_place(modules, parameter))


def _share(
    modules: Mapping[str, Any], given: MutableMapping[str, torch.Tensor], known: str, other: str
) -> None:
    given[other] = given[known]
    setattr(*_place(modules, other), getattr(*_place(modules, known)))


def _share_tokens(one: Sequence[Any], other: Sequence[Any]) -> bool:
    """Return whether two embeddings' trained tokens are the same ones by their making."""
    tied = [getattr(layer, "tied_adapter", None) for layer in (*one, *other)]
    return all(
        each is not None or any(layer is source for source in tied)
        for each, layer in zip(tied, (*one, *other), strict=True)
    )


def _place(modules: Mapping[str, Any], parameter: str) -> tuple[Any, str]:
    """Return the module that holds a parameter, and the parameter's name in it."""
    owner, _, leaf = parameter.rpartition(".")
    return modules[owner], leaf


def _trained_copies(adapted: Any) -> set[int]:
    """Return the base's modules of which the adapter has a copy, which was trained instead."""
    from peft.utils import ModulesToSaveWrapper

    wrappers = [each for each in adapted.modules() if isinstance(each, ModulesToSaveWrapper)]
    return {id(each.original_module) for each in wrappers}


def _modules(adapted: Any, names: Mapping[int, str]) -> Iterator[AdaptedModule]:
    from peft.tuners.tuners_utils import BaseTunerLayer

    around: dict[int, list[Any]] = {}
    for module in adapted.modules():
        if isinstance(module, BaseTunerLayer):
            around.setdefault(id(module.get_base_layer()), []).append(module)
    for layers in around.values():
        base = layers[0].get_base_layer()
        name = names[id(base)]
        targeted = [getattr(layer, "parameter_name", None) for layer in layers]
        short = [each for each in targeted if each] or [
            each for each, _ in base.named_parameters(recurse=False)
        ]
        yield AdaptedModule(name, base, tuple(layers), tuple(f"{name}.{each}" for each in short))
