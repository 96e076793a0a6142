"""`loracli push`: shown first, sent with --yes alone, in one commit; no test asks the network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors as hub_errors

from tests.merge.conftest import Call

ADAPTER = {"peft_type": "LORA", "r": 4, "base_model_name_or_path": "owner/base"}


class FakeApi:
    """Stands for the hub: remembers what it is asked, or fails as it is told."""

    calls: list[tuple[str, Any]]
    failure: Exception | None = None

    def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> None:
        if self.failure:
            raise self.failure
        self.calls.append(("create_repo", (name, private, exist_ok)))

    def create_branch(self, name: str, *, branch: str, exist_ok: bool) -> None:
        self.calls.append(("create_branch", (name, branch, exist_ok)))

    def create_commit(
        self, name: str, operations: list[Any], *, commit_message: str, revision: str
    ) -> Any:
        files = {each.path_in_repo: _content(each.path_or_fileobj) for each in operations}
        self.calls.append(("create_commit", (name, files, commit_message, revision)))
        return SimpleNamespace(commit_url=f"https://huggingface.co/{name}/commit/1")


def _content(given: Any) -> bytes:
    return given if isinstance(given, bytes) else Path(given).read_bytes()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> type[FakeApi]:
    monkeypatch.setattr(FakeApi, "calls", [], raising=False)
    monkeypatch.setattr(FakeApi, "failure", None)
    monkeypatch.setattr(huggingface_hub, "HfApi", FakeApi)
    return FakeApi


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return a run directory with an adapter, and things that are not for the hub."""
    adapter = tmp_path / "run" / "adapter"
    adapter.mkdir(parents=True)
    (adapter / "adapter_config.json").write_text(json.dumps(ADAPTER))
    (adapter / "adapter_model.safetensors").write_bytes(bytes(1500))
    (adapter / ".hidden").touch()
    (tmp_path / "run" / "answers.jsonl").touch()
    return tmp_path / "run"


def test_without_yes_it_is_shown_and_nothing_is_sent(
    run: Path, hub: type[FakeApi], loracli: Call
) -> None:
    code, output, errors = loracli("push", run, "me/tuned")
    assert (code, errors) == (0, "")
    assert f"to send   3 files, 1.9 kB, of {run}/adapter\n" in output
    assert "to        me/tuned, branch main (public if it is made now)\n" in output
    assert "  adapter_model.safetensors  1.5 kB\n" in output
    assert (
        "model card (made now: the folder has none of its own)\n  ---\n  library_name: peft\n"
        in output
    )
    assert "  … " in output
    assert "nothing was sent: --yes sends it" in output
    assert ".hidden" not in output
    assert "answers" not in output
    assert hub.calls == []
    assert not (run / "adapter" / "README.md").exists()


def test_with_yes_all_goes_in_one_commit(run: Path, hub: type[FakeApi], loracli: Call) -> None:
    code, output, _ = loracli("push", run, "me/tuned", "--private", "--yes")
    assert code == 0
    assert "sent: https://huggingface.co/me/tuned/commit/1" in output
    created, committed = hub.calls
    assert created == ("create_repo", ("me/tuned", True, True))
    name, files, message, revision = committed[1]
    assert (name, message, revision) == ("me/tuned", "Upload 3 files with loracli", "main")
    assert files.keys() == {"README.md", "adapter_config.json", "adapter_model.safetensors"}
    assert files["adapter_model.safetensors"] == bytes(1500)
    assert files["README.md"].startswith(b"---\nlibrary_name: peft\n")


def test_a_branch_is_made_and_the_folder_s_own_card_is_kept(
    run: Path, hub: type[FakeApi], loracli: Call
) -> None:
    (run / "adapter" / "README.md").write_text("# Mine\n")
    arguments = ["push", run / "adapter", "me/tuned", "--revision", "second", "--yes", "--json"]
    code, output, _ = loracli(*arguments)
    assert code == 0
    told = json.loads(output)
    assert (told["sent"], told["card_of"], told["card"]) == (True, "folder", "# Mine\n")
    assert told["url"] == "https://huggingface.co/me/tuned/commit/1"
    assert told["bytes"] == sum(told["files"].values())
    assert hub.calls[1] == ("create_branch", ("me/tuned", "second", True))
    assert hub.calls[2][1][1]["README.md"] == b"# Mine\n"
    assert hub.calls[2][1][3] == "second"


def test_a_base_that_nobody_else_has_is_told(run: Path, hub: type[FakeApi], loracli: Call) -> None:
    config = {**ADAPTER, "base_model_name_or_path": "/home/me/base"}
    (run / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    _, output, _ = loracli("push", run, "me/tuned")
    note = "note      the base is a path on this machine, which nobody else has: /home/me/base"
    assert note in output


def test_a_base_in_a_package_is_told_and_what_names_this_machine(
    run: Path, hub: type[FakeApi], loracli: Call
) -> None:
    config = {**ADAPTER, "base_model_name_or_path": "/home/me/.cache/unpacked"}
    (run / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    (run / "adapter" / "loracli.json").write_text(json.dumps({"base": "package://a/b.gguf"}))
    _, output, _ = loracli("push", run, "me/tuned")
    assert "in a Python package, and the hub does not have it: package://a/b.gguf\n" in output
    said = "adapter_config.json names the base by a path of this machine: /home/me/.cache/unpacked"
    assert f"note      {said}\n" in output


def test_the_run_s_card_is_sent(run: Path, hub: type[FakeApi], loracli: Call) -> None:
    (run / "README.md").write_text("---\nbase_model: x\n---\n\n# run\n\n## Use\n\nHere.\n")
    (run / "plan.json").write_text("{}")
    _, output, _ = loracli("push", run, "me/tuned", "--yes")
    assert "model card (the run's own)\n" in output
    assert "note      in the run's card, what it says of loading is made for the hub\n" in output
    card = hub.calls[1][1][1]["README.md"].decode()
    assert "# run\n\n## Use\n\n```python\nfrom peft import PeftModel\n" in card


def test_the_report_of_a_merge_stays_here(
    tmp_path: Path, hub: type[FakeApi], loracli: Call
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    (tmp_path / "merge_report.json").write_text(json.dumps({"base": "owner/base"}))
    _, output, _ = loracli("push", tmp_path, "me/merged", "--yes")
    assert "note      merge_report.json stays here" in output
    assert hub.calls[1][1][1].keys() == {"README.md", "config.json"}


@pytest.mark.parametrize("base", ['"/home/me/base"', '"""/home/me/a "base""""'])
def test_an_adapter_s_modelfile_is_sent_without_the_place_of_its_base(
    tmp_path: Path, hub: type[FakeApi], loracli: Call, base: str
) -> None:
    rest = 'ADAPTER "./adapter.gguf"\nPARAMETER stop "x"\n'
    (tmp_path / "adapter.gguf").touch()
    (tmp_path / "Modelfile").write_text(f"FROM {base}\n{rest}")
    _, output, _ = loracli("push", tmp_path, "me/served", "--yes")
    assert "note      Modelfile is sent with `FROM ./BASE.gguf`" in output
    sent = hub.calls[1][1][1]
    assert sent["Modelfile"].decode() == f"FROM ./BASE.gguf\n{rest}"
    own = 'FROM "./model.gguf"\n'
    (tmp_path / "Modelfile").write_text(own)
    loracli("push", tmp_path, "me/served", "--yes")
    assert hub.calls[3][1][1]["Modelfile"].decode() == own


def test_peft_s_empty_form_is_no_card(run: Path, hub: type[FakeApi], loracli: Call) -> None:
    form = huggingface_hub.ModelCard.from_template(huggingface_hub.ModelCardData()).content
    (run / "adapter" / "README.md").write_text(form)
    _, output, _ = loracli("push", run, "me/tuned")
    assert "note      the folder's README.md is peft's empty form: it is not sent\n" in output
    assert "model card (made now: the folder has none of its own)" in output


def test_a_base_of_the_run_s_own_is_told(run: Path, hub: type[FakeApi], loracli: Call) -> None:
    origin = {"base": str(run / "base"), "base_made_from": {"base": "owner/model"}}
    (run / "adapter" / "loracli.json").write_text(json.dumps(origin))
    _, output, _ = loracli("push", run, "me/tuned", "--yes")
    said = "the run's own base is not sent, and on any other, owner/model too, the adapter is"
    assert f"note      {said} another model: `loracli merge`" in output
    card = hub.calls[1][1][1]["README.md"].decode()
    assert "On any other base, `owner/model` too, the adapter is another model." in card
    assert str(run) not in card


def _refused(status: int) -> Callable[[], Exception]:
    def make() -> Exception:
        error = RuntimeError("Forbidden")
        error.response = SimpleNamespace(status_code=status)  # type: ignore[attr-defined]
        return error

    return make


@pytest.mark.parametrize(
    ("failure", "said", "advice"),
    [
        (
            lambda: hub_errors.LocalTokenNotFoundError("none"),
            "no token of the hub is on this machine",
            "`hf auth login`",
        ),
        (
            lambda: hub_errors.OfflineModeIsEnabled("offline"),
            "the hub cannot be reached",
            "HF_HUB_OFFLINE",
        ),
        (_refused(403), "the hub does not let this token write: Forbidden", "`hf auth login`"),
        (_refused(500), "the hub did not take it: Forbidden", ""),
    ],
)
def test_what_goes_wrong_is_said_with_what_to_do(
    run: Path,
    hub: type[FakeApi],
    loracli: Call,
    failure: Callable[[], Exception],
    said: str,
    advice: str,
) -> None:
    hub.failure = failure()
    code, output, errors = loracli("push", run, "me/tuned", "--yes")
    assert (code, output) == (1, "")
    assert "the upload failed" in errors
    assert said in errors
    assert advice in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("name", ["tuned", "a/b/c", "me/", "me/tu ned", "me/-x"])
def test_a_name_that_is_none(run: Path, hub: type[FakeApi], loracli: Call, name: str) -> None:
    code, _, errors = loracli("push", run, name)
    assert code == 1
    assert "is no name of a repository" in errors
    assert "write owner/name" in errors


def test_a_folder_without_a_model(tmp_path: Path, hub: type[FakeApi], loracli: Call) -> None:
    code, _, errors = loracli("push", tmp_path, "me/tuned", "--yes")
    assert code == 1
    assert "holds no model and no adapter" in errors
    (tmp_path / "config.json").write_text("[")
    code, _, errors = loracli("push", tmp_path, "me/tuned", "--yes")
    assert code == 1
    assert "cannot be read" in errors
    assert hub.calls == []


def test_help_has_an_example(loracli: Call) -> None:
    code, output, _ = loracli("push", "--help")
    assert code == 0
    assert "Example: loracli push served/quickstart me/quickstart --private --yes" in output
