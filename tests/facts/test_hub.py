"""Hub ids: pinned to a commit, out of the cache where the network is of no help, never slowly."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants, errors

from lora_cli.errors import PlanError
from lora_cli.facts.hub import download, find_on_hub
from lora_cli.facts.model_source import find_model

MAIN, OTHER = "1" * 40, "2" * 40
OFFLINE = "is not in the local cache and HF_HUB_OFFLINE is set"
UNREACHED = "is not in the local cache and the hub cannot be reached"


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache that holds two revisions of `owner/name`."""
    repository = tmp_path / "hub/models--owner--name"
    for branch, commit in (("main", MAIN), ("dev", OTHER)):
        snapshot = repository / "snapshots" / commit
        snapshot.mkdir(parents=True)
        (snapshot / "config.json").write_text(f'{{"branch": "{branch}"}}')
        (snapshot / "model.safetensors").touch()
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / branch).write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return repository


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A hub that answers what the test puts here: an `answer`, or an `error` to raise."""
    hub: dict[str, Any] = {"asked": []}

    def model_info(_self: Any, name: str, **options: Any) -> Any:
        hub["asked"].append((name, options))
        if "error" in hub:
            raise hub["error"]
        return hub["answer"]

    def fetch(name: str, *, revision: str, local_files_only: bool = False, **_: Any) -> str:
        return str(Path(constants.HF_HUB_CACHE) / f"models--owner--name/snapshots/{revision}")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    hub["fetch"] = lambda: monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    return hub


def response(status: int) -> Any:
    return SimpleNamespace(status_code=status, headers={}, request=None, text="")


def problem_of(name: str = "owner/name", revision: str = "main") -> tuple[str, str]:
    with pytest.raises(PlanError) as caught:
        find_on_hub(name, revision)
    (problem,) = caught.value.problems
    return problem.message, problem.hint


@pytest.mark.parametrize(("revision", "commit"), [("main", MAIN), ("dev", OTHER), (OTHER, OTHER)])
def test_offline_a_revision_is_what_the_cache_has(cached: Path, revision: str, commit: str) -> None:
    found = find_on_hub("owner/name", revision)
    assert (found.commit, found.folder) == (commit, cached / "snapshots" / commit)
    assert sorted(found.files) == ["config.json", "model.safetensors"]
    assert found.evidence == f"`{revision}` in the local cache"


def test_a_source_on_the_hub_is_its_commit(cached: Path, tmp_path: Path) -> None:
    source = find_model("owner/name", revision="dev", base_dir=tmp_path)
    assert (source.kind, source.hub_id, source.revision) == ("hub", "owner/name", OTHER)
    assert source.fingerprint == f"hub:owner/name@{OTHER}"
    assert source.weights == "safetensors"


def test_offline_the_network_is_not_tried(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*_: Any) -> None:
        raise AssertionError("the network was tried")

    monkeypatch.setattr(socket.socket, "connect", connect)
    assert find_on_hub("owner/name", "main").commit == MAIN
    assert problem_of("owner/other")[0] == f"`owner/other` {OFFLINE}"
    assert problem_of(revision="no-such-branch")[0] == f"`owner/name` {OFFLINE}"


def test_online_the_hub_pins_the_revision(cached: Path, online: dict[str, Any]) -> None:
    files = [SimpleNamespace(rfilename=name) for name in ("config.json", "pytorch_model.bin")]
    online["answer"] = SimpleNamespace(sha=OTHER, siblings=files)
    online["fetch"]()
    found = find_on_hub("owner/name", "main")
    assert (found.commit, found.folder.name) == (OTHER, OTHER)
    assert found.files == ("config.json", "pytorch_model.bin")
    assert found.evidence == "`main` on the hub"
    assert online["asked"] == [("owner/name", {"revision": "main", "timeout": 2.0})]


def test_the_patience_can_be_set(
    cached: Path, online: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "30")
    online["error"] = errors.OfflineModeIsEnabled("")
    find_on_hub("owner/name", "main")
    assert online["asked"][0][1]["timeout"] == 30


@pytest.mark.parametrize("error", [ConnectionError("refused"), RuntimeError("anything")])
def test_a_hub_that_fails_leaves_what_the_cache_has(
    cached: Path, online: dict[str, Any], error: Exception
) -> None:
    online["error"] = error
    assert find_on_hub("owner/name", "main").evidence == "`main` in the local cache"


@pytest.mark.parametrize(
    ("error", "message", "hint"),
    [
        (errors.GatedRepoError("", response=response(403)), "`a/b` is gated", "accept its terms"),
        (
            errors.RepositoryNotFoundError("", response=response(404)),
            "the hub has no model `a/b`",
            "check the spelling",
        ),
        (
            errors.RevisionNotFoundError("", response=response(404)),
            "`a/b` has no revision `main`",
            "its branches and tags",
        ),
        (errors.OfflineModeIsEnabled(""), f"`a/b` {UNREACHED}", "connect once"),
        (OSError(28, "No space left on device"), "`a/b` cannot be fetched: [Errno 28]", "connect"),
    ],
)
def test_each_failure_has_its_own_words(
    cached: Path, online: dict[str, Any], error: Exception, message: str, hint: str
) -> None:
    online["error"] = error
    found = problem_of("a/b")
    assert found[0].startswith(message)
    assert found[1].startswith(hint)


def test_a_name_that_is_none() -> None:
    assert problem_of("a b/c d")[0] == "`a b/c d` is no name of a hub model"


def test_weights_that_cannot_be_fetched(cached: Path) -> None:
    with pytest.raises(PlanError, match=f"`owner/other` {OFFLINE}"):
        download("owner/other", "main", ["*.safetensors"])
    assert download("owner/name", MAIN, ["*.json"]) == str(cached / "snapshots" / MAIN)


@pytest.fixture
def silent_server() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_hub_that_never_answers_costs_two_seconds(silent_server: str, tmp_path: Path) -> None:
    code = (
        "import time; from pathlib import Path; from lora_cli.errors import PlanError\n"
        "import huggingface_hub.hf_api, huggingface_hub.errors\n"
        "from lora_cli.facts.model_source import find_model\n"
        "start = time.perf_counter()\n"
        "try: find_model('a/b', revision=None, base_dir=Path('/'))\n"
        "except PlanError as error: print(f'{time.perf_counter() - start:.2f} {error}')\n"
    )
    environment = {
        key: value
        for key, value in os.environ.items()
        if key not in ("HF_HUB_OFFLINE", "HF_HUB_ETAG_TIMEOUT") and "proxy" not in key.lower()
    }
    environment |= {"HF_ENDPOINT": silent_server, "HF_HOME": str(tmp_path)}
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )
    assert time.perf_counter() - started < 30
    assert done.stderr == ""
    seconds, _, message = done.stdout.partition(" ")
    assert 1.5 < float(seconds) < 4
    assert message.startswith(f"`a/b` {UNREACHED}")
    assert done.stdout.count("\n") == 1
