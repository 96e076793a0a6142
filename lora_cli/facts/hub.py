"""A hub id → its files in the local cache; one short try of the network, never a stack of retries.

A pinned commit, or a model whose hub cannot be reached, comes out of the cache if it is there.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from lora_cli.errors import PlanError
from lora_cli.words import reason_of

CONFIG_FILES = ["*.json", "*.jinja", "*.model", "*.txt", "*.py"]
CONNECT_SECONDS = 2.0
"""How long the hub may take to answer; `HF_HUB_ETAG_TIMEOUT` says otherwise."""

_OFFLINE_HINT = (
    "connect once, or name a local folder or a .gguf file; with HF_HUB_OFFLINE=1 the network is "
    "not tried"
)


@dataclass(frozen=True, slots=True)
class HubModel:
    """One revision of a hub repository, its config and tokenizer in `folder`."""

    folder: Path
    commit: str
    files: tuple[str, ...]
    """Names of all its files; those of the cache if the hub was not asked."""
    evidence: str
    """How the revision became this commit."""


def find_on_hub(name: str, revision: str, *, also: str = "") -> HubModel:
    """Return the model's revision, pinned to its commit; weights are not fetched.

    Raises:
        PlanError: there is no such model or revision, it may not be read, or it is not in the
            cache and the hub cannot be reached. `also` is added to what is said then.
    """
    from huggingface_hub.constants import HF_HUB_OFFLINE

    if HF_HUB_OFFLINE:
        return _cached(name, revision, None, also)
    try:
        commit, files = _ask(name, revision)
    except Exception as error:  # noqa: BLE001  # each version of the library has its own
        return _cached(name, revision, error, also)
    folder = Path(download(name, commit, CONFIG_FILES))
    return HubModel(folder, commit, files, f"`{revision}` on the hub")


def download(name: str, revision: str, patterns: list[str]) -> str:
    """Return the local snapshot of a hub repository, with the files that match `patterns`.

    Raises:
        PlanError: not in the cache and the hub cannot be reached, or there is no such repository.
    """
    from huggingface_hub import snapshot_download

    try:
        return str(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except Exception as error:  # each version of the library has its own network errors
        raise _failure(name, revision, error, "") from error


def _ask(name: str, revision: str) -> tuple[str, tuple[str, ...]]:
    """Return the commit and the files of a revision, as the hub has them now."""
    from huggingface_hub import HfApi, constants

    # its telemetry would first ask for a list of its own, and wait 3 s more for that
    constants.HF_HUB_DISABLE_TELEMETRY = True
    timeout = float(os.environ.get("HF_HUB_ETAG_TIMEOUT") or CONNECT_SECONDS)
    info = HfApi().model_info(name, revision=revision, timeout=timeout)
    return str(info.sha), tuple(sibling.rfilename for sibling in info.siblings or ())


def _cached(name: str, revision: str, failure: Exception | None, also: str) -> HubModel:
    """Return the revision as the cache has it.

    Raises:
        PlanError: it is not there; `failure` is why the hub was of no help.
    """
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(name, revision=revision, local_files_only=True)
    except (OSError, ValueError) as error:
        raise _failure(name, revision, failure or error, also) from error
    folder = Path(found)
    files = tuple(entry.name for entry in folder.iterdir())
    return HubModel(folder, folder.name, files, f"`{revision}` in the local cache")


def _failure(name: str, revision: str, error: Exception, also: str) -> PlanError:
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        hint = "accept its terms on the hub, then `hf auth login`"
        return PlanError(f"`{name}` is gated", hint=hint)
    if isinstance(error, errors.RepositoryNotFoundError):
        message = f"the hub has no model `{name}`{also}"
        return PlanError(message, hint="check the spelling; a private model needs `hf auth login`")
    if isinstance(error, errors.RevisionNotFoundError):
        hint = "its branches and tags are on its page on the hub"
        return PlanError(f"`{name}` has no revision `{revision}`", hint=hint)
    if isinstance(error, errors.HFValidationError):
        return PlanError(f"`{name}` is no name of a hub model{also}", hint="write owner/name")
    if is_network_error(error):
        message = f"`{name}` is not in the local cache and {why_no_hub()}{also}"
        return PlanError(message, hint=_OFFLINE_HINT)
    return PlanError(f"`{name}` cannot be fetched: {reason_of(error)}", hint=_OFFLINE_HINT)


def why_no_hub() -> str:
    """Return why the hub has not answered: with HF_HUB_OFFLINE=1 it is not asked."""
    from huggingface_hub.constants import HF_HUB_OFFLINE

    return "HF_HUB_OFFLINE is set" if HF_HUB_OFFLINE else "the hub cannot be reached"


def is_network_error(error: Exception) -> bool:
    """Return whether an error says that the hub could not be asked, or not in this mode."""
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    library = type(error).__module__.partition(".")[0]
    offline = isinstance(error, LocalEntryNotFoundError | OfflineModeIsEnabled)
    return offline or library in {"httpx", "httpx2", "requests"}
