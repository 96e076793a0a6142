"""Data sets of the hub as `datasets` keeps them once they have been prepared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

COMMIT = "0123456789" * 4


def prepare_hub_data(
    cache: Path, name: str, rows: dict[str, list[dict[str, Any]]], subset: str = "default"
) -> Path:
    """Write a data set's splits into a cache folder and return the folder they are in."""
    import datasets
    import pyarrow

    short = name.partition("/")[2]
    folder = cache / name.replace("/", "___") / subset / "0.0.0" / COMMIT
    folder.mkdir(parents=True)
    splits = datasets.SplitDict()
    for split, listed in rows.items():
        table = pyarrow.Table.from_pylist(listed)
        target = str(folder / f"{short}-{split}.arrow")
        with (
            pyarrow.OSFile(target, "wb") as file,
            pyarrow.ipc.new_stream(file, table.schema) as writer,
        ):
            writer.write_table(table)
        splits.add(datasets.splits.SplitInfo(split, 1, len(listed), dataset_name=short))
    info = datasets.DatasetInfo(
        features=datasets.Features.from_arrow_schema(table.schema),
        builder_name="json",
        dataset_name=short,
        config_name=subset,
        version=datasets.Version("0.0.0"),
        splits=splits,
    )
    info.write_to_directory(str(folder))
    return folder
