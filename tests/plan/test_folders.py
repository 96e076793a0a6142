"""Which files of a folder are meant, told from their names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_cli.plan.folders import FolderProblemError, check_one_kind, files_of_split

HUB = [
    "README.md",
    "data/test-00000-of-00001.parquet",
    "data/train-00001-of-00002.parquet",
    "data/train-00000-of-00002.parquet",
]
SAVED = [
    "dataset_dict.json",
    "test/data-00000-of-00001.arrow",
    "test/state.json",
    "train/cache-0123456789abcdef.arrow",
    "train/data-00000-of-00002.arrow",
    "train/data-00001-of-00002.arrow",
    "train/dataset_info.json",
]


@pytest.mark.parametrize(
    ("names", "split", "found"),
    [
        (["train.jsonl", "test.jsonl", "notes.md"], None, ["train.jsonl"]),
        (["train.csv.gz", "test.csv.gz"], "test", ["test.csv.gz"]),
        (HUB, None, ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"]),
        (HUB, "test", ["data/test-00000-of-00001.parquet"]),
        (SAVED, None, ["train/data-00000-of-00002.arrow", "train/data-00001-of-00002.arrow"]),
        (SAVED, "test", ["test/data-00000-of-00001.arrow"]),
        (
            ["data-00000-of-00001.arrow", "state.json", "dataset_info.json", "cache-ab.arrow"],
            None,
            ["data-00000-of-00001.arrow"],
        ),
        (
            ["train-00000-of-00001-a09b74b3ef9c3b56.parquet"],
            None,
            ["train-00000-of-00001-a09b74b3ef9c3b56.parquet"],
        ),
        (["train_02.txt", "train_01.txt"], None, ["train_01.txt", "train_02.txt"]),
        (["train/b.jsonl", "train/a.jsonl", "x.csv"], None, ["train/a.jsonl", "train/b.jsonl"]),
        (["data/dev/a.jsonl"], "dev", ["data/dev/a.jsonl"]),
        (["b.jsonl", "a.jsonl", ".hidden.jsonl", "_done.json"], None, ["a.jsonl", "b.jsonl"]),
    ],
)
def test_the_files_of_a_split(names: list[str], split: str | None, found: list[str]) -> None:
    assert files_of_split(names, split) == found


@pytest.mark.parametrize(
    ("names", "split", "message", "hint"),
    [
        ([], None, "holds no rows of a split `train`", "splits it has: none"),
        (["readme.md"], None, "holds no rows of a split `train`", "splits it has: none"),
        (["dev.jsonl", "a.jsonl"], None, "holds no rows of a split `train`", "it has: a, dev;"),
        (["train.csv", "test.csv"], "dev", "holds no rows of a split `dev`", "has: test, train;"),
        (["main/train.csv"], None, "holds no rows of a split `train`", "splits it has: main;"),
        (
            ["train.csv", "train.jsonl"],
            None,
            "means files of several kinds: .csv (1 file), .jsonl (1 file)",
            "name those of one",
        ),
        (
            ["train.jsonl", "train.jsonl.gz"],
            None,
            "means several files for one split: train.jsonl, train.jsonl.gz",
            "name one file",
        ),
        (
            ["train-00000-of-00003.csv", "train-00002-of-00003.csv"],
            None,
            "holds 2 of 3 shards: number 00001 is missing",
            "fetch it again",
        ),
        (
            ["train-00000-of-00001.csv", "train-00000-of-00002.csv", "train-00001-of-00002.csv"],
            None,
            "holds shards of several sets",
            "name those of one set",
        ),
    ],
)
def test_a_folder_that_does_not_say_which(
    names: list[str], split: str | None, message: str, hint: str
) -> None:
    with pytest.raises(FolderProblemError) as caught:
        files_of_split(names, split)
    assert str(caught.value) == message
    assert hint in caught.value.hint


@given(names=st.permutations(HUB + SAVED[:3]))
def test_the_order_in_which_a_folder_is_listed_does_not_matter(names: list[str]) -> None:
    assert files_of_split(names, "train") == files_of_split(sorted(names), "train")


def test_files_of_one_kind() -> None:
    check_one_kind(["a.csv", "b.csv.gz", "c.CSV"])
    with pytest.raises(FolderProblemError, match=r"several kinds: \.csv \(2 files\), no rows \(1 "):
        check_one_kind(["a.csv", "b.csv", "c.md"])
