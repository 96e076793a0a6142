"""From a model's name to its folder: what is taken for what, and how it is told again."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from lora_cli.errors import PlanError
from lora_cli.facts.model_source import ModelSource, find_model, weights_kind
from tests.helpers.model_folders import write_gguf


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 8192)
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORACLI_CACHE", str(tmp_path / "cache"))


def find(name: str | Path, base_dir: Path = Path("/")) -> ModelSource:
    return find_model(str(name), revision=None, base_dir=base_dir)


def problem_of(name: str, base_dir: Path = Path("/")) -> tuple[str, str]:
    with pytest.raises(PlanError) as caught:
        find(name, base_dir)
    (problem,) = caught.value.problems
    return problem.message, problem.hint


@pytest.mark.parametrize("name", ["model", "./model", "sub/../model"])
def test_a_folder_is_found_from_the_recipe(model: Path, name: str) -> None:
    (model.parent / "sub").mkdir()
    source = find(name, model.parent)
    assert (source.kind, source.folder, source.weights) == ("folder", model, "safetensors")
    assert source == find(model)


def test_a_home_folder(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(model.parent))
    assert find("~/model").folder == model


def test_the_fingerprint_goes_where_the_model_goes(model: Path, tmp_path: Path) -> None:
    before = find(model).fingerprint
    shutil.copytree(model, tmp_path / "copy")
    (tmp_path / "copy/README.md").write_text("not the model")
    assert find(tmp_path / "copy").fingerprint == before


@pytest.mark.parametrize("place", [0, 300_000, 1_000_000, 256 * 8192 - 1])
def test_one_changed_weight_is_another_model(model: Path, place: int) -> None:
    before = find(model).fingerprint
    content = bytearray((model / "model.safetensors").read_bytes())
    content[place] ^= 1
    (model / "model.safetensors").write_bytes(content)
    assert find(model).fingerprint != before


def test_another_config_or_another_shard_is_another_model(model: Path) -> None:
    seen = {find(model).fingerprint}
    (model / "config.json").write_text("{ }")
    seen.add(find(model).fingerprint)
    (model / "model-00002-of-00002.safetensors").write_bytes(b"more")
    seen.add(find(model).fingerprint)
    (model / "model-00002-of-00002.safetensors").rename(model / "model-2.safetensors")
    seen.add(find(model).fingerprint)
    assert len(seen) == 4


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["model.safetensors", "pytorch_model.bin"], "safetensors"),
        (["model-00001-of-00002.safetensors"], "safetensors"),
        (["pytorch_model-00001-of-00002.bin"], "pickle"),
        (["training_args.bin", "optimizer.bin"], "none"),
        (["adapter_model.safetensors", "consolidated.safetensors"], "none"),
        ([], "none"),
    ],
)
def test_the_kind_of_weights(names: list[str], kind: str) -> None:
    assert weights_kind([*names, "config.json", "tokenizer.json"]) == kind


def test_a_gguf_inside_an_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "path/some_weights"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('the package was imported')")
    write_gguf(package / "tiny.gguf")
    monkeypatch.syspath_prepend(str(package.parent))
    source = find("package://some_weights/tiny.gguf")
    assert (source.kind, source.gguf) == ("gguf", package / "tiny.gguf")
    assert "some_weights" not in sys.modules
    assert problem_of("package://some_weights/large.gguf") == (
        "the package `some_weights` holds no file `large.gguf`",
        "models in it: tiny.gguf",
    )
    assert problem_of("package://some_weights")[0].endswith("holds no file ``")
    message, _ = problem_of("package://some_weights/__init__.py")
    assert message == "the package `some_weights` holds no file `__init__.py`"


def test_names_of_nothing() -> None:
    assert problem_of("package://")[0] == "`package://` names no Python package"
    assert problem_of("package:///a.gguf")[0] == "`package:///a.gguf` names no Python package"
    assert problem_of("/dev/null")[0] == "`/dev/null` is neither a folder nor a .gguf file"


def test_a_folder_inside_an_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "path/some_encoder/model"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise SystemExit('the package was imported')")
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path / "path"))
    source = find("package://some_encoder/model")
    assert (source.kind, source.folder, source.weights) == ("folder", folder, "safetensors")
    assert "some_encoder" not in sys.modules
    assert problem_of("package://some_encoder/other")[1] == "models in it: model"


@pytest.mark.parametrize("name", ["no_such_package", "not-an-identifier", "json.decoder"])
def test_a_package_that_is_not_installed(name: str) -> None:
    message, hint = problem_of(f"package://{name}/a.gguf")
    assert message == f"no Python package `{name}` is installed, for `package://{name}/a.gguf`"
    assert hint.startswith("pip install the package")


@pytest.mark.parametrize("name", ["gpt2", "./nowhere", "/no/where", "a/b/c", "missing.gguf"])
def test_a_model_that_is_nowhere(tmp_path: Path, name: str) -> None:
    message, hint = problem_of(name, tmp_path)
    assert message == f"there is no model `{name}`: {(tmp_path / name).resolve()} does not exist"
    assert hint.startswith("a model is a hub id (owner/name), a folder, a .gguf file, or package:")


def test_what_was_meant_by_a_name_that_is_nowhere(model: Path) -> None:
    for name, hint in {
        "./modle": "did you mean `model`?",
        "model/config.json": "name its folder, `model`",
        "package://my-models/a.gguf": "pip install",
        "package://lora-cli/a.gguf": "did you mean `package://lora_cli/a.gguf`?",
    }.items():
        with pytest.raises(PlanError) as caught:
            find_model(name, revision=None, base_dir=model.parent)
        assert hint in caught.value.problems[0].hint


@pytest.mark.parametrize("name", ["https://host/model", "s3://bucket/a.gguf", "hf:/owner/name"])
def test_an_address_is_no_model(tmp_path: Path, name: str) -> None:
    message, hint = problem_of(name, tmp_path)
    assert message == f"`{name}` is an address; models are not read from addresses"
    assert hint.startswith("a model is a hub id (owner/name), a folder, a .gguf file, or package:")


@pytest.mark.parametrize(
    "name", ["packge://weights/a.gguf", "package:/weights/a.gguf", "pakage:/x"]
)
def test_a_misspelt_package_address_is_set_right(tmp_path: Path, name: str) -> None:
    message, hint = problem_of(name, tmp_path)
    assert message.startswith(f"`{name}` is an address")
    rest = name.partition(":")[2].lstrip("/")
    assert hint.startswith(f"did you mean `package://{rest}`? a model is a hub id")
    assert hint.endswith("package://module/file.gguf")


def test_a_folder_that_holds_a_gguf_only(tmp_path: Path) -> None:
    (tmp_path / "b.gguf").touch()
    message, hint = problem_of(".", tmp_path)
    assert message == "`.` is a folder without config.json"
    assert hint == "name the file: ./b.gguf"


def test_an_empty_folder(tmp_path: Path) -> None:
    assert problem_of(str(tmp_path)) == (
        f"`{tmp_path}` is a folder without config.json",
        "a model folder has a config.json",
    )


@pytest.mark.parametrize(
    ("name", "reason"),
    [("a" * 5000, "File name too long"), ("~no-such-user/model", "Could not determine home")],
)
def test_a_name_that_no_system_takes(name: str, reason: str) -> None:
    message, _ = problem_of(name)
    assert message.startswith(f"the model `{name[:200]}` cannot be opened: {reason}")


def test_an_owner_and_a_name_are_looked_for_on_the_hub(tmp_path: Path) -> None:
    message, _ = problem_of("owner/name", tmp_path)
    assert message == (
        "`owner/name` is not in the local cache and HF_HUB_OFFLINE is set; no such local "
        f"folder either ({tmp_path}/owner/name)"
    )


def test_a_large_file_is_sampled_and_other_weights_still_show(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lora_cli.facts.model_source.READ_WHOLE_BYTES", 1000)
    monkeypatch.setattr("lora_cli.facts.model_source.cached_sha256", lambda _file: "small")
    before = find(model).fingerprint
    assert find(model).fingerprint == before
    weights = model / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2 :] = bytes(byte ^ 1 for byte in content[len(content) // 2 :])
    weights.write_bytes(content)
    assert find(model).fingerprint != before
