"""How others load a folder once it is on the hub, in Markdown: Python, or llama.cpp's commands."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lora_cli.merge.adapter_config import read_any_config
from lora_cli.merge.adapter_folder import AdapterFolder
from lora_cli.merge.base import read_origin
from lora_cli.merge.merged_model import auto_class_for, auto_class_of
from lora_cli.merge.named_base import NamedBase
from lora_cli.merge.output import CONFIG_FILE
from lora_cli.quantization.in_python import caution, quantization_argument, recorded
from lora_cli.tasks.causal_lm import CausalLm

GGUF_ADAPTER = "adapter.gguf"
"""What `loracli export --to gguf` calls an adapter."""
_PLACE = "folder/of/the/base"
_HEAD = (
    "The labels stand in `config.json`. The head is new, and the adapter brings it: transformers "
    "says that it is missing in the base."
)


def model_loading(folder: Path, repository: str, architectures: Iterable[str]) -> str:
    """Return how a whole model is loaded."""
    auto_class = auto_class_for(architectures)
    return _python(
        [f"from transformers import {_imported(folder, auto_class)}"],
        [f'model = {auto_class}.from_pretrained("{repository}", dtype="auto")'],
        _tokenizer(folder, repository, auto_class),
    )


def adapter_loading(folder: Path, repository: str, base: NamedBase) -> str:
    """Return how an adapter is loaded on its base, held as it was while training.

    Raises:
        MergeError: its settings cannot be read, or are for a task that is not known.
        ValueError: how its base was held is nothing that is known.
    """
    adapter = AdapterFolder(folder, read_any_config(folder), read_origin(folder), {})
    auto_class = auto_class_of(adapter)
    options, names = _options(repository, adapter, base)
    arguments = [f'"{base.hub_id or _PLACE}"', *options]
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
        _tokenizer(folder, repository, auto_class),
    )
    said = caution(adapter.quantization, dora=adapter.method == "DORA")
    head = _HEAD if _has_labels(adapter) else ""
    where = "" if base.hub_id else base.whereabouts
    return "\n\n".join(filter(None, [where, code, head, said]))


def _options(
    repository: str, adapter: AdapterFolder, base: NamedBase
) -> tuple[list[str], list[str]]:
    """Return the arguments beside the base's name, and what of transformers they need."""
    origin, revision = adapter.origin, adapter.config.revision
    options = [f'revision="{revision}"'] if base.hub_id and revision else []
    options.append(f'dtype="{origin.get("dtype") or "auto"}"')
    names = []
    if _has_labels(adapter):
        options.append(f'config=AutoConfig.from_pretrained("{repository}")')
        names.append("AutoConfig")
    held = recorded(origin.get("quantization"))
    if held and not base.made_from:  # a base of the run's own says itself how it is held
        heads = origin.get("heads") or adapter.config.settings.get("modules_to_save") or ()
        options.append(quantization_argument(held, heads))
        names.append("BitsAndBytesConfig")
    return options, names


def _has_labels(adapter: AdapterFolder) -> bool:
    """Return whether its labels, and with them the size of the head, stand beside an adapter."""
    return (adapter.path / CONFIG_FILE).is_file()


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


def _tokenizer(folder: Path, repository: str, auto_class: str) -> list[str]:
    if not _has_tokenizer(folder):
        return []
    side = ', padding_side="left"' if auto_class == CausalLm.auto_class else ""
    return [f'tokenizer = AutoTokenizer.from_pretrained("{repository}"{side})']


def _imported(folder: Path, *names: str) -> str:
    return ", ".join(sorted([*names, *["AutoTokenizer"] * _has_tokenizer(folder)]))


def _has_tokenizer(folder: Path) -> bool:
    return (folder / "tokenizer_config.json").is_file()


def _python(imports: Iterable[str], *parts: Iterable[str]) -> str:
    code = "\n".join(line for part in parts for line in part)
    return "```python\n" + "\n".join(imports) + f"\n\n{code}\n```"


def _console(*commands: str) -> str:
    return "```console\n" + "\n".join(commands) + "\n```"
