"""A data set of the hub → local files: prepared by `datasets`, or as they lie in its repository.

One short try of the network, as for models; what is in the cache is used where the hub cannot be
reached, and HF_HUB_OFFLINE=1 does not try.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_cli.errors import MissingDependencyError, PlanError
from lora_cli.facts.hub import CONNECT_SECONDS, is_network_error, why_no_hub
from lora_cli.words import reason_of

PREFIX = "hf://datasets/"
_NAME = re.compile(r"(\w[\w.-]*/\w[\w.-]*)(?:@([\w.-]+))?(?:/(.+))?")
_OFFLINE_HINT = (
    "connect once, or name a local file or folder; with HF_HUB_OFFLINE=1 the network is not tried"
)


@dataclass(frozen=True, slots=True)
class HubData:
    """A name on the hub: `owner/name`, `owner/name@revision`, with what is meant inside of it."""

    repository: str
    revision: str | None
    inside: str = ""

    def __str__(self) -> str:
        return self.repository + (f"@{self.revision}" if self.revision else "")


def hub_data(name: str) -> HubData | None:
    """Return what a name means on the hub; None if it cannot be one.

    Only with `hf://datasets/` before it can it go on to a file, a folder or a pattern.
    """
    match = _NAME.fullmatch(name.removeprefix(PREFIX))
    if match is None or (match[3] and not name.startswith(PREFIX)):
        return None
    return HubData(match[1], match[2], match[3] or "")


def prepared_files(data: HubData, subset: str | None, split: str) -> tuple[Path, ...]:
    """Return the Arrow files of one split, as the package `datasets` keeps them in its cache.

    Raises:
        PlanError: no such data set, subset or split; not in the cache and no hub in reach.
        MissingDependencyError: `datasets` is not installed.
    """
    datasets = _library()
    unreachable = _unreachable(data)
    try:
        with _offline(datasets, unreachable):
            table = datasets.load_dataset(
                PREFIX + data.repository, subset, split=split, revision=data.revision
            )
    except Exception as error:  # each version of the library has its own
        raise _failure(data, unreachable or error, error) from error
    files = tuple(Path(each["filename"]) for each in table.cache_files)
    if unreachable and data.revision not in {None, files[0].parent.name}:
        message = f"the cache cannot tell whether it has `{data}`"
        hint = f"leave the revision out for what it has: {files[0].parent.name}"
        raise PlanError(message, hint=hint)
    return files


def repository_folder(data: HubData) -> Path:
    """Return the local folder of a repository's files, with those fetched that are meant.

    Raises:
        PlanError: no such data set or revision; not in the cache and no hub in reach.
    """
    from huggingface_hub import snapshot_download

    unreachable = _unreachable(data)
    try:
        folder = snapshot_download(
            data.repository,
            repo_type="dataset",
            revision=data.revision,
            allow_patterns=[data.inside, f"{data.inside}/*"],
            local_files_only=unreachable is not None,
        )
    except Exception as error:  # each version of the library has its own
        raise _failure(data, unreachable or error, error) from error
    return Path(folder)


def _library() -> Any:
    try:
        import datasets
    except ImportError as error:
        message = "data sets of the hub need the package datasets"
        raise MissingDependencyError(message, hint="pip install 'loracli[hub]'") from error
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    return datasets


def _unreachable(data: HubData) -> Exception | None:
    """Return why the hub cannot be asked, or None if it can.

    Raises:
        PlanError: it answers that there is no such data set.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import OfflineModeIsEnabled

    if constants.HF_HUB_OFFLINE:
        return OfflineModeIsEnabled("HF_HUB_OFFLINE is set")
    timeout = float(os.environ.get("HF_HUB_ETAG_TIMEOUT") or CONNECT_SECONDS)
    try:
        HfApi().dataset_info(data.repository, revision=data.revision, timeout=timeout)
    except Exception as error:
        if is_network_error(error):
            return error
        raise _failure(data, error, error) from error
    return None


@contextmanager
def _offline(datasets: Any, unreachable: Exception | None) -> Iterator[None]:
    """Keep the library from trying a hub that cannot be reached, again and again."""
    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = before or unreachable is not None
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before


def _failure(data: HubData, reason: Exception, error: Exception) -> PlanError:
    """Return the error; `reason` is why the hub is of no help, `error` what the library says."""
    said = reason_of(error)
    for sign, field in (("split", "split"), ("onfig", "subset")):
        if isinstance(error, ValueError) and sign in said:
            return PlanError(f"the data set `{data}`: {said}", hint=f"name one with `{field}`")
    return _refusal(data, reason) or _no_answer(data, reason, said)


def _refusal(data: HubData, reason: Exception) -> PlanError | None:
    """Return what the hub answers, if it does."""
    from huggingface_hub import errors

    if isinstance(reason, errors.GatedRepoError):
        hint = "accept its terms on the hub, then `hf auth login`"
        return PlanError(f"the data set `{data}` is gated", hint=hint)
    if isinstance(reason, errors.RepositoryNotFoundError):
        hint = "check the spelling; a private one needs `hf auth login`"
        return PlanError(f"the hub has no data set `{data.repository}`", hint=hint)
    if isinstance(reason, errors.RevisionNotFoundError):
        hint = "its branches and tags are on its page on the hub"
        return PlanError(f"`{data.repository}` has no revision `{data.revision}`", hint=hint)
    return None


def _no_answer(data: HubData, reason: Exception, said: str) -> PlanError:
    if is_network_error(reason):
        message = f"the data set `{data}` is not in the local cache and {why_no_hub()}"
        return PlanError(message, hint=_OFFLINE_HINT)
    return PlanError(f"the data set `{data}` cannot be fetched: {said}", hint=_OFFLINE_HINT)
