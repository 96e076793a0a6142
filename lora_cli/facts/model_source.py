"""A model's name in a recipe → the local folder that holds its config and tokenizer.

Four kinds of name: a hub id, a local folder, a `.gguf` file, and `package://module/file.gguf` or
`package://module/folder` (a model inside an installed Python package, which is never imported).
Weights are only hashed here.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lora_cli.errors import PlanError
from lora_cli.facts.cache import cached_sha256, sampled_sha256
from lora_cli.facts.gguf import describe_gguf
from lora_cli.facts.hub import CONFIG_FILES, download, find_on_hub
from lora_cli.facts.nearby import with_name_from_here

__all__ = ["CONFIG_FILES", "ModelSource", "Weights", "download", "find_model"]

READ_WHOLE_BYTES = 1 << 30
PACKAGE_PREFIX = "package://"
Weights = Literal["safetensors", "pickle", "gguf", "none"]

_NAME_HINT = (
    "a model is a hub id (owner/name), a folder, a .gguf file, or package://module/file.gguf"
)


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where a base model is.

    `folder` holds config and tokenizer; weights are there too, or are put there by `model`.
    """

    kind: Literal["hub", "folder", "gguf"]
    folder: Path
    fingerprint: str
    """What the model is, wherever it lies: equal fingerprints, equal weights."""
    weights: Weights
    gguf: Path | None = None
    hub_id: str = ""
    revision: str = ""
    """The commit, for a model on the hub."""
    evidence: str = ""
    """How a hub revision became its commit."""


def find_model(
    name: str, *, revision: str | None, base_dir: Path, fingerprint: bool = True
) -> ModelSource:
    """Return where the model is; local names are relative to `base_dir`.

    Without a `fingerprint` it is found at once, however large: it then has none, or one that rests
    on samples of its file.

    Raises:
        PlanError: there is no such model, or the hub cannot be reached.
    """
    try:
        return _find(name, revision or "main", base_dir, fingerprint)
    except PlanError as error:
        problems = with_name_from_here(error.problems, name, base_dir)
        raise PlanError.from_problems(problems) from error
    except (OSError, RuntimeError, ValueError) as error:
        # no permission, a name too long for any file system, a `~user` that does not exist
        reason = getattr(error, "strerror", None) or str(error)
        raise PlanError(f"the model `{name[:200]}` cannot be opened: {reason}") from error


def _find(name: str, revision: str, base_dir: Path, whole: bool) -> ModelSource:
    if name.startswith(PACKAGE_PREFIX):
        inside = _inside_package(name)
        return _folder(inside, name, whole) if inside.is_dir() else _gguf(inside, name, whole)
    path = (base_dir / Path(name).expanduser()).resolve()
    if name.endswith(".gguf"):
        return _gguf(path, name, whole)
    if path.is_dir():
        return _folder(path, name, whole)
    if name.startswith((".", "/", "~")) or name.count("/") != 1 or ":" in name or path.is_file():
        raise _absent(name, path)
    return _hub(name, revision, path)


def _absent(name: str, path: Path) -> PlanError:
    scheme, is_address, rest = name.partition(":/")
    if is_address:
        meant = difflib.get_close_matches(scheme, ["package"])
        hint = f"did you mean `{PACKAGE_PREFIX}{rest.lstrip('/')}`? " if meant else ""
        message = f"`{name}` is an address; models are not read from addresses"
        return PlanError(message, hint=hint + _NAME_HINT)
    if path.is_file():
        inside = (path.parent / "config.json").is_file()
        hint = f"name its folder, `{Path(name).parent}`" if inside else _NAME_HINT
        return PlanError(f"`{name}` is a file, but not a .gguf file", hint=hint)
    if path.exists():
        raise PlanError(f"`{name}` is neither a folder nor a .gguf file", hint=_NAME_HINT)
    folders = [entry.name for entry in _entries(path.parent) if entry.is_dir()]
    near = difflib.get_close_matches(path.name, folders, n=1)
    hint = f"did you mean `{Path(name).parent / near[0]}`?" if near else _NAME_HINT
    return PlanError(f"there is no model `{name}`: {path} does not exist", hint=hint)


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _gguf(path: Path, name: str, whole: bool) -> ModelSource:
    if not path.is_file():
        raise _absent(name, path)
    digest = cached_sha256(path) if whole else _digest_of(path).replace(":", "-")
    folder = describe_gguf(path, digest)
    return ModelSource("gguf", folder, f"gguf:sha256:{digest}", "gguf", gguf=path)


def _inside_package(name: str) -> Path:
    package, _, rest = name.removeprefix(PACKAGE_PREFIX).partition("/")
    if not package:
        raise PlanError(f"`{name}` names no Python package", hint=_NAME_HINT)
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        module = package.replace("-", "_")
        there = module != package and module.isidentifier() and importlib.util.find_spec(module)
        hint = f"pip install the package that holds it (`{package.replace('_', '-')}`?)"
        if there:
            hint = f"did you mean `{PACKAGE_PREFIX}{module}/{rest}`?"
        raise PlanError(f"no Python package `{package}` is installed, for `{name}`", hint=hint)
    folder = Path(next(iter(spec.submodule_search_locations)))
    path = folder / rest
    is_gguf, is_folder = rest.endswith(".gguf") and path.is_file(), rest and path.is_dir()
    if not (is_gguf or is_folder):
        models = [*folder.rglob("*.gguf"), *(each.parent for each in folder.rglob("config.json"))]
        held = ", ".join(sorted(str(each.relative_to(folder)) for each in models))
        message = f"the package `{package}` holds no file `{rest}`"
        raise PlanError(message, hint=f"models in it: {held or 'none'}")
    return path


def _folder(path: Path, name: str, whole: bool) -> ModelSource:
    if not (path / "config.json").is_file():
        ggufs = sorted(entry.name for entry in path.glob("*.gguf"))
        hint = f"name the file: {name}/{ggufs[0]}" if ggufs else "a model folder has a config.json"
        raise PlanError(f"`{name}` is a folder without config.json", hint=hint)
    weights = weights_kind(entry.name for entry in path.iterdir())
    fingerprint = f"folder:sha256:{fingerprint_folder(path)}" if whole else ""
    return ModelSource("folder", path, fingerprint, weights)


def fingerprint_folder(folder: Path) -> str:
    """Return a digest of a model's config and weights, whatever the folder is called.

    Files up to 1 GiB are read whole, once for each change of theirs; larger ones are sampled, so
    that planning for a 70B model takes no longer than a look at it.
    """
    weights = sorted(entry for entry in folder.iterdir() if _kind_of(entry.name) != "none")
    files = [folder / "config.json", *weights]
    with ThreadPoolExecutor() as pool:
        digests = pool.map(_digest_of, files)
        lines = [f"{file.name} {digest}\n" for file, digest in zip(files, digests, strict=True)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _digest_of(file: Path) -> str:
    whole = file.stat().st_size <= READ_WHOLE_BYTES
    return cached_sha256(file) if whole else sampled_sha256(file)


def weights_kind(names: Iterable[str]) -> Weights:
    """Return the kind of weights that transformers would read among these files."""
    kinds = {_kind_of(name) for name in names}
    return "safetensors" if "safetensors" in kinds else "pickle" if "pickle" in kinds else "none"


def _kind_of(name: str) -> Weights:
    if name.endswith(".safetensors"):
        return "safetensors" if name.startswith("model") else "none"
    return "pickle" if name.startswith("pytorch_model") and name.endswith(".bin") else "none"


def _hub(name: str, revision: str, path: Path) -> ModelSource:
    found = find_on_hub(name, revision, also=f"; no such local folder either ({path})")
    return ModelSource(
        kind="hub",
        folder=found.folder,
        fingerprint=f"hub:{name}@{found.commit}",
        weights=weights_kind(found.files),
        hub_id=name,
        revision=found.commit,
        evidence=found.evidence,
    )
