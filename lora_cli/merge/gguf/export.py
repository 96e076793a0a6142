"""export_gguf: a folder → GGUF, whichever it holds: a model, or an adapter."""

from __future__ import annotations

from pathlib import Path

from lora_cli.errors import UsageError
from lora_cli.merge.adapter_config import CONFIG as ADAPTER_CONFIG
from lora_cli.merge.export import Progress
from lora_cli.merge.gguf.adapter import export_adapter
from lora_cli.merge.gguf.checkpoint import CONFIG
from lora_cli.merge.gguf.model import export_model
from lora_cli.merge.gguf.precision import Precision
from lora_cli.merge.gguf.result import GgufResult
from lora_cli.merge.truncate import Limit


def export_gguf(
    source: Path,
    output: Path,
    precision: Precision | None,
    limit: Limit,
    *,
    overwrite: bool = False,
    report: Progress = lambda _done, _total: None,
) -> GgufResult:
    """Write `output`: what `source` holds as one GGUF file and a Modelfile, or nothing at all.

    Raises:
        ExportError: there is neither a model nor an adapter, or it has no such form.
        UsageError: a limit is given for a model, of which nothing can be cut.
    """
    if not holds_model(source):
        return export_adapter(source, output, precision, limit, overwrite=overwrite, report=report)
    if limit.given:
        message = "is a model: --rank and --error are for adapters"
        raise UsageError(message, str(source), "leave them out")
    return export_model(source, output, precision, overwrite=overwrite)


def holds_model(folder: Path) -> bool:
    """Return whether a folder holds a whole model, and no adapter."""
    adapters = (folder / ADAPTER_CONFIG, folder / "adapter" / ADAPTER_CONFIG)
    return (folder / CONFIG).is_file() and not any(path.is_file() for path in adapters)
