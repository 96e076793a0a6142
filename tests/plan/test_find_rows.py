"""Rows are looked for from the recipe's folder, on the hub and in remote stores."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZIP_LZMA, ZipFile

import fsspec
import pytest

from lora_cli.errors import MissingDependencyError, PlanError, Where
from lora_cli.facts.hub_data import HubData
from lora_cli.plan import find_rows as module
from lora_cli.plan.find_rows import RowsName, find_rows

HERE = Where("recipe.yaml", 3, 5, "dataset.path")
FILES = (
    "rows.jsonl",
    "part-1.csv",
    "part-10.csv",
    "part-2.csv",
    "data/train.jsonl",
    "data/test.jsonl",
    "data/deep/er/a.parquet",
    "data/.hidden.parquet",
    "shards/train-00000-of-00002.parquet",
    "shards/train-00001-of-00002.parquet",
    "notes.md",
    "odd[1].txt",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def problem_of(name: str, folder: Path, split: str | None = None) -> tuple[str, str]:
    with pytest.raises(PlanError) as caught:
        find_rows(RowsName(name, split), folder, HERE)
    (problem,) = caught.value.problems
    assert problem.where == HERE
    return problem.message, problem.hint


@pytest.mark.parametrize(
    ("name", "split", "found"),
    [
        ("rows.jsonl", None, ["rows.jsonl"]),
        ("./data/../rows.jsonl", None, ["rows.jsonl"]),
        ("data", None, ["data/train.jsonl"]),
        ("data", "test", ["data/test.jsonl"]),
        ("data/test.jsonl", None, ["data/test.jsonl"]),
        ("shards", None, [name for name in FILES if name.startswith("shards")]),
        ("part-*.csv", None, ["part-1.csv", "part-10.csv", "part-2.csv"]),
        ("part-[12].csv", None, ["part-1.csv", "part-2.csv"]),
        ("**/*.parquet", None, ["data/deep/er/a.parquet", *FILES[8:10]]),
        ("odd[1].txt", None, ["odd[1].txt"]),
    ],
)
def test_a_file_a_folder_or_a_pattern(
    folder: Path, name: str, split: str | None, found: list[str]
) -> None:
    files = tuple(folder / each for each in found)
    assert find_rows(RowsName(name, split), folder, HERE) == files
    assert find_rows(RowsName(str(folder / name), split), Path("/"), HERE) == files


def test_a_home_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    assert find_rows(RowsName("~/rows.jsonl"), Path("/"), HERE) == (folder / "rows.jsonl",)


def test_a_link_keeps_its_name(folder: Path) -> None:
    (folder / "blob").write_text("{}")
    (folder / "link.jsonl").symlink_to(folder / "blob")
    assert find_rows(RowsName("link.jsonl"), folder, HERE) == (folder / "link.jsonl",)


def test_a_link_that_leads_nowhere(folder: Path) -> None:
    (folder / "link.jsonl").symlink_to("gone.jsonl")
    message, hint = problem_of("link.jsonl", folder)
    assert message == "`link.jsonl` is a link to gone.jsonl, which is not there"
    assert hint == "mend the link, or name the file itself"


def test_what_datasets_saves(folder: Path) -> None:
    import datasets

    saved = datasets.Dataset.from_list([{"text": "a"}, {"text": "b"}])
    datasets.DatasetDict({"train": saved, "dev": saved}).save_to_disk(folder / "saved")
    file = folder / "saved/dev/data-00000-of-00001.arrow"
    assert find_rows(RowsName("saved", "dev"), folder, HERE) == (file,)
    assert find_rows(RowsName("saved/dev"), folder, HERE) == (file,)


def test_a_misspelt_name(folder: Path) -> None:
    message, hint = problem_of("row.jsonl", folder)
    assert message == f"there is no file {folder}/row.jsonl"
    assert hint == "did you mean `rows.jsonl`?"


def test_a_name_like_no_other(folder: Path) -> None:
    assert problem_of("zzz", folder)[1] == "paths are relative to the recipe's folder"


@pytest.mark.parametrize(
    "name", ["nowhere/rows.jsonl", "./nowhere/rows", "no/where/rows", "/no/rows"]
)
def test_a_folder_that_is_not_there(folder: Path, name: str) -> None:
    message, hint = problem_of(name, folder)
    assert "hub" not in message
    parent = (folder / name).parent
    assert hint == f"there is no folder {parent} either; paths are relative to the recipe"


def test_a_pattern_that_matches_nothing(folder: Path) -> None:
    message, hint = problem_of("rows-*.jsonl", folder)
    assert message == "no file matches `rows-*.jsonl`"
    assert hint.startswith("patterns are relative to the recipe's folder")


def test_a_pattern_that_matches_too_much(folder: Path) -> None:
    message, _ = problem_of("*", folder)
    assert message.startswith("`*` means files of several kinds: .csv (3 files), .jsonl (1 file)")
    assert problem_of("*.md", folder)[0] == "`notes.md` is of no kind that is read"


def test_a_split_that_is_not_there(folder: Path) -> None:
    message, hint = problem_of("data", folder, "dev")
    assert message == "`data` holds no rows of a split `dev`"
    assert hint == "splits it has: er, test, train; name one with `split`, or name the files"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rows.jsonl", "`rows.jsonl` is a file: it has no split `test`"),
        ("part-*.csv", "`part-*.csv` is a pattern: it has no split `test`"),
    ],
)
def test_a_split_of_what_has_none(folder: Path, name: str, message: str) -> None:
    assert problem_of(name, folder, "test")[0] == message


def test_a_file_of_another_kind(folder: Path) -> None:
    message, hint = problem_of("notes.md", folder)
    assert message == "`notes.md` is of no kind that is read"
    assert hint.startswith("kinds: .jsonl .ndjson .json .csv")


@pytest.mark.parametrize(
    ("name", "reason"),
    [("a" * 5000, "File name too long"), ("~no-such-user/rows", "Could not determine home")],
)
def test_a_name_that_no_system_takes(folder: Path, name: str, reason: str) -> None:
    message, _ = problem_of(name, folder)
    assert message.startswith(f"`{name[:200]}` cannot be opened: {reason}")


def test_a_data_set_of_the_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def prepared(data: HubData, subset: str | None, split: str) -> tuple[Path, ...]:
        asked.append((str(data), subset, split))
        return (folder / "cached.arrow",)

    monkeypatch.setattr(module, "prepared_files", prepared)
    for name in (
        RowsName("owner/name"),
        RowsName("owner/name@v1", "test", "main"),
        RowsName("hf://datasets/owner/name"),
    ):
        assert find_rows(name, folder, HERE) == (folder / "cached.arrow",)
    assert asked == [
        ("owner/name", None, "train"),
        ("owner/name@v1", "main", "test"),
        ("owner/name", None, "train"),
    ]


def test_a_part_of_a_repository_is_a_local_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "repository_folder", lambda _: folder)
    name = RowsName("hf://datasets/owner/name/part-*.csv")
    assert [file.name for file in find_rows(name, Path("/"), HERE)] == [
        "part-1.csv",
        "part-10.csv",
        "part-2.csv",
    ]
    test = RowsName("hf://datasets/owner/name@v1/data", "test")
    assert find_rows(test, Path("/"), HERE) == (folder / "data/test.jsonl",)
    assert problem_of("hf://datasets/owner", folder)[0].endswith("names no data set")


def test_neither_on_the_hub_nor_here(folder: Path) -> None:
    message, hint = problem_of("tatsu-lab/alpaca", folder)
    assert message == (
        "the data set `tatsu-lab/alpaca` is not in the local cache and HF_HUB_OFFLINE is set; "
        f"no such local folder either ({folder}/tatsu-lab/alpaca)"
    )
    assert hint.startswith("connect once, or name a local file or folder")


@pytest.mark.parametrize("name", ["rows.jsonl", "hf://datasets/owner/name/a.csv", "memory://a.csv"])
def test_a_subset_is_of_the_hub(folder: Path, name: str) -> None:
    with pytest.raises(PlanError, match=r"has no subset `main`: only data sets of the hub do"):
        find_rows(RowsName(name, subset="main"), folder, HERE)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("LORACLI_CACHE", str(tmp_path / "cache"))
    memory = fsspec.filesystem("memory")
    memory.pipe({f"/rows/{name}": name.encode() for name in FILES})
    yield memory
    memory.rm("/rows", recursive=True)


@pytest.mark.parametrize(
    ("name", "split", "found"),
    [
        ("memory://rows/rows.jsonl", None, ["rows.jsonl"]),
        ("memory://rows/data", "test", ["data/test.jsonl"]),
        ("memory://rows/shards/", None, list(FILES[8:10])),
        ("memory://rows/part-*.csv", None, ["part-1.csv", "part-10.csv", "part-2.csv"]),
    ],
)
def test_a_remote_name_means_what_a_local_one_does(
    tmp_path: Path, store: Any, name: str, split: str | None, found: list[str]
) -> None:
    files = find_rows(RowsName(name, split), tmp_path, HERE)
    assert [file.read_text() for file in files] == found
    assert all(file.is_relative_to(tmp_path / "cache/remote") for file in files)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("memory://rows/no.jsonl", "there is no file `memory://rows/no.jsonl`"),
        ("memory://rows/notes.md", "`notes.md` is of no kind that is read"),
        ("memory://rows/no-*.jsonl", "no file matches `memory://rows/no-*.jsonl`"),
        ("https://host/page", "`page` is of no kind that is read"),
    ],
)
def test_a_remote_name_that_leads_nowhere(
    tmp_path: Path, store: Any, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    if name.startswith("https"):
        remote = module.RemoteFiles(name, store, name)
        monkeypatch.setattr(module, "remote_files", lambda _: remote)
    assert problem_of(name, tmp_path)[0] == message


def test_a_missing_package_is_told_at_the_name(tmp_path: Path) -> None:
    with pytest.raises(MissingDependencyError) as caught:
        find_rows(RowsName("s3://bucket/rows.jsonl"), tmp_path, HERE)
    assert caught.value.problems[0].where == HERE


def zipped(path: Path, *names: str) -> Path:
    with ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, f"{name}\n")
    return path


@pytest.mark.parametrize(
    ("members", "split", "found"),
    [
        (["any.jsonl"], None, ["any.jsonl"]),
        (["test.jsonl", "__MACOSX/._test.jsonl", "README.md"], None, ["test.jsonl"]),
        (["part-2.csv", "part-1.csv"], None, ["part-1.csv", "part-2.csv"]),
        (["own/train.jsonl", "own/test.jsonl"], None, ["own/train.jsonl"]),
        (["own/train.jsonl", "own/test.jsonl"], "test", ["own/test.jsonl"]),
    ],
)
def test_an_archive_is_the_file_or_the_folder_in_it(
    tmp_path: Path, members: list[str], split: str | None, found: list[str]
) -> None:
    zipped(tmp_path / "rows.zip", *members)
    files = find_rows(RowsName("rows.zip", split), tmp_path, HERE)
    assert [file.read_text() for file in files] == [f"{name}\n" for name in found]
    assert [str(file).partition("/rows.zip/")[2] for file in files] == found


def test_an_archive_of_one_split_is_of_that_split(tmp_path: Path) -> None:
    zipped(tmp_path / "rows.zip", "test/a.jsonl", "test/b.jsonl")
    assert len(find_rows(RowsName("rows.zip", "test"), tmp_path, HERE)) == 2
    with pytest.raises(PlanError, match="train"):
        find_rows(RowsName("rows.zip"), tmp_path, HERE)


def test_names_are_those_that_are_unpacked(tmp_path: Path) -> None:
    """Old programs of Windows write backslashes, and others a place to begin with."""
    zipped(tmp_path / "rows.zip", r"data\train.jsonl", r"data\test.jsonl")
    (file,) = find_rows(RowsName("rows.zip"), tmp_path, HERE)
    assert file.name == "train.jsonl"
    zipped(tmp_path / "twice.zip", "a.jsonl", "./a.jsonl", "/a.jsonl")
    with pytest.raises(PlanError, match=r"holds two files called `a\.jsonl`"):
        find_rows(RowsName("twice.zip"), tmp_path, HERE)


def test_a_member_that_is_damaged_is_an_error(tmp_path: Path) -> None:
    archive = tmp_path / "rows.zip"
    with ZipFile(archive, "w", ZIP_LZMA) as opened:
        opened.writestr("a.jsonl", '{"text": "one"}\n' * 200)
    content = bytearray(archive.read_bytes())
    content[50:60] = bytes(10)
    archive.write_bytes(content)
    with pytest.raises(PlanError, match="cannot be unpacked"):
        find_rows(RowsName("rows.zip"), tmp_path, HERE)


def test_a_remote_archive_is_fetched_and_unpacked(tmp_path: Path, store: Any) -> None:
    content = zipped(tmp_path / "here.zip", "dev.jsonl", "train.jsonl").read_bytes()
    store.pipe("/rows/rows.zip", content)
    (file,) = find_rows(RowsName("memory://rows/rows.zip", "dev"), tmp_path, HERE)
    assert file.read_text() == "dev.jsonl\n"


def test_a_changed_archive_is_unpacked_anew(tmp_path: Path) -> None:
    for content in ("old.jsonl", "new.jsonl"):
        zipped(tmp_path / "rows.zip", content)
        (file,) = find_rows(RowsName("rows.zip"), tmp_path, HERE)
        assert file.name == content


def test_an_archive_that_cannot_be_used(tmp_path: Path) -> None:
    zipped(tmp_path / "none.zip", "README.md")
    with pytest.warns(UserWarning, match="Duplicate name"):
        zipped(tmp_path / "twice.zip", "a.jsonl", "a.jsonl")
    (tmp_path / "torn.zip").write_bytes(zipped(tmp_path / "z.zip", "a.jsonl").read_bytes()[:-30])
    for name, reason in (
        ("none.zip", "holds no file of rows"),
        ("twice.zip", "holds two files called `a.jsonl`"),
        ("torn.zip", "cannot be unpacked: File is not a zip file"),
    ):
        with pytest.raises(PlanError, match=reason) as caught:
            find_rows(RowsName(name), tmp_path, HERE)
        assert caught.value.problems[0].where.file == str(tmp_path / name)
