"""A model's name in a recipe → the local folder that holds its config and tokenizer.

Four kinds of name: a hub id, a local folder, a `.gguf` file, and `package://module/file.gguf`
(weights inside an installed Python package, which is never imported). Weights are not read here.
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lora_cli.errors import PlanError

PACKAGE_PREFIX = "package://"
CONFIG_FILES = ["*.json", "*.jinja", "*.model", "*.txt", "*.py"]


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where a base model is.

    `folder` holds config and tokenizer; weights are there too, or are put there by `model`.
    """

    kind: Literal["hub", "folder", "gguf"]
    folder: Path
    fingerprint: str
    """What the model is, wherever it lies: equal fingerprints, equal weights."""
    gguf: Path | None = None
    hub_id: str = ""
    revision: str = ""


def find_model(name: str, *, revision: str | None, base_dir: Path) -> ModelSource:
    """Return where the model is; local names are relative to `base_dir`.

    Raises:
        PlanError: there is no such model, or the hub cannot be reached.
    """
    if name.startswith(PACKAGE_PREFIX):
        return _gguf(_inside_package(name), name)
    path = (base_dir / Path(name).expanduser()).resolve()
    if name.endswith(".gguf"):
        return _gguf(path, name)
    if path.is_dir():
        return _folder(path, name)
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise PlanError(_absent(name, path), hint=_NAME_HINT)
    return _hub(name, revision or "main", path)


_NAME_HINT = "a model is a hub id (owner/name), a folder, a .gguf file, or package://module/file.gguf"


def _absent(name: str, path: Path) -> str:
    return f"there is no model `{name}`: {path} does not exist"


def _gguf(path: Path, name: str) -> ModelSource:
    from lora_cli.facts.cache import cached_sha256
    from lora_cli.facts.gguf import describe_gguf

    if not path.is_file():
        raise PlanError(_absent(name, path), hint=_NAME_HINT)
    digest = cached_sha256(path)
    folder = describe_gguf(path, digest)
    return ModelSource("gguf", folder, f"gguf:sha256:{digest}", gguf=path)


def _inside_package(name: str) -> Path:
    package, _, rest = name.removeprefix(PACKAGE_PREFIX).partition("/")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        hint = f"pip install the package that holds it (`{package.replace('_', '-')}`?)"
        raise PlanError(f"no Python package `{package}` is installed, for `{name}`", hint=hint)
    folder = Path(next(iter(spec.submodule_search_locations)))
    path = folder / rest
    if not rest.endswith(".gguf") or not path.is_file():
        held = ", ".join(sorted(entry.name for entry in folder.glob("*.gguf"))) or "none"
        raise PlanError(f"`{package}` has no file `{rest}`", hint=f"its .gguf files: {held}")
    return path


def _folder(path: Path, name: str) -> ModelSource:
    if not (path / "config.json").is_file():
        ggufs = sorted(entry.name for entry in path.glob("*.gguf"))
        hint = f"name the file: {name}/{ggufs[0]}" if ggufs else "a model folder has a config.json"
        raise PlanError(f"`{name}` is a folder without config.json", hint=hint)
    return ModelSource("folder", path, f"folder:sha256:{fingerprint_folder(path)}")


def fingerprint_folder(folder: Path) -> str:
    """Return a digest of config and weights that reads 256 KiB of each weight file, not all of it.

    Of each file: name, size, the first 64 KiB (a safetensors header) and 48 blocks of 4 KiB evenly
    spread; other weights of the same shapes give another digest, in the time of a few seeks.
    """
    digest = hashlib.sha256()
    weights = sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".bin"))
    for path in [folder / "config.json", *weights]:
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(64 * 1024))
            for block in range(48):
                file.seek(size * block // 48)
                digest.update(file.read(4096))
    return digest.hexdigest()


def _hub(name: str, revision: str, path: Path) -> ModelSource:
    folder = Path(download(name, revision, CONFIG_FILES, path))
    commit = folder.name
    return ModelSource("hub", folder, f"hub:{name}@{commit}", hub_id=name, revision=commit)


def download(name: str, revision: str, patterns: list[str], looked_at: Path | None = None) -> str:
    """Return the local snapshot of a hub repository's files that match `patterns`.

    Raises:
        PlanError: not in the cache and the hub cannot be reached, or there is no such repository.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    local = f"; no such local folder either ({looked_at})" if looked_at else ""
    failures: dict[type[Exception], tuple[str, str]] = {
        GatedRepoError: (f"`{name}` is gated", "accept its terms on the hub, then `hf auth login`"),
        RepositoryNotFoundError: (f"the hub has no model `{name}`{local}", _NAME_HINT),
        RevisionNotFoundError: (f"`{name}` has no revision `{revision}`", "see its branches and tags"),
        LocalEntryNotFoundError: (f"`{name}` is not in the local cache and the hub cannot be "
                                  f"reached{local}", _OFFLINE_HINT),
    }
    try:
        return snapshot_download(name, revision=revision, allow_patterns=patterns, etag_timeout=10)
    except (*failures, HfHubHTTPError, OSError, ValueError) as error:
        for kind, (message, hint) in failures.items():
            if isinstance(error, kind):
                raise PlanError(message, hint=hint) from error
        reason = str(error).strip().split("\n")[0]
        raise PlanError(f"`{name}` cannot be fetched: {reason}", hint=_OFFLINE_HINT) from error


_OFFLINE_HINT = (
    "connect once, or name a local folder or .gguf file; HF_HUB_OFFLINE=1 says not to try the network"
)

