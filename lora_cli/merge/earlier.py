"""Whether a folder is the earlier work of a command that is to write there, and nothing else.

That alone is replaced: not what training wrote, not what is somebody else's, and nothing that was
put into the folder since.
"""

from __future__ import annotations

from pathlib import Path

from lora_cli.merge.adapter_config import CONFIG, read_json
from lora_cli.merge.adapter_folder import TENSORS, is_of_run
from lora_cli.merge.base import ORIGIN, read_origin
from lora_cli.merge.output import CONFIG_FILE, MODELFILE, REPORT, tokenizer_files

_MADE = frozenset(["exported", "extracted", "combined"])
"""What `loracli.json` says beside the base, one of them, where no training wrote the adapter."""
_OF_A_MODEL = (
    "*.safetensors",
    "*.safetensors.index.json",
    "*.model",
    "*processor_config.json",
)


def why_kept(folder: Path, mark: str) -> str:
    """Return why `folder` is not replaced, beginning with a verb; nothing if it may be.

    `mark` is a file that everything holds that a command of this kind writes.
    """
    marks = (mark, MODELFILE) if mark.endswith(".gguf") else (mark,)
    if absent := [each for each in marks if not (folder / each).is_file()]:
        return f"has no {absent[0]}"
    if is_of_run(folder):
        return "is the adapter of a run"
    if mark == CONFIG and not _MADE & read_origin(folder).keys():
        return "holds an adapter that was not exported, extracted or combined"
    written = _written(folder, mark)
    since = sorted(
        each.name for each in folder.iterdir() if each.is_dir() or each.name not in written
    )
    return f"holds `{since[0]}`, which was put there since" if since else ""


def _written(folder: Path, mark: str) -> set[str]:
    """Return the names of files that a command of this kind writes, those of `folder` at least."""
    if mark.endswith(".gguf"):
        return {mark, MODELFILE, ORIGIN}
    tokenizer = {path.name for path in tokenizer_files(folder)}
    if mark == CONFIG:
        return {CONFIG, TENSORS, ORIGIN, CONFIG_FILE, *tokenizer}
    recorded = read_json(folder / REPORT).get("files")
    if isinstance(recorded, list):
        return {REPORT, *map(str, recorded)}
    weights = {path.name for pattern in _OF_A_MODEL for path in folder.glob(pattern)}
    return {REPORT, CONFIG_FILE, *tokenizer, *weights}
