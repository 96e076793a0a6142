"""How others load a folder once it is on the hub, in Markdown: Python, or llama.cpp's commands."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lora_cli.merge.adapter_config import read_any_config
from lora_cli.merge.adapter_folder import AdapterFolder
from lora_cli.merge.base import read_origin
from lora_cli.merge.merged_model import auto_class_for, auto_class_of
from lora_cli.merge.named_base import NamedBase
from lora_cli.merge.output import CONFIG_FILE

GGUF_ADAPTER = "adapter.gguf"
"""What `loracli export --to gguf` calls an adapter."""
_PLACE = "folder/of/the/base"


def model_loading(folder: Path, repository: str, architectures: Iterable[str]) -> str:
    """Return how a whole model is loaded."""
    auto_class = auto_class_for(architectures)
    return _python(
        [f"from transformers import {_imported(folder, auto_class)}"],
        [f'model = {auto_class}.from_pretrained("{repository}", dtype="auto")'],
        _tokenizer(folder, repository),
    )


def adapter_loading(folder: Path, repository: str, base: NamedBase) -> str:
    """Return how an adapter is loaded on its base, held as it was while training.

    Raises:
        MergeError: its settings cannot be read, or are for a task that is not known.
    """
    origin = read_origin(folder)
    adapter = AdapterFolder(folder, read_any_config(folder), origin, {})
    auto_class = auto_class_of(adapter)
    options, names = _options(folder, repository, adapter)
    arguments = [f'"{base.hub_id or _PLACE}"', 'dtype="auto"', *options]
    listing = "".join(f"    {each},\n" for each in arguments)
    code = _python(
        [
            "from peft import PeftModel",
            f"from transformers import {_imported(folder, auto_class, *names)}",
        ],
        [
            f"base = {auto_class}.from_pretrained(\n{listing})",
            f'model = PeftModel.from_pretrained(base, "{repository}")',
        ],
        _tokenizer(folder, repository),
    )
    return code if base.hub_id else f"{base.whereabouts}\n\n{code}"


def _options(folder: Path, repository: str, adapter: AdapterFolder) -> tuple[list[str], list[str]]:
    """Return the arguments beside name and type, and what of transformers they need."""
    options, names = [], []
    if (folder / CONFIG_FILE).is_file():  # the labels, and with them the size of the head
        options.append(f'config=AutoConfig.from_pretrained("{repository}")')
        names.append("AutoConfig")
    held = _held(adapter.origin.get("quantization") or {})
    if held:
        options.append(f"quantization_config=BitsAndBytesConfig({held})")
        names.append("BitsAndBytesConfig")
    return options, names


def _held(quantization: dict[str, Any]) -> str:
    method = quantization.get("method")
    if method == "int8":
        return "load_in_8bit=True"
    if method not in ("nf4", "fp4"):
        return ""
    doubly, compute = quantization.get("double_quantization"), quantization.get("compute_dtype")
    return (
        f'load_in_4bit=True, bnb_4bit_quant_type="{method}", '
        f'bnb_4bit_use_double_quant={bool(doubly)}, bnb_4bit_compute_dtype="{compute}"'
    )


def gguf_loading(folder: Path, repository: str, base: NamedBase) -> str:
    """Return how llama.cpp loads a GGUF file: a model by itself, an adapter on its base."""
    if not (folder / GGUF_ADAPTER).is_file():
        return _console(f"llama-cli -hf {repository} --jinja") + _modelfile(folder, "")
    where = f"The base is `{base.hub_id}`." if base.hub_id else base.whereabouts
    commands = _console(
        f"hf download {repository} {GGUF_ADAPTER} --local-dir .",
        f"llama-cli -m BASE.gguf --lora {GGUF_ADAPTER} --jinja",
    )
    text = f"{where} `BASE.gguf` stands for it as a GGUF file.\n\n{commands}"
    return text + _modelfile(folder, ", once its `FROM` names the base")


def _modelfile(folder: Path, condition: str) -> str:
    if not (folder / "Modelfile").is_file():
        return ""
    return f"\n\n`Modelfile` is for `ollama create`, beside the file{condition}."


def _tokenizer(folder: Path, repository: str) -> list[str]:
    if not _has_tokenizer(folder):
        return []
    return [f'tokenizer = AutoTokenizer.from_pretrained("{repository}")']


def _imported(folder: Path, *names: str) -> str:
    return ", ".join(sorted([*names, *["AutoTokenizer"] * _has_tokenizer(folder)]))


def _has_tokenizer(folder: Path) -> bool:
    return (folder / "tokenizer_config.json").is_file()


def _python(imports: Iterable[str], *parts: Iterable[str]) -> str:
    code = "\n".join(line for part in parts for line in part)
    return "```python\n" + "\n".join(imports) + f"\n\n{code}\n```"


def _console(*commands: str) -> str:
    return "```console\n" + "\n".join(commands) + "\n```"
