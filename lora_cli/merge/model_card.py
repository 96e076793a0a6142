"""A model card (README.md) for a folder that has none: what it is, and how it is loaded.

Says what the folder's own files say. A licence is not in them, so it is left out; nor is a base
that is a path on this machine.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from lora_cli.merge.adapter_config import CONFIG as ADAPTER_CONFIG
from lora_cli.merge.adapter_config import read_json

CARD = "README.md"
MODEL_CONFIG = "config.json"
REPORT = "merge_report.json"
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True)
class _Contents:
    """What a card says of a folder."""

    library: str
    what: str
    tag: str
    use: str


def model_card(folder: Path, repository: str) -> str:
    """Return a card in Markdown, with the front matter that hubs read, for `folder`'s contents.

    Raises:
        MergeError: a file that says what it holds cannot be read.
    """
    base = hub_base(folder)
    contents = _contents(folder, repository, base)
    head = [f"library_name: {contents.library}"]
    head += [f"base_model: {json.dumps(base)}"] if base else []
    head += [f"tags: [{contents.tag}, loracli]"]
    of_base = f" of `{base}`" if base else ""
    return (
        "---\n" + "\n".join(head) + "\n---\n\n"
        f"# {repository.partition('/')[2]}\n\n"
        f"{contents.what}{of_base}, made with loracli.\n\n"
        f"## Use\n\n{contents.use}\n"
    )


def _contents(folder: Path, repository: str, base: str) -> _Contents:
    files = sorted(path.name for path in folder.glob("*.gguf"))
    if files:
        use = f"```console\nllama-cli -hf {repository} --jinja\n```"
        if (folder / "Modelfile").is_file():
            use += "\n\n`Modelfile` is for `ollama create`, beside the file."
        return _Contents("gguf", f"GGUF ({', '.join(files)})", "gguf", use)
    if (folder / ADAPTER_CONFIG).is_file():
        settings = read_json(folder / ADAPTER_CONFIG)
        method = str(settings.get("peft_type"))
        rank = f", rank {settings['r']}" if isinstance(settings.get("r"), int) else ""
        return _Contents(
            "peft", f"An adapter ({method}{rank})", method.lower(), _adapter_use(repository, base)
        )
    architectures = read_json(folder / MODEL_CONFIG).get("architectures") or ["a model"]
    loading = _loading(repository)
    return _Contents("transformers", f"A fine-tuned model ({architectures[0]})", "lora", loading)


def _loading(name: str) -> str:
    return (
        "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f'model = AutoModelForCausalLM.from_pretrained("{name}", dtype="auto")\n'
        f'tokenizer = AutoTokenizer.from_pretrained("{name}")\n```'
    )


def _adapter_use(repository: str, base: str) -> str:
    return (
        "```python\nfrom peft import PeftModel\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f'base = AutoModelForCausalLM.from_pretrained("{base or "BASE"}", dtype="auto")\n'
        f'model = PeftModel.from_pretrained(base, "{repository}")\n'
        f'tokenizer = AutoTokenizer.from_pretrained("{repository}")\n```'
    )


def hub_base(folder: Path) -> str:
    """Return the hub id of the base that a folder's files name; "" if it is none, or a path."""
    name = base_named(folder)
    return name if HUB_ID.fullmatch(name) and not Path(name).exists() else ""


def base_named(folder: Path) -> str:
    """Return the base that a folder's files name, a hub id or a path; "" if they name none."""
    for file, key in ((ADAPTER_CONFIG, "base_model_name_or_path"), (REPORT, "base")):
        if (folder / file).is_file():
            name = read_json(folder / file).get(key)
            return name if isinstance(name, str) else ""
    return ""
