"""The written checkpoint against base and adapter: the same texts, the same answers.

Both are asked in float32 by transformers' and peft's own layers, so that nothing differs but the
rounding of the weights that were written. Neither is ever in memory as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_cli.errors import MergeError
from lora_cli.merge.adapter_folder import AdapterFolder
from lora_cli.merge.checkpoint import FLOATS, Checkpoint, open_checkpoint
from lora_cli.merge.merged_model import auto_class_of
from lora_cli.merge.noise import nudged
from lora_cli.merge.opened import open_adapted
from lora_cli.merge.probes import NO_PADDING_TOKEN, Probes, probes_for
from lora_cli.merge.remade import is_finite
from lora_cli.merge.storage import by_parameter, storages
from lora_cli.merge.streamed import fill_buffers, reader, streaming
from lora_cli.merge.weightless import load_config, set_apart, weightless_model

if TYPE_CHECKING:
    import torch

TOLERANCES = {"float64": 1e-4, "float32": 1e-4, "float16": 5e-3, "bfloat16": 3e-2}
"""How far the logits may be away, in the root mean square and relative to their own spread.

Numbers in bfloat16 are rounded by up to 2⁻⁹ of themselves and in float16 by 2⁻¹², in each of the
model's weights at once; float32 leaves what sums in another order differ by.
"""
FLAT = 12
"""Layers up to which these hold; roundings are independent, and add up like √layers beyond.

SmolLM2's 30 layers in bfloat16 may be 0.047 away, and were 0.023 to 0.028 with 20 sets of probes.
"""
CLEARLY = 4
"""How many times what float32 leaves open an effect has to be, to tell what is left of it."""
ALL_LOST = 0.9
"""The share of an adapter's effect that is missing when it was not merged, or rounded away."""
DECODED_TOKENS = 12
_COMPARE_YOURSELF = "merge with --no-verify, and compare the answers yourself"


@dataclass(frozen=True)
class Proof:
    """How near the merged checkpoint is to base and adapter."""

    probes: int
    positions: int
    """Places at which logits were compared."""
    max_difference: float
    """max |Δlogit|."""
    mean_difference: float
    relative_difference: float
    """√(mean Δ² / variance of the logits)."""
    tolerance: float
    """The highest relative difference that the type of the written weights explains."""
    divergence: float
    """Mean KL(base and adapter ‖ merged) of the next token, in nats."""
    agreement: float
    """The share of places whose likeliest token is the same."""
    effect: float
    """The relative difference that the adapter makes to the base: what would be lost without it."""
    least_effect: float
    """The least effect that float32 tells from its own rounding on this model, 1e-4 at most."""
    kept: float
    """How far the merged model goes from the base's answers towards those with the adapter:
    ⟨merged − base, adapted − base⟩ / ‖adapted − base‖²; about 1, whatever rounding adds."""

    @property
    def holds(self) -> bool:
        """Return whether the merged model is base and adapter, as far as rounding lets it."""
        return self.relative_difference <= self.tolerance and not self.is_lost

    @property
    def is_felt(self) -> bool:
        """Return whether the adapter changes enough for the share that is left of it to be told.

        Below 1e-4 it is told if the rounding of the base's own weights does not change more.
        """
        clear = self.beside <= self.effect and self.effect > self.least_effect
        return clear or self.effect > TOLERANCES["float32"]

    @property
    def beside(self) -> float:
        """Return the part of the relative difference that is no loss of what the adapter does."""
        along = (1 - self.kept) * self.effect
        return math.sqrt(max(0.0, self.relative_difference**2 - along**2))

    @property
    def lost(self) -> float:
        """Return the share of what the adapter changes that the merged model does not have."""
        return max(0.0, 1 - self.kept)

    @property
    def is_lost(self) -> bool:
        """Return whether the merged model answers as the base does without the adapter."""
        return self.is_felt and self.lost > ALL_LOST


@dataclass(frozen=True)
class Asked:
    """What base and adapter answer to the probes; logits are (places, classes or vocabulary)."""

    probes: Probes
    adapted: torch.Tensor
    plain: torch.Tensor
    """The base's alone."""
    least_effect: float = TOLERANCES["float32"]
    """The least effect that float32 tells from its own rounding."""

    @property
    def change(self) -> torch.Tensor:
        """Return what the adapter changes."""
        return self.adapted - self.plain

    def relative(self, difference: torch.Tensor) -> float:
        """Return a difference's root mean square, relative to the spread of the logits."""
        return float((difference.square().mean() / self.adapted.var()).sqrt())


def prove(adapter: AdapterFolder, base: Path, merged: Path, dtype: str) -> Proof:
    """Return how the checkpoint in `merged`, whose weights are of `dtype`, answers the probes.

    Raises:
        MergeError: one of the two cannot be opened, or cannot be asked module by module.
    """
    asked = ask(adapter, base)
    found = ask_checkpoint(merged, auto_class_of(adapter, merged), asked.probes)
    return compare(asked, found, tolerance_of(dtype, load_config(merged)))


def tolerance_of(dtype: str, config: Any) -> float:
    """Return how far the logits of a model of this depth may be away, for its weights' dtype."""
    layers = getattr(config.get_text_config(), "num_hidden_layers", None) or FLAT
    return TOLERANCES[dtype] * math.sqrt(max(1, layers / FLAT))


def ask(adapter: AdapterFolder, base: Path) -> Asked:
    """Return what base and adapter answer, on the base as it was held in training.

    Raises:
        MergeError: they cannot be opened, or cannot be asked module by module.
    """
    opened = open_adapted(adapter, base)
    probes = probes_for(adapter, opened.model.config)
    read = reader(opened.stored.places, opened.adapted.ties, opened.held.of)
    around = {module.name: module.layers for module in opened.adapted.modules}
    fill_buffers(opened.model, opened.stored.places)
    files = opened.stored.files
    with _weights_checked(files, "the base"), streaming(opened.modules, read, around):
        adapted = answers(opened.adapted.model, probes)
        with opened.adapted.model.disable_adapter():
            asked = Asked(probes, adapted, answers(opened.adapted.model, probes))
            if not asked.change.any() or asked.relative(asked.change) > asked.least_effect:
                return asked
            with nudged(opened.modules.values()):
                open_to = answers(opened.adapted.model, probes) - asked.plain
    least = min(asked.least_effect, CLEARLY * asked.relative(open_to))
    return replace(asked, least_effect=least)


def ask_checkpoint(folder: Path, auto_class: str, probes: Probes) -> torch.Tensor:
    """Return what a checkpoint answers, opened by itself: its own config, files and ties.

    Raises:
        MergeError: it cannot be opened, or cannot be asked module by module.
    """
    model = weightless_model(load_config(folder), auto_class)
    modules, ties = dict(model.named_modules()), dict(model.all_tied_weights_keys)
    files = open_checkpoint(folder)
    found, _ = storages(model, files)
    for parameter in ties:
        owner, _, leaf = parameter.rpartition(".")
        set_apart(modules[owner], leaf)
    places = by_parameter(found)
    fill_buffers(model, places)
    written = "the merged checkpoint"
    with _weights_checked(files, written), streaming(modules, reader(places, ties)):
        return answers(model, probes)


@contextmanager
def _weights_checked(files: Checkpoint, what: str) -> Iterator[None]:
    """Where there are no answers, name the weight of `what` that is no number, if there is one."""
    try:
        yield
    except MergeError as error:
        for tensor in files.tensors.values():
            if tensor.dtype in FLOATS and not is_finite(tensor.read()):
                message = f"`{tensor.name}` of {what} holds what is no number: it has no answers"
                raise MergeError(message, tensor.file.name) from error
        raise


def answers(model: Any, probes: Probes) -> torch.Tensor:
    """Return the logits at all places that are no padding, float32.

    Raises:
        MergeError: a module was not given its weights, so that there are none.
    """
    import torch

    text = model.config.get_text_config()
    if getattr(text, "pad_token_id", None) is None:
        text.pad_token_id = NO_PADDING_TOKEN  # classifying decoders take no batch without one
    inputs = {"input_ids": probes.input_ids, "attention_mask": probes.attention_mask}
    there = probes.attention_mask.bool()
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = probes.input_ids[:, :DECODED_TOKENS]
        there = there[:, :DECODED_TOKENS]
    with torch.no_grad():
        output = model(**inputs)
    logits = _figures(output)
    logits = logits[there] if logits.shape[:2] == there.shape else logits.flatten(0, -2)
    if not bool(logits.isfinite().all()):
        message = f"{type(model).__name__} cannot be asked module by module, and so not be compared"
        raise MergeError(message, hint=_COMPARE_YOURSELF)
    return logits.float()


def _figures(output: Any) -> torch.Tensor:
    """Return what a model tells of its input: logits, where an answer begins and ends, or states.

    Shaped (texts, classes), (texts, tokens, vocabulary), (texts, tokens, 2 or hidden size).
    """
    import torch

    if "start_logits" in output:
        return torch.stack((output.start_logits, output.end_logits), dim=-1)
    figures: torch.Tensor = output["logits"] if "logits" in output else output[0]
    return figures


def compare(asked: Asked, ours: torch.Tensor, tolerance: float) -> Proof:
    """Return how near `ours` are to what was asked; both (places, classes or vocabulary).

    Raises:
        MergeError: the model answers everything alike, so that nothing can be told from it.
    """
    theirs = asked.adapted
    if not theirs.var():
        message = "base and adapter answer every text alike: that proves nothing"
        raise MergeError(message, hint=_COMPARE_YOURSELF)
    difference, change = ours - theirs, asked.change
    sure = theirs.log_softmax(-1)
    divergence = (sure.exp() * (sure - ours.log_softmax(-1))).sum(-1).mean()
    return Proof(
        probes=len(asked.probes.input_ids),
        positions=len(theirs),
        max_difference=float(difference.abs().max()),
        mean_difference=float(difference.abs().mean()),
        relative_difference=asked.relative(difference),
        tolerance=tolerance,
        divergence=max(0.0, float(divergence)),
        agreement=float((ours.argmax(-1) == theirs.argmax(-1)).float().mean()),
        effect=asked.relative(change),
        least_effect=asked.least_effect,
        kept=float((ours - asked.plain).mul(change).sum() / change.square().sum())
        if change.any()
        else 1.0,
    )
