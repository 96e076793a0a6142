"""Merging against reality: every variant on every family, on bases held in every way.

Each cell is built as a run builds it, gets noise on all that it trains, and is saved as a run saves
it. The merged checkpoint, loaded by plain transformers, answers as base and adapter did in memory;
a quantized base takes part with what its quantized layers held.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from lora_cli.errors import MergeError
from lora_cli.merge.merge import merge_adapter
from lora_cli.merge.prepare import MergeOptions
from lora_cli.model.base import save_base
from lora_cli.model.build import BuiltModel
from tests.helpers.cells import METHODS, VARIANTS, Cell, cells, save, without_int8_rounding
from tests.helpers.families import FAMILIES, Family, logits
from tests.helpers.runs import PLAIN_PEFT

pytestmark = [PLAIN_PEFT, pytest.mark.usefixtures("bases_loaded_once")]


def _tied() -> Any:
    config = FAMILIES["llama"].config()
    config.tie_word_embeddings = True
    return config


MERGED: dict[str, Family] = {**FAMILIES, "tied_llama": replace(FAMILIES["llama"], config=_tied)}
NOISE = 0.05
WITHIN = 1e-4
"""Of the largest logit: all is float32. Sums in another order differ by up to 1e-5 of it."""
MERGES, REFUSED, NO_WEIGHTS = "merges", "not trained", "changes no weight"


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model folder of each family."""
    return {name: family.write(tmp_path_factory.mktemp(name)) for name, family in MERGED.items()}


@pytest.fixture(scope="module")
def counts(request: pytest.FixtureRequest) -> Iterator[Counter[str]]:
    """How many cells merge, and how many do not."""
    counted: Counter[str] = Counter()
    yield counted
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    if reporter:  # the worker of several processes has none
        reporter.write_line(f"\ncells of the matrix of merges: {dict(counted)}")


ALWAYS = {"none": MERGED, "nf4": ("gpt2", "t5"), "fp4": ("llama",), "int8": ("bert", "tied_llama")}
"""The families that every run of the tests tries with a way of holding the base."""


@pytest.mark.parametrize(("name", "variant", "method"), cells(MERGED, ALWAYS))
def test_a_cell_merges_or_says_why_not(
    bases: dict[str, Path],
    counts: Counter[str],
    tmp_path: Path,
    name: str,
    variant: str,
    method: str,
) -> None:
    cell = Cell(MERGED[name], bases[name], VARIANTS[variant], METHODS[method])
    if cell.refusal():
        counts[REFUSED] += 1
        return
    built = cell.build()
    torch.manual_seed(0)
    for parameter in built.adapter.model.parameters():
        if parameter.requires_grad:
            parameter.data += NOISE * torch.randn_like(parameter)
    save(built, tmp_path / "adapter")
    write_origin(cell, built, tmp_path)
    how = MergeOptions(output=tmp_path / "merged", verify=False)
    if cell.spec.capability.merge:
        with pytest.raises(MergeError, match="changes no weight"):
            merge_adapter(tmp_path / "adapter", how)
        assert not (tmp_path / "merged").exists()
        counts[NO_WEIGHTS] += 1
        return
    merge_adapter(tmp_path / "adapter", how)
    merged = getattr(transformers, cell.family.auto_class).from_pretrained(
        tmp_path / "merged", attn_implementation="eager"
    )
    with without_int8_rounding():
        ours = logits(built.adapter.model, cell.family)
    difference = (logits(merged, cell.family) - ours).abs().max()
    assert float(difference) <= WITHIN * float(ours.abs().max())
    counts[MERGES] += 1


def write_origin(cell: Cell, built: BuiltModel, folder: Path) -> None:
    """Write beside the adapter what a run says of its base, and the base if it is its own."""
    base = cell.folder
    if built.adapter.own_base:
        base = folder / "base"
        save_base(built.adapter.model, base)
    origin = {"base": str(base), "quantization": cell.quantization.model_dump()}
    (folder / "adapter" / "loracli.json").write_text(json.dumps(origin), "utf-8")
