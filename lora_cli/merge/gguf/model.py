"""export_model: a merged checkpoint → one GGUF file and a Modelfile, or nothing at all."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_cli.errors import ExportError
from lora_cli.files import new_folder, write_text
from lora_cli.merge.gguf.architecture import (
    Architecture,
    architecture_of,
    check_config,
    write_hyperparameters,
)
from lora_cli.merge.gguf.chat_layout import PROBES, read_layout, render_chat
from lora_cli.merge.gguf.check import check_tensors, check_tokenizer
from lora_cli.merge.gguf.checkpoint import read_checkpoint, read_config
from lora_cli.merge.gguf.modelfile import NAME, Modelfile, stops_of
from lora_cli.merge.gguf.precision import Precision, file_type, kind_of, precision_of
from lora_cli.merge.gguf.result import GgufResult
from lora_cli.merge.gguf.rope import FACTORS, frequency_factors
from lora_cli.merge.gguf.tensors import gguf_names, in_gguf_order
from lora_cli.merge.gguf.tokenizer import begins_and_ends, load_tokenizer, write_tokenizer
from lora_cli.merge.gguf.vocabulary import Vocabulary
from lora_cli.merge.gguf.write import Layout, new_writer, write_tensors
from lora_cli.merge.place import check_place, told_as

if TYPE_CHECKING:
    import torch
    from gguf import GGUFWriter

FILE = "model.gguf"
NO_TEMPLATE = (
    "the Modelfile has no TEMPLATE: what the chat template does could not be said in Ollama's own. "
    "Ollama then takes the most similar template that it knows, or none; write TEMPLATE by hand. "
    "llama.cpp reads the whole template from the file, with --jinja"
)


def export_model(
    folder: Path, output: Path, precision: Precision | None, *, overwrite: bool = False
) -> GgufResult:
    """Write `output`: the checkpoint in `folder` as GGUF, in the precision it lies in by default.

    Raises:
        ExportError: the output is taken, or the file could not say what the model is.
    """
    started = time.perf_counter()
    with told_as(ExportError, output):
        check_place(output, FILE, [folder], overwrite=overwrite)
        export = _ModelExport(folder, precision)
        with new_folder(output) as new:
            kinds, compared = export.write(new)
            size = sum(path.stat().st_size for path in new.iterdir())
    return GgufResult(
        source=str(folder),
        form="model",
        architecture=export.architecture.name,
        base="",
        precision=export.precision,
        output=str(output),
        file=str(output / FILE),
        modelfile=str(output / NAME),
        tensors=sum(kinds.values()),
        kinds=kinds,
        texts_compared=compared,
        notes=export.notes,
        use=[f"llama-cli -m {output / FILE} --jinja", f"ollama create NAME -f {output / NAME}"],
        bytes_written=size,
        seconds=time.perf_counter() - started,
    )


class _ModelExport:
    """One checkpoint on its way into one file; `notes` gather what is to be known of it."""

    def __init__(self, folder: Path, precision: Precision | None) -> None:
        self.notes: list[str] = []
        self._place = str(folder)
        config = read_config(folder)
        self.architecture: Architecture = architecture_of(config, self._place)
        source = self._source = read_checkpoint(folder, config)
        self.precision: Precision = precision or precision_of(source.dtypes(), self._place)
        check_config(config, self._place)
        self._tokenizer = load_tokenizer(source.folder)
        self._names = gguf_names(
            source.shapes, self.architecture, source.config.num_hidden_layers, self._place
        )

    def write(self, folder: Path) -> tuple[dict[str, int], int]:
        """Write all files; return how many tensors are held how, and the texts compared."""
        with new_writer(folder / FILE, self.architecture.name) as writer:
            vocabulary = self._describe(writer)
            layout = self._layout()
            kinds = write_tensors(writer, layout, self._tensors())
        check_tensors(folder / FILE, layout)
        chats = [text for turns in PROBES if (text := render_chat(self._tokenizer, turns))]
        compared = check_tokenizer(folder / FILE, self._tokenizer, vocabulary, chats)
        self._write_modelfile(folder)
        if kinds.get("f16") and self.precision != "f16":
            self.notes.append(
                f"{kinds['f16']} tensors are in f16: their rows are no multiple of 32 numbers"
            )
        return kinds, compared

    def _describe(self, writer: GGUFWriter) -> Vocabulary:
        config = self._source.config
        writer.add_type("model")
        writer.add_name(self._source.folder.resolve().name)
        writer.add_file_type(file_type(self.precision))
        self.notes += write_hyperparameters(writer, self.architecture, config, self._place)
        rows = config.vocab_size
        vocabulary = write_tokenizer(writer, self._tokenizer, rows, self._place)
        self.notes += vocabulary.notes
        return vocabulary

    def _layout(self) -> Layout:
        shapes = {self._names[name]: shape for name, shape in self._source.shapes.items()}
        factors = frequency_factors(self._source.config)
        if factors is not None:
            shapes = {FACTORS: factors.shape, **shapes}
        return {
            name: (shape, kind_of(name, shape, self.precision)) for name, shape in shapes.items()
        }

    def _tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        import torch

        config = self._source.config
        factors = frequency_factors(config)
        if factors is not None:
            yield FACTORS, torch.from_numpy(factors)
        for name, tensor in self._source.tensors(self._names):
            there = self._names[name]
            yield there, in_gguf_order(tensor, there, self.architecture, config)

    def _write_modelfile(self, folder: Path) -> None:
        self.notes += notes_on_begin(self._tokenizer)
        said = modelfile_parts(self._tokenizer, self._source.folder)
        if said["layout"] is None:
            self.notes.append(NO_TEMPLATE)
        write_text(folder / NAME, Modelfile(f"./{FILE}", **said).text())


def modelfile_parts(tokenizer: Any, folder: Path) -> dict[str, Any]:
    """Return the chat layout, if there is one, and the stop tokens of a model or an adapter."""
    begins, _ = begins_and_ends(tokenizer)
    return {
        "layout": read_layout(tokenizer, begins=begins) if tokenizer.chat_template else None,
        "stops": stops_of(folder, tokenizer),
    }


def notes_on_begin(tokenizer: Any) -> list[str]:
    """Return where a server begins a chat otherwise than the chat template does."""
    begins, _ = begins_and_ends(tokenizer)
    chat = render_chat(tokenizer, PROBES[0]) if tokenizer.chat_template else None
    if not begins or chat is None or chat.startswith(tokenizer.bos_token):
        return []
    begin = tokenizer.bos_token
    note = f"llama.cpp and Ollama begin every text with `{begin}`, as the tokenizer does; "
    return [note + "the chat template does not"]
