"""Which tensors of a checkpoint's files a model's parameters are made of, and back.

Most have one name here and there. Some files leave out a prefix, keep each expert by itself where
the model holds all in one parameter, or use names of the past; transformers knows how it reads
each of them, and is asked.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lora_cli.errors import MergeError
from lora_cli.merge.checkpoint import Checkpoint, StoredTensor

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Storage:
    """Parameters that are stored together: one under a name, or several made of several tensors."""

    stored: tuple[StoredTensor, ...]
    first: str
    """The name of its parameter, or of the first of them."""
    _patterns: tuple[str | None, ...]
    _converter: Any
    _model: Any
    written_as: str = ""
    """Another name to write a plain parameter under, that was tied to the one that is stored."""

    turned: bool = False
    """Whether the model holds its matrix the other way round than the file."""

    @property
    def plain(self) -> bool:
        """Return whether it is one parameter, as it lies in the file."""
        return self._converter is None

    @property
    def key(self) -> str:
        """Return what tells it from all others."""
        return self.first

    def written(self) -> list[tuple[str, StoredTensor]]:
        """Return the names to write its tensors under, and those that they are made from."""
        return [(self.written_as or each.name, each) for each in self.stored]

    def read(self) -> dict[str, torch.Tensor]:
        """Return the parameters by their names in the model."""
        return self._parameters({each.name: each.read() for each in self.stored})

    def parameters(self) -> tuple[str, ...]:
        """Return the names of the parameters; nothing is read."""
        import torch

        if self.plain:
            return (self.first,)
        shapes = {each.name: torch.empty(each.shape, device="meta") for each in self.stored}
        return tuple(self._parameters(shapes))

    def split(self, parameters: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return what the files hold of these parameters, by their names there.

        Raises:
            MergeError: transformers would write other tensors than it read.
        """
        if self.plain:
            whole = parameters[self.first]
            return {self.written_as or self.stored[0].name: whole.T if self.turned else whole}
        from transformers.core_model_loading import revert_weight_conversion

        written = revert_weight_conversion(self._model, dict(parameters))
        prefix = f"{self._model.base_model_prefix}."
        held = {each.name for each in self.stored}
        found = {}
        for name, tensor in written.items():
            for known in (name, name.removeprefix(prefix), prefix + name):
                if known in held:
                    found[known] = tensor
                    break
        if found.keys() != held:
            lost = min(held - found.keys())
            message = f"`{lost}` cannot be made again from `{self.first}`, which it is a part of"
            raise MergeError(message, str(self.stored[0].file))
        return found

    def _parameters(self, stored: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if self.plain:
            (held,) = stored.values()
            return {self.first: held.T if self.turned else held}
        converter = copy.deepcopy(self._converter)
        for each, pattern in zip(self.stored, self._patterns, strict=True):
            converter.add_tensor(self.first, each.name, pattern, stored[each.name])
        made = converter.convert(self.first, model=self._model, config=self._model.config)
        return {name: each[0] if isinstance(each, list) else each for name, each in made.items()}


def storages(model: Any, checkpoint: Checkpoint) -> tuple[list[Storage], list[StoredTensor]]:
    """Return how the model's parameters are stored, and the tensors that it has no place for."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import (
        WeightConverter,
        dot_natural_key,
        rename_source_key,
    )

    transforms = get_model_conversion_mapping(model)
    converters = [each for each in transforms if isinstance(each, WeightConverter)]
    renamings = [each for each in transforms if not isinstance(each, WeightConverter)]
    by_pattern = {pattern: each for each in converters for pattern in each.source_patterns}
    places = model.state_dict()
    groups: dict[str, list[tuple[StoredTensor, str | None]]] = {}
    for name in sorted(checkpoint.tensors, key=dot_natural_key):
        first, pattern = rename_source_key(
            name, renamings, converters, model.base_model_prefix, places
        )
        groups.setdefault(first, []).append((checkpoint.tensors[name], pattern))
    found: list[Storage] = []
    unplaced: list[StoredTensor] = []
    for first, members in groups.items():
        stored, patterns = zip(*members, strict=True)
        pattern = patterns[0]
        if first not in places or (pattern is None and len(stored) > 1):
            unplaced += stored
            continue
        converter = by_pattern[pattern] if pattern is not None else None
        found.append(Storage(stored, first, patterns, converter, model))
    return found, unplaced


def by_parameter(all_storages: Iterable[Storage]) -> dict[str, Storage]:
    """Return each parameter's storage by the parameter's name."""
    return {name: each for each in all_storages for name in each.parameters()}


def untied(storage: Storage, parameter: str) -> Storage:
    """Return a storage of its own for a parameter that was tied to the one of `storage`."""
    assert storage.plain, "tied parameters are stored as they are"
    return replace(storage, first=parameter, written_as=parameter)
