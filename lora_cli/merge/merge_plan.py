"""What a merge will write, settled before the first byte: every tensor, and how it is made."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lora_cli.errors import MergeError
from lora_cli.merge.adapter_folder import Update
from lora_cli.merge.checkpoint import FILE_NAMES, FLOATS, TORCH_NAMES, Checkpoint, StoredTensor
from lora_cli.merge.remade import Cast, Folded, Given, Remade, check_float, own_dtype
from lora_cli.merge.storage import Storage, untied
from lora_cli.merge.writing import NewTensor, Rewrite

if TYPE_CHECKING:
    import torch

    from lora_cli.merge.adapted import Adapted, AdaptedModule
    from lora_cli.merge.held import HeldWeights


@dataclass(frozen=True)
class MergePlan:
    """The merged checkpoint before it is written."""

    tensors: tuple[NewTensor, ...]
    rewrites: tuple[Rewrite, ...]
    changed: int
    """How many tensors the adapter changes or brings along."""
    requantized: int = 0
    """How many more are written as the quantized base held them."""
    dropped: tuple[str, ...] = ()
    """Tensors of the base that the merged model has no place for."""
    untied: tuple[str, ...] = ()
    """Parameters that no longer share their numbers with another one."""

    @property
    def size(self) -> int:
        """Return how many bytes the tensors take."""
        return sum(tensor.size for tensor in self.tensors)


@dataclass(frozen=True)
class StoredModel:
    """A base's files, and what the model that is built of them makes of their tensors."""

    files: Checkpoint
    places: Mapping[str, Storage]
    """How each parameter is stored."""
    unplaced: tuple[StoredTensor, ...]
    """What the model has no place for."""
    other_class: bool
    """Whether the model is of another class than the one that the files were written from."""


@dataclass
class _Group:
    """Parameters that are made together, and the adapted modules that they belong to."""

    storages: dict[str, Storage] = field(default_factory=dict)
    modules: list[AdaptedModule] = field(default_factory=list)


def plan_folding(
    base: Checkpoint, updates: Mapping[str, Update], dtype: torch.dtype | None
) -> MergePlan:
    """Return the plan for pairs on linear layers whose weights lie in the files as they are.

    `updates` are by the names of the files' tensors; `dtype` is what to write, None each one's own.

    Raises:
        MergeError: an update does not fit its weight.
    """
    wrong = []
    rewrites: list[Rewrite] = []
    for name, update in updates.items():
        weight = base.tensors[name]
        check_float(weight)
        due = (update.lora_b.shape[0], update.lora_a.shape[1])
        if due != weight.shape:
            wrong.append(f"the update of `{name}` {due} does not fit the base's {weight.shape}")
        rewrites.append(Folded(weight, update, dtype or own_dtype(weight)))
    if wrong:
        more = f" (and {len(wrong) - 1} more like it)" if len(wrong) > 1 else ""
        raise MergeError(wrong[0] + more, hint="is this the right base?")
    made = {name: base.tensors[name].shape for name in updates}
    kept = list(base.tensors.values())
    tensors = _tensors(kept, made, dtype, own_dtype(kept[0]))
    return MergePlan(tensors, (*rewrites, *_casts(tensors, kept, made)), changed=len(updates))


def plan_adapted(
    base: StoredModel, adapted: Adapted, held: HeldWeights, dtype: torch.dtype | None
) -> MergePlan:
    """Return the plan for an adapter of any method; `dtype` is as for `plan_folding`.

    Raises:
        MergeError: a parameter that the adapter changes is not in the files.
    """
    places = dict(base.places)
    adapted, free = _settle_ties(adapted, places)
    _check_places(adapted, places, base.files)
    groups = _groups(adapted, places, [*free, *(name for name in held.names if name in places)])
    made: dict[str, tuple[int, ...]] = {}
    rewrites: list[Rewrite] = []
    for group in groups:
        dtypes = {}
        for storage in group.storages.values():
            for written, stored in storage.written():
                check_float(stored)
                given = adapted.replaced.get(storage.first) if storage.plain else None
                made[written] = stored.shape if given is None else tuple(given.shape)
                dtypes[written] = dtype or own_dtype(stored)
        remade = Remade(
            tuple(group.storages.values()), group.modules, adapted.replaced, held.of, dtypes
        )
        rewrites.append(remade)
    usual = dtype or own_dtype(max(base.files.tensors.values(), key=lambda stored: stored.size))
    for name, tensor in adapted.replaced.items():
        if name not in places:
            rewrites.append(Given(name, tensor, usual))
            made[name] = tuple(tensor.shape)
    dropped = {stored.name for stored in base.unplaced} if base.other_class else set()
    kept = [each for each in base.files.tensors.values() if each.name not in dropped]
    tensors = _tensors(kept, made, dtype, usual)
    changed = _changed(adapted, places)
    return MergePlan(
        tensors=tensors,
        rewrites=(*rewrites, *_casts(tensors, kept, made)),
        changed=len(changed),
        requantized=len(
            {written for name in held.names for written in _written(name, places)} - changed
        ),
        dropped=tuple(sorted(dropped)),
        untied=free,
    )


def _code(dtype: torch.dtype) -> str:
    return FILE_NAMES[str(dtype).removeprefix("torch.")]


def _tensors(
    kept: Iterable[StoredTensor],
    made: Mapping[str, tuple[int, ...]],
    dtype: torch.dtype | None,
    usual: torch.dtype,
) -> tuple[NewTensor, ...]:
    """Return all tensors to write: those of the base in their order, then those that are new.

    `usual` is the type of new ones, where `dtype` does not say.
    """
    tensors = []
    for stored in kept:
        cast = dtype is not None and stored.dtype in FLOATS
        code = _code(dtype) if cast and dtype else stored.dtype
        as_it_is = stored.name not in made and code == stored.dtype
        shape = made.get(stored.name, stored.shape)
        tensors.append(NewTensor(stored.name, code, shape, stored if as_it_is else None))
    known = {tensor.name for tensor in tensors}
    new = sorted(made.keys() - known)
    return (*tensors, *(NewTensor(name, _code(dtype or usual), made[name]) for name in new))


def _casts(
    tensors: Iterable[NewTensor], kept: Iterable[StoredTensor], made: Collection[str]
) -> Iterator[Cast]:
    """Give what is only written in another type."""
    import torch

    stored = {each.name: each for each in kept}
    for tensor in tensors:
        if tensor.copied is None and tensor.name not in made:
            yield Cast(stored[tensor.name], getattr(torch, TORCH_NAMES[tensor.dtype]))


def _settle_ties(adapted: Adapted, places: dict[str, Storage]) -> tuple[Adapted, tuple[str, ...]]:
    """Give tied parameters storages of their own where the adapter sets any of them apart.

    All of them, since a config has one word for all its ties. Return the adapter without what it
    says twice, and the names of the parameters set apart, those by the adapter first.
    """
    own: dict[str, Storage] = {}
    twice: list[str] = []
    apart: list[str] = []
    for parameter, source in adapted.ties.items():
        stored = places | own
        known, other = (source, parameter) if source in stored else (parameter, source)
        if known not in stored or other in stored:
            continue
        own[other] = untied(stored[known], other)
        if {known, other} & adapted.changed():
            (twice if adapted.alike(known, other) else apart).append(other)
    if apart:
        places |= own
        return adapted, tuple(dict.fromkeys((*apart, *own)))
    for other in twice:
        adapted = adapted.without(other)
    return adapted, ()


def _check_places(adapted: Adapted, places: Collection[str], base: Checkpoint) -> None:
    absent = sorted(adapted.changed() - adapted.replaced.keys() - set(places))
    if absent:
        count = len(absent)
        message = f"has no tensor for {count} that the adapter changes, among them `{absent[0]}`"
        raise MergeError(message, str(base.folder), "is this the right base?")


def _groups(adapted: Adapted, places: Mapping[str, Storage], also: Iterable[str]) -> list[_Group]:
    """Return all that has to be made, as much of it together as is stored or merged together."""
    wanted = [_Group({}, [module]) for module in adapted.modules]
    for group, module in zip(wanted, adapted.modules, strict=True):
        group.storages = {places[name].key: places[name] for name in module.parameters}
    alone = [name for name in (*adapted.replaced, *also) if name in places]
    wanted += [_Group({places[name].key: places[name]}) for name in alone]
    by_key: dict[str, _Group] = {}
    for group in wanted:
        for joined in {
            id(by_key[key]): by_key[key] for key in group.storages if key in by_key
        }.values():
            group.storages |= joined.storages
            group.modules += joined.modules
        by_key |= dict.fromkeys(group.storages, group)
    return list({id(group): group for group in by_key.values()}.values())


def _changed(adapted: Adapted, places: Mapping[str, Storage]) -> set[str]:
    """Return the names of all tensors that the adapter changes or brings along."""
    return {written for name in adapted.changed() for written in _written(name, places)}


def _written(parameter: str, places: Mapping[str, Storage]) -> list[str]:
    """Return the names that a parameter is written under: its own, where the base has none."""
    if parameter not in places:
        return [parameter]
    return [written for written, _ in places[parameter].written()]
