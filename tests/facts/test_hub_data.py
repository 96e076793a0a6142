"""Data sets of the hub come out of the cache; what is not there is one error, without retries."""

from __future__ import annotations

import sys
from pathlib import Path

import datasets
import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import LocalEntryNotFoundError

from lora_cli.data.readers.read import read_rows
from lora_cli.errors import MissingDependencyError, PlanError
from lora_cli.facts.hub_data import HubData, hub_data, prepared_files, repository_folder
from tests.helpers.hub_cache import COMMIT, prepare_hub_data

ROWS = [{"text": "a", "label": 0}, {"text": "b", "label": 1}]
SUMS = HubData("owner/sums", None)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    prepare_hub_data(tmp_path, "owner/sums", {"train": ROWS, "test": ROWS[:1]})
    return tmp_path


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("owner/name", HubData("owner/name", None)),
        ("owner/name-1.2_x", HubData("owner/name-1.2_x", None)),
        ("owner/name@v1.0", HubData("owner/name", "v1.0")),
        ("hf://datasets/owner/name", HubData("owner/name", None)),
        ("hf://datasets/owner/name@v1/a/*.csv", HubData("owner/name", "v1", "a/*.csv")),
        ("owner/name/a.csv", None),
        ("name", None),
        ("./owner/name", None),
        ("/owner/name", None),
        ("hf://datasets/owner", None),
    ],
)
def test_what_a_name_means(name: str, meant: HubData | None) -> None:
    assert hub_data(name) == meant


def test_a_split_is_read_from_the_cache(cache: Path) -> None:
    (file,) = prepared_files(SUMS, None, "train")
    assert [row.columns for row in read_rows(file)] == ROWS
    (file,) = prepared_files(SUMS, "default", "test")
    assert [row.columns for row in read_rows(file)] == ROWS[:1]


def test_a_commit_is_what_it_says(cache: Path) -> None:
    assert prepared_files(HubData("owner/sums", COMMIT), None, "train")
    with pytest.raises(PlanError, match="cannot tell whether it has `owner/sums@main`") as caught:
        prepared_files(HubData("owner/sums", "main"), None, "train")
    assert COMMIT in caught.value.problems[0].hint


def test_a_split_that_is_not_there(cache: Path) -> None:
    with pytest.raises(PlanError, match=r'Unknown split "dev"\. Should be one of') as caught:
        prepared_files(SUMS, None, "dev")
    assert caught.value.problems[0].hint == "name one with `split`"


def test_a_subset_has_to_be_named_where_there_are_several(cache: Path) -> None:
    for subset in ("main", "hard"):
        prepare_hub_data(cache, "owner/two", {"train": ROWS}, subset)
    with pytest.raises(PlanError, match="multiple 'owner/two' configurations") as caught:
        prepared_files(HubData("owner/two", None), None, "train")
    assert caught.value.problems[0].hint == "name one with `subset`"
    with pytest.raises(PlanError, match="for config 'easy' Available configs in the cache"):
        prepared_files(HubData("owner/two", None), "easy", "train")
    (file,) = prepared_files(HubData("owner/two", None), "hard", "train")
    assert "/hard/" in str(file)


def test_what_is_not_in_the_cache(cache: Path) -> None:
    with pytest.raises(PlanError) as caught:
        prepared_files(HubData("owner/other", None), None, "train")
    (problem,) = caught.value.problems
    assert problem.message == (
        "the data set `owner/other` is not in the local cache and HF_HUB_OFFLINE is set"
    )
    assert problem.hint.startswith("connect once, or name a local file or folder")
    with pytest.raises(PlanError, match="is not in the local cache and HF_HUB_OFFLINE is set"):
        repository_folder(HubData("owner/other", None, "a.csv"))


def test_a_hub_out_of_reach_is_tried_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def unreachable(_api: object, name: str, **options: object) -> None:
        tries.append((name, options["timeout"]))
        raise LocalEntryNotFoundError("no route")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", unreachable)
    assert prepared_files(SUMS, None, "train")
    with pytest.raises(PlanError, match="the hub cannot be reached"):
        prepared_files(HubData("owner/other", None), None, "train")
    assert tries == [("owner/sums", 2.0), ("owner/other", 2.0)]


def test_the_files_of_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}

    def snapshot(name: str, **options: object) -> str:
        asked.update(options, name=name)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert repository_folder(HubData("owner/sums", "v1", "data")) == tmp_path
    assert asked == {
        "name": "owner/sums",
        "repo_type": "dataset",
        "revision": "v1",
        "allow_patterns": ["data", "data/*"],
        "local_files_only": True,
    }


def test_without_the_package_the_way_out_is_told(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingDependencyError, match="need the package datasets") as caught:
        prepared_files(SUMS, None, "train")
    assert caught.value.problems[0].hint == "pip install 'loracli[hub]'"
