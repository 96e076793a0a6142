"""An adapter on its base, opened: what is in the files, what peft's layers are, nothing loaded.

A few methods of peft's take a part of the base's weights into themselves when they are loaded;
for those, and for all that are not known here, the weights are read at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lora_cli.errors import MergeError
from lora_cli.merge.adapted import Adapted, attach
from lora_cli.merge.adapter_config import check_known, read_json
from lora_cli.merge.adapter_folder import AdapterFolder
from lora_cli.merge.checkpoint import Checkpoint, open_checkpoint
from lora_cli.merge.held import HeldWeights, held_weights
from lora_cli.merge.merge_plan import StoredModel
from lora_cli.merge.merged_model import merged_model
from lora_cli.merge.storage import by_parameter, storages
from lora_cli.merge.weightless import weightless_linear
from lora_cli.model.layers import has_input_by_output_weight

BY_THEMSELVES = frozenset(
    [
        "ADALORA",
        "BOFT",
        "FOURIERFT",
        "IA3",
        "LN_TUNING",
        "LOHA",
        "LOKR",
        "LORA",
        "MISS",
        "OFT",
        "RANDLORA",
        "TRAINABLE_TOKENS",
        "VERA",
    ]
)
"""peft's kinds whose layers hold nothing but what was saved, whatever the base's weights are."""


@dataclass(frozen=True)
class Opened:
    """An adapter and its base."""

    model: Any
    """The base's model; its config is that of the merged one."""
    modules: Mapping[str, Any]
    """The base's own modules by name, whatever peft has put around them."""
    stored: StoredModel
    held: HeldWeights
    adapted: Adapted


def open_adapted(adapter: AdapterFolder, base: Path, files: Checkpoint | None = None) -> Opened:
    """Return the adapter on the base whose files are in `base`.

    Raises:
        MergeError: they do not go together, peft does not take the adapter as it is, or it changes
            no weight.
    """
    check_known(adapter.config)
    files = files or open_checkpoint(base)
    model = merged_model(adapter, base)
    sizes = {name: each.shape for name, each in model.named_parameters(remove_duplicate=False)}
    found, unplaced = storages(model, files)
    held = held_weights(model, adapter.origin, str(adapter.path))
    classes = read_json(base / "config.json").get("architectures") or [type(model).__name__]
    other_class = type(model).__name__ not in classes
    stored = StoredModel(files, by_parameter(found), tuple(unplaced), other_class)
    stored, held = _turn_round(model, stored, held)
    if adapter.config.kind not in BY_THEMSELVES:
        _fill(model, stored, held)
    modules = dict(model.named_modules())
    adapted = attach(model, adapter.path, adapter.tensors)
    _check_sizes(sizes, stored, adapted, str(adapter.path))
    return Opened(model, modules, stored, held, adapted)


def _check_sizes(
    sizes: Mapping[str, Sequence[int]], stored: StoredModel, adapted: Adapted, place: str
) -> None:
    """Check that what the adapter does not bring along has the size that it was trained with.

    Raises:
        MergeError: a parameter was resized before training, and is not saved with the adapter.
    """
    for name, storage in stored.places.items():
        if storage.plain and name not in adapted.replaced:
            (tensor,) = storage.stored
            due = tuple(sizes.get(name, tensor.shape))
            if due != tensor.shape:
                message = (
                    f"was trained with `{name}` resized to {due}: it was not saved with the "
                    f"adapter, and the base has {tensor.shape}"
                )
                hint = "save the resized model as it was before training, and name it with --base"
                raise MergeError(message, place, hint)


def _turn_round(
    model: Any, stored: StoredModel, held: HeldWeights
) -> tuple[StoredModel, HeldWeights]:
    """Make linear layers of GPT-2's that were quantized in training, as bitsandbytes does.

    The adapter was trained on (out, in) weights, where the files have (in, out).
    """
    places, modules = dict(stored.places), dict(held.modules)
    for name, module in held.modules.items():
        if has_input_by_output_weight(module):
            linear = weightless_linear(module.nx, module.nf, bias=module.bias is not None)
            model.set_submodule(name.removesuffix(".weight"), linear)
            places[name], modules[name] = replace(places[name], turned=True), linear
    return replace(stored, places=places), replace(held, modules=modules)


def _fill(model: Any, stored: StoredModel, held: HeldWeights) -> None:
    """Give every parameter its numbers, as the base held them."""
    parameters = dict(model.named_parameters())
    for storage in {id(each): each for each in stored.places.values()}.values():
        for name, weight in storage.read().items():
            if name in parameters:
                parameters[name].data = held.of(name, weight).float()
