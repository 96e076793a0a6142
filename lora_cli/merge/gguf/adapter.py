"""export_adapter: an adapter → a GGUF file that llama.cpp puts on its base, or nothing at all.

llama.cpp multiplies B·A by alpha over the rank that it finds, and knows no other scaling: all pairs
have one rank here, the scaling is a part of B, and alpha is the rank.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_cli.adapters.variant import Factors
from lora_cli.errors import ExportError
from lora_cli.facts.model_source import ModelSource
from lora_cli.files import new_folder, write_text
from lora_cli.merge.adapter_folder import find_adapter
from lora_cli.merge.base import ORIGIN
from lora_cli.merge.canonical import padded, uniform_rank
from lora_cli.merge.export import Progress, fits_of
from lora_cli.merge.exportable import Exportable, read_exportable
from lora_cli.merge.gguf.architecture import Architecture, architecture_of
from lora_cli.merge.gguf.check import check_tensors
from lora_cli.merge.gguf.checkpoint import read_config
from lora_cli.merge.gguf.model import modelfile_parts
from lora_cli.merge.gguf.modelfile import NAME, Modelfile, system_of
from lora_cli.merge.gguf.pre_tokenizer import pre_tokenizer_name
from lora_cli.merge.gguf.precision import Precision, file_type, kind_of
from lora_cli.merge.gguf.result import GgufResult
from lora_cli.merge.gguf.tensors import gguf_names, in_gguf_order
from lora_cli.merge.gguf.tokenizer import load_tokenizer
from lora_cli.merge.gguf.write import Layout, new_writer, write_tensors
from lora_cli.merge.place import check_place, told_as
from lora_cli.merge.truncate import Limit

if TYPE_CHECKING:
    import torch

FILE = "adapter.gguf"
SIDE_A, SIDE_B = ".lora_a", ".lora_b"


def export_adapter(
    adapter_or_run: Path,
    output: Path,
    precision: Precision | None,
    limit: Limit,
    *,
    overwrite: bool = False,
    report: Progress = lambda _done, _total: None,
) -> GgufResult:
    """Write `output`: the adapter as GGUF, in float32 by default.

    Raises:
        ExportError: the output is taken, the adapter has no such form within the limit, or its base
            is of an architecture that is not proven.
    """
    started = time.perf_counter()
    with told_as(ExportError, output):
        check_place(output, FILE, [adapter_or_run], overwrite=overwrite)
        adapter = read_exportable(find_adapter(adapter_or_run))
        base = adapter.find_base()
        config = read_config(base.folder)
        architecture = architecture_of(config, str(base.folder))
        held = precision or "f32"
        fits = fits_of(adapter, limit, report)
        pairs = {module: fit.pair for module, fit in fits.items()}
        with new_folder(output) as new:
            kinds = _write(new / FILE, pairs, config, architecture, precision=held)
            from_base = str(base.gguf or base.folder)
            write_text(new / NAME, _modelfile(adapter, from_base).text())
            origin = {"base": adapter.base_name, **adapter.origin}
            write_text(new / ORIGIN, json.dumps(origin, indent=2) + "\n")
            size = sum(path.stat().st_size for path in new.iterdir())
    return GgufResult(
        source=str(adapter.path),
        form="adapter",
        architecture=architecture.name,
        base=adapter.base_name,
        precision=held,
        output=str(output),
        file=str(output / FILE),
        modelfile=str(output / NAME),
        tensors=sum(kinds.values()),
        kinds=kinds,
        texts_compared=0,
        notes=adapter.notes() + _notes_on_cutting(adapter, base),
        use=[
            f"llama-cli -m BASE.gguf --lora {output / FILE} --jinja",
            f"ollama create NAME -f {output / NAME}",
        ],
        bytes_written=size,
        seconds=time.perf_counter() - started,
    )


def _write(
    file: Path,
    pairs: Mapping[str, Factors],
    config: Any,
    architecture: Architecture,
    *,
    precision: Precision,
) -> dict[str, int]:
    modules = [f"{module}.weight" for module in pairs]
    names = gguf_names(modules, architecture, config.num_hidden_layers, str(file.parent))
    rank = uniform_rank(pairs)
    tensors: dict[str, torch.Tensor] = {}
    for module, pair in pairs.items():
        name, whole = names[f"{module}.weight"], padded(pair, rank)
        tensors[name + SIDE_A] = whole.a
        tensors[name + SIDE_B] = in_gguf_order(whole.b, name, architecture, config)
    layout: Layout = {
        name: (tuple(tensor.shape), kind_of(name, tuple(tensor.shape), precision))
        for name, tensor in tensors.items()
    }
    with new_writer(file, architecture.name) as writer:
        writer.add_type("adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", float(rank))
        writer.add_file_type(file_type(precision))
        kinds = write_tensors(writer, layout, iter(tensors.items()))
    check_tensors(file, layout)
    return kinds


def _notes_on_cutting(adapter: Exportable, base: ModelSource) -> list[str]:
    """Return whether the base's own file cuts text otherwise than the adapter was trained with.

    transformers does not know all of llama.cpp's rules, and reads such a file with GPT-2's.
    """
    from transformers.integrations.gguf import read_gguf_metadata

    if base.gguf is None or not _has_tokenizer(adapter):
        return []
    there = read_gguf_metadata(str(base.gguf))[0].get("tokenizer.ggml.pre")
    backend = getattr(load_tokenizer(adapter.path), "backend_tokenizer", None)
    here = pre_tokenizer_name(json.loads(backend.to_str())) if backend else None
    if there == here or here is None:
        return []
    note = f"the base's file cuts text as `{there}`, and the adapter was trained on `{here}`: "
    return [note + "llama.cpp makes other tokens of some texts; a merged model has none of this"]


def _has_tokenizer(adapter: Exportable) -> bool:
    return (adapter.path / "tokenizer_config.json").is_file()


def _modelfile(adapter: Exportable, base: str) -> Modelfile:
    if not _has_tokenizer(adapter):
        return Modelfile(base, f"./{FILE}")  # the base's own template and stop tokens hold
    said = modelfile_parts(load_tokenizer(adapter.path), adapter.path)
    return Modelfile(base, f"./{FILE}", **said, system=system_of(adapter.path.parent))
