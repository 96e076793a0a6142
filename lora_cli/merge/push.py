"""A finished folder → a repository on the hub: what would be sent, and sending just that.

One commit holds all files. Nothing is asked of the network before `send`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lora_cli.errors import MergeError, PushError
from lora_cli.merge.adapter_config import CONFIG as ADAPTER_CONFIG
from lora_cli.merge.model_card import CARD, Card, card_for, own_card
from lora_cli.merge.named_base import base_of, paths_told
from lora_cli.merge.output import MODELFILE, REPORT
from lora_cli.words import counted, reason_of

_PLACE_OF_BASE = re.compile(r'^FROM "+/.*"+\n(?=ADAPTER )', re.MULTILINE)
"""Of an adapter; a model's own file stands beside its Modelfile."""
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
    card_of: Literal["folder", "run", "made"] = "folder"
    """Whose card it is; the folder stays as it is."""
    rewritten: dict[str, str] = field(default_factory=dict, repr=False)
    """Texts beside the card that are sent in place of the folder's own, by name."""
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
        card = card_for(source, repository)
        rewritten = _for_other_machines(source)
        notes = _notes(source, card, rewritten)
    except (MergeError, ValueError) as error:
        raise PushError(f"cannot be read: {reason_of(error)}", str(source)) from error
    files = {name: (source / name).stat().st_size for name in _files(source)}
    made = {CARD: card.text, **rewritten}
    files |= {name: len(text.encode()) for name, text in made.items()}
    return Upload(
        folder=str(source),
        repository=repository,
        private=private,
        revision=revision,
        files=dict(sorted(files.items())),
        card=card.text,
        card_of=card.whose,
        rewritten=rewritten,
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
    """Return the names of all files, hidden ones and a merge's report left out."""
    names = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(
        name.as_posix()
        for name in names
        if name.as_posix() != REPORT and not any(part.startswith(".") for part in name.parts)
    )


def _for_other_machines(folder: Path) -> dict[str, str]:
    """Return an adapter's Modelfile without the place of its base on this machine."""
    file = folder / MODELFILE
    text = file.read_text("utf-8") if file.is_file() else ""
    elsewhere = _PLACE_OF_BASE.sub("FROM ./BASE.gguf\n", text, count=1)
    return {MODELFILE: elsewhere} if elsewhere != text else {}


def _notes(folder: Path, card: Card, rewritten: dict[str, str]) -> list[str]:
    base = base_of(folder)
    notes = []
    if base.is_path:
        notes.append(f"the base is a path on this machine, which nobody else has: {base.name}")
    elif base.in_package:
        notes.append(f"the base is in a Python package, and the hub does not have it: {base.name}")
    if base.made_from:
        notes.append(
            f"the run's own base is not sent, and on any other, {base.made_from} too, the adapter "
            "is another model: `loracli merge` makes one that needs no base"
        )
    notes += [told for told in paths_told(folder) if not told.endswith(f": {base.name}")]
    if MODELFILE in rewritten:
        notes.append(f"{MODELFILE} is sent with `FROM ./BASE.gguf`, and not with your path")
    if (folder / REPORT).is_file():
        notes.append(f"{REPORT} stays here: it names folders of this machine")
    if (folder / CARD).is_file() and not own_card(folder):
        notes.append(f"the folder's {CARD} is peft's empty form: it is not sent")
    if card.whose == "run":
        notes.append("in the run's card, what it says of loading is made for the hub")
    return notes


def send(upload: Upload) -> str:
    """Send what was planned in one commit; return the address of what came of it.

    Raises:
        PushError: no token, no network, or the hub does not take it.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    folder = Path(upload.folder)
    made = {CARD: upload.card, **upload.rewritten}
    operations = [
        CommitOperationAdd(name, made[name].encode() if name in made else str(folder / name))
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
