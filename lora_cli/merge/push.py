"""A finished folder → a repository on the hub: what would be sent, and sending just that.

One commit holds all files. Nothing is asked of the network before `send`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from lora_cli.errors import MergeError, PushError
from lora_cli.merge.adapter_config import CONFIG as ADAPTER_CONFIG
from lora_cli.merge.model_card import CARD, base_named, hub_base, model_card
from lora_cli.words import counted, reason_of

LOGIN = (
    "make a token that may write at https://huggingface.co/settings/tokens, then `hf auth login`"
)


@dataclass(frozen=True)
class Upload:
    """What is sent, and where to."""

    folder: str
    repository: str
    private: bool
    revision: str
    files: dict[str, int]
    """Sizes in bytes by name, the card's among them."""
    card: str = field(repr=False)
    card_is_new: bool = False
    """The folder has no card, so one is made for the hub; the folder stays as it is."""
    notes: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Return how many bytes are sent."""
        return sum(self.files.values())


def plan_upload(folder: Path, repository: str, *, private: bool, revision: str) -> Upload:
    """Return what would be sent; a run directory's adapter, where `folder` is one.

    Raises:
        PushError: the folder holds no model and no adapter, or the repository's name is none.
    """
    _check_name(repository)
    source = _source(folder)
    try:
        card_file = source / CARD
        card = card_file.read_text("utf-8") if card_file.is_file() else ""
        made = card or model_card(source, repository)
        notes = _notes(source)
    except (MergeError, ValueError) as error:
        raise PushError(f"cannot be read: {reason_of(error)}", str(source)) from error
    files = {name: (source / name).stat().st_size for name in _files(source)}
    files[CARD] = len(made.encode())
    return Upload(
        folder=str(source),
        repository=repository,
        private=private,
        revision=revision,
        files=dict(sorted(files.items())),
        card=made,
        card_is_new=not card,
        notes=notes,
    )


def _check_name(repository: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repository)
        valid = repository.count("/") == 1
    except HFValidationError:
        valid = False
    if not valid:
        raise PushError(f"`{repository}` is no name of a repository", hint="write owner/name")


def _source(folder: Path) -> Path:
    for each in (folder, folder / "adapter"):
        marks = (each / "config.json", each / ADAPTER_CONFIG)
        if any(mark.is_file() for mark in marks) or any(each.glob("*.gguf")):
            return each
    hint = "name a run directory, an adapter's folder, or what merge or export wrote"
    raise PushError("holds no model and no adapter", str(folder), hint)


def _files(folder: Path) -> list[str]:
    """Return the names of all files, hidden ones left out."""
    names = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(
        name.as_posix() for name in names if not any(part.startswith(".") for part in name.parts)
    )


def _notes(folder: Path) -> list[str]:
    base = base_named(folder)
    if not base or hub_base(folder):
        return []
    return [f"the base is a path on this machine, which nobody else has: {base}"]


def send(upload: Upload) -> str:
    """Send what was planned in one commit; return the address of what came of it.

    Raises:
        PushError: no token, no network, or the hub does not take it.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    folder = Path(upload.folder)
    operations = [
        CommitOperationAdd(name, upload.card.encode() if name == CARD else str(folder / name))
        for name in upload.files
    ]
    api = HfApi()
    try:
        api.create_repo(upload.repository, private=upload.private, exist_ok=True)
        if upload.revision != "main":
            api.create_branch(upload.repository, branch=upload.revision, exist_ok=True)
        done = api.create_commit(
            upload.repository,
            operations,
            commit_message=f"Upload {counted(len(operations), 'file')} with loracli",
            revision=upload.revision,
        )
    except Exception as error:  # each version of the library has its own
        raise _failure(upload, error) from error
    return str(done.commit_url)


def _failure(upload: Upload, error: Exception) -> PushError:
    from huggingface_hub import errors

    from lora_cli.facts.hub import is_network_error

    place = upload.repository
    if isinstance(error, errors.LocalTokenNotFoundError):
        return PushError("no token of the hub is on this machine", place, LOGIN)
    if is_network_error(error):
        hint = "connect, or unset HF_HUB_OFFLINE; sending again goes on from what is there"
        return PushError("the hub cannot be reached", place, hint)
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return PushError(f"the hub does not let this token write: {reason_of(error)}", place, LOGIN)
    return PushError(f"the hub did not take it: {reason_of(error)}", place)
