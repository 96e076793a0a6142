"""A GGUF file written one tensor at a time: first what is in it and where, then the numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lora_cli.merge.gguf.precision import held
from lora_cli.merge.place import check_room

if TYPE_CHECKING:
    import torch
    from gguf import GGMLQuantizationType, GGUFWriter

Layout = Mapping[str, tuple[tuple[int, ...], "GGMLQuantizationType"]]
"""Shape and kind of every tensor by its name, in the file's order."""


@contextmanager
def new_writer(file: Path, architecture: str) -> Iterator[GGUFWriter]:
    """Give a writer for `file`; nothing is written before `write_tensors`."""
    from gguf import GGML_QUANT_VERSION, GGUFWriter

    writer = GGUFWriter(file, architecture)
    try:
        writer.add_quantization_version(GGML_QUANT_VERSION)
        yield writer
    finally:
        writer.close()


def write_tensors(
    writer: GGUFWriter, layout: Layout, tensors: Iterator[tuple[str, torch.Tensor]]
) -> dict[str, int]:
    """Write the file; return how many tensors are of each kind.

    `tensors` yields what `layout` names, in its order; one is in memory at a time.

    Raises:
        MergeError: the disk has no room for it.
    """
    import numpy as np
    from gguf import quant_shape_to_byte_shape

    needed = 0
    for name, (shape, kind) in layout.items():
        byte_shape = quant_shape_to_byte_shape(shape, kind)
        size = int(np.prod(byte_shape))
        needed += size
        writer.add_tensor_info(name, byte_shape, np.dtype(np.uint8), size, kind)
    check_room(Path(writer.path).parent.parent, needed)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for (name, (_, kind)), (given, tensor) in zip(layout.items(), tensors, strict=True):
        assert name == given, "tensors come in the file's order"
        writer.write_tensor_data(held(tensor, kind, name))
    return dict(Counter(kind.name.lower() for _, kind in layout.values()))
