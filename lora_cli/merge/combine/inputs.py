"""The adapters to combine: each an exact pair a module, all of them of one base.

Whether two bases are one is told by the fingerprints that training recorded, else by their names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lora_cli.adapters.variant import Factors
from lora_cli.errors import MergeError, Problem
from lora_cli.files import sha256_of_file
from lora_cli.merge.adapter_config import CAUSAL_TASKS, AdapterConfig
from lora_cli.merge.adapter_folder import TENSORS, find_adapter
from lora_cli.merge.exportable import INSTEAD, Exportable, read_for_any_task
from lora_cli.merge.factors import factors_of
from lora_cli.merge.output import tokenizer_files

_BASE_FACTS = ("base", "base_fingerprint", "base_made_from", "quantization")


@dataclass(frozen=True)
class Input:
    """One adapter that is combined."""

    adapter: Exportable
    pairs: Mapping[str, Factors] = field(repr=False)
    """By module, the scaling in B."""

    @property
    def name(self) -> str:
        """Return its folder."""
        return str(self.adapter.path)

    @property
    def rank(self) -> int:
        """Return its highest rank."""
        return max(len(pair.a) for pair in self.pairs.values())

    @property
    def base(self) -> str:
        """Return what it calls its base, with the revision on the hub where it names one."""
        revision = self.adapter.config.revision
        return f"{self.adapter.base_name}@{revision}" if revision else self.adapter.base_name

    @property
    def fingerprint(self) -> str:
        """Return what its base is; empty if nobody recorded it."""
        return str(self.adapter.origin.get("base_fingerprint", ""))

    @property
    def digest(self) -> str:
        """Return the sha256 of its tensors' file."""
        return sha256_of_file(self.adapter.path / TENSORS)


def read_inputs(paths: Sequence[Path]) -> list[Input]:
    """Return the adapters, checked for themselves and against the first of them.

    Raises:
        MergeError: with a problem for each adapter that cannot be read or is no exact LoRA; or
            they do not belong together.
    """
    inputs: list[Input] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            inputs.append(_read(path))
        except MergeError as error:
            problems += error.problems
    if problems:
        raise MergeError.from_problems(problems)
    for other in inputs[1:]:
        _check_same_task(inputs[0], other)
        _check_same_base(inputs[0], other)
        _check_same_shapes(inputs[0], other)
    return inputs


def _read(path: Path) -> Input:
    adapter = read_for_any_task(find_adapter(path))
    pairs = factors_of(adapter.config, adapter.tensors, adapter.find_base)
    if pairs is None:
        message = f"is {adapter.method}, for which no LoRA is known that is exactly the same"
        near = f"loracli export {path} --output DIR --error 0.05 first, and combine what it writes"
        hint = near if adapter.config.task in CAUSAL_TASKS else INSTEAD
        raise MergeError(message, str(adapter.config.path), hint)
    return Input(adapter, pairs)


def _check_same_task(first: Input, other: Input) -> None:
    """Check that both are for one class of model: modules of others have other names."""
    task, wanted = other.adapter.config.task, first.adapter.config.task
    if None not in (task, wanted) and task != wanted:
        message = f"is for {task}, but {first.name} for {wanted}"
        raise MergeError(message, other.name, "combine adapters for one task")


def _check_same_base(first: Input, other: Input) -> None:
    if not _same_base(first, other):
        message = f"is for the base `{other.base}`, but {first.name} for `{first.base}`"
        hint = "a change of weights means nothing on another model: combine adapters of one base"
        raise MergeError(message, other.name, hint)


def _same_base(first: Input, other: Input) -> bool:
    if first.fingerprint and other.fingerprint:
        return first.fingerprint == other.fingerprint
    left, right = first.adapter, other.adapter
    revisions = {left.config.revision, right.config.revision} - {None}
    if left.base_name == right.base_name and len(revisions) < 2:
        return True
    return _found_fingerprint(first) == _found_fingerprint(other)


def _found_fingerprint(each: Input) -> str:
    """Return what the base is, by looking at it where nobody recorded it; its name failing that."""
    if each.fingerprint:
        return each.fingerprint
    try:
        return each.adapter.find_base().fingerprint
    except MergeError:
        return each.base


def _check_same_shapes(first: Input, other: Input) -> None:
    for module, pair in other.pairs.items():
        held = first.pairs.get(module)
        if held and _shape(held) != _shape(pair):
            message = f"`{module}` is {_shape(pair)}, but {_shape(held)} in {first.name}"
            raise MergeError(message, other.name, "combine adapters of one base")


def _shape(pair: Factors) -> tuple[int, int]:
    return len(pair.b), pair.a.shape[1]


def shared_config(inputs: Sequence[Input]) -> AdapterConfig:
    """Return the first adapter's settings, with the targets of all.

    A list of names matches what each of them matches, so lists add up; where anything else had a
    part in choosing, the modules are named one by one when they are written.
    """
    configs = [each.adapter.config for each in inputs]
    names = [_targets(config) for config in configs]
    targets = None if None in names else sorted({name for own in names for name in own or ()})
    transposed = any(config.settings.get("fan_in_fan_out") for config in configs)
    settings = {
        "task_type": next((config.task for config in configs if config.task), None),
        "auto_mapping": configs[0].settings.get("auto_mapping"),
        "base_model_name_or_path": configs[0].base_name,
        "revision": configs[0].revision,
        "target_modules": targets,
        "fan_in_fan_out": transposed,
    }
    return AdapterConfig(configs[0].path, settings)


def _targets(config: AdapterConfig) -> list[str] | None:
    by_more = any(config.settings.get(key) for key in ("layers_to_transform", "exclude_modules"))
    own = config.settings.get("target_modules")
    return own if isinstance(own, list) and not by_more else None


def shared_origin(inputs: Sequence[Input]) -> dict[str, Any]:
    """Return what is known of the base, by an adapter that knows most of it.

    Trained on bases that were held differently, they add up on the one in full precision.
    """
    knows_most = max(inputs, key=lambda each: bool(each.fingerprint)).adapter
    origin = {key: knows_most.origin[key] for key in _BASE_FACTS if key in knows_most.origin}
    if len(_held(inputs)) > 1:
        origin.pop("quantization", None)
    return {"base": knows_most.base_name, **origin}


def notes_on(inputs: Sequence[Input]) -> list[str]:
    """Return what has to be known of the combination beside its error."""
    notes, held = inputs[0].adapter.notes(), _held(inputs)
    if len(held) > 1:
        each = "; ".join(f"{', '.join(names)}: {how}" for how, names in held.items())
        said = f"trained on bases that were held differently ({each}): each change fits the weights"
        notes = [f"{said} it was learnt on; together they are for the base in full precision"]
    chats = [_chat_files(each.adapter.path) for each in inputs]
    odd = [each.name for each, chat in zip(inputs, chats, strict=True) if chat != chats[0]]
    if odd and chats[0]:
        notes.append(
            f"tokenizer and chat template are those of {inputs[0].name}: others have none, or "
            f"others than it ({', '.join(odd)})"
        )
    return notes


def _held(inputs: Sequence[Input]) -> dict[str, list[str]]:
    """Return the adapters' names by how the base was held while they were trained."""
    held: dict[str, list[str]] = {}
    for each in inputs:
        how = each.adapter.quantization
        if each.adapter.doubly_quantized:
            how += ", doubly"
        held.setdefault("full precision" if how == "none" else how, []).append(each.name)
    return held


def _chat_files(folder: Path) -> dict[str, str]:
    return {file.name: sha256_of_file(file) for file in tokenizer_files(folder)}
