"""What a GGUF file says of itself: config, tokenizer and chat template, without its weights.

They are written once into the cache, in a folder named by the file's sha256, where `model` later
puts the dequantised weights: from then on the GGUF is an ordinary model folder.
"""

from __future__ import annotations

from pathlib import Path

from lora_cli.errors import MissingDependencyError, PlanError
from lora_cli.facts.cache import cache_folder
from lora_cli.files import new_folder
from lora_cli.words import reason_of

LAYOUT = "1"
"""Raised when what is written below changes, so that older cache entries are made again."""


def describe_gguf(path: Path, digest: str) -> Path:
    """Return the cache folder of a GGUF file, with its config and tokenizer in it.

    Raises:
        PlanError: the file is not GGUF, or transformers does not know its architecture.
    """
    folder = cache_folder("gguf") / f"{digest[:32]}-{LAYOUT}"
    if not (folder / "config.json").is_file():
        with new_folder(folder) as temporary:
            _write_description(path, temporary)
    return folder


def _write_description(path: Path, folder: Path) -> None:
    from transformers import AutoConfig, AutoTokenizer

    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise PlanError(f"{path} is not a GGUF file", hint="check the download")
    where = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    try:
        config = AutoConfig.from_pretrained(**where)
        tokenizer = AutoTokenizer.from_pretrained(**where)
    except ImportError as error:
        message = "reading GGUF needs the package `gguf`"
        raise MissingDependencyError(message, hint="pip install gguf") from error
    except Exception as error:  # a broken file breaks its readers in any way
        if not _is_whole(path):
            size = f"its {path.stat().st_size:,} bytes are not what its header says"
            hint = "fetch it again, and compare its size with what its source says"
            raise PlanError(f"{path} is cut short or damaged: {size}", hint=hint) from error
        message = f"{path} cannot be read as a model: {reason_of(error)}"
        hint = "transformers does not know its architecture, or its tokenizer"
        raise PlanError(message, hint=hint) from error
    architectures = getattr(config, "architectures", None)
    config.architectures = architectures or [_causal_class_name(config)]
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _is_whole(path: Path) -> bool:
    """Return whether the file holds all that its header says, without reading any weights."""
    from gguf import GGUFReader

    try:
        GGUFReader(path)
    except Exception:  # noqa: BLE001  # a broken file breaks its reader in any way
        return False
    return True


def _causal_class_name(config: object) -> str:
    from transformers import AutoModelForCausalLM

    mapping = AutoModelForCausalLM._model_mapping  # noqa: SLF001  # transformers has no public way
    return str(mapping[type(config)].__name__)
