"""Several files, the split, and figures that add up."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_cli.data.encoding.tokenize import Masking, Tokenizer
from lora_cli.data.load import Dataset, RowSource, load_dataset, split_rows
from lora_cli.errors import PlanError
from lora_cli.facts.dataset import TokenFacts
from tests.helpers.tiny_models import make_tokenizer, sum_rows, write_rows

TOKENIZER = Tokenizer(make_tokenizer(), max_length=48, masking=Masking(truncation="tokens"))


def pairs(*lengths: int) -> list[dict[str, str]]:
    return [{"prompt": "Q", "completion": "a" * length} for length in lengths]


def load(tmp_path: Path, rows: list[dict[str, Any]], **options: Any) -> Dataset:
    path = write_rows(tmp_path / "rows.jsonl", rows)
    return load_dataset([RowSource((path,))], TOKENIZER, **options)


def test_the_figures_are_those_of_the_rows(tmp_path: Path) -> None:
    facts = load(tmp_path, pairs(1, 2, 3, 60)).facts.train
    # each row: one token of the prompt, its letters, an end; the last one cut to 48
    assert facts == TokenFacts(
        rows=4,
        total=3 + 4 + 5 + 48,
        supervised=2 + 3 + 4 + 47,
        truncated_rows=1,
        cut_tokens=14,
        cut_turns=1,
        median=4,
        percentile_95=48,
        longest=48,
        rows_with_end=3,
    )


@settings(max_examples=30, deadline=None)  # each writes files to the disk
@given(lengths=st.lists(st.integers(1, 80), min_size=1, max_size=30))
def test_the_figures_add_up(tmp_path_factory: pytest.TempPathFactory, lengths: list[int]) -> None:
    dataset = load(tmp_path_factory.mktemp("load"), pairs(*lengths))
    facts = dataset.facts.train
    kept = [min(48, length + 2) for length in lengths]
    assert facts.total == sum(kept) == sum(row.tokens.input_ids.size for row in dataset.train)
    assert facts.total + facts.cut_tokens == sum(length + 2 for length in lengths)
    assert facts.supervised == facts.total - facts.rows
    assert facts.truncated_rows == sum(length > 46 for length in lengths)
    assert facts.median == statistics.median_low(kept)
    assert facts.longest == max(kept)
    assert sum(size <= facts.percentile_95 for size in kept) >= 0.95 * len(kept)
    assert sum(size < facts.percentile_95 for size in kept) < 0.95 * len(kept)


def test_sources_follow_each_other(tmp_path: Path) -> None:
    first = write_rows(tmp_path / "a.jsonl", pairs(1, 2))
    second = write_rows(tmp_path / "b.jsonl", pairs(3))
    dataset = load_dataset([RowSource((first,)), RowSource((second,))], TOKENIZER)
    assert [len(row.example.completion) for row in dataset.train] == [1, 2, 3]
    assert [source.kept for source in dataset.facts.sources] == [2, 1]
    assert dataset.train.source.tolist() == [0, 0, 1]
    assert len(dataset.evaluation) == 0
    assert dataset.facts.evaluation is None


def test_rows_of_another_file_are_kept_apart(tmp_path: Path) -> None:
    apart = write_rows(tmp_path / "apart.jsonl", pairs(9))
    dataset = load(tmp_path, pairs(1, 2), evaluation=RowSource((apart,)))
    assert [len(row.example.completion) for row in dataset.evaluation] == [9]
    assert len(dataset.train) == 2
    assert dataset.facts.evaluation is not None
    assert dataset.facts.evaluation.total == 11
    assert dataset.facts.evaluation_source is not None
    assert dataset.facts.evaluation_source.files[0].file == str(apart)


def test_the_highest_token_is_looked_for_in_all_rows(tmp_path: Path) -> None:
    apart = write_rows(tmp_path / "apart.jsonl", [{"prompt": "Q", "completion": "<|endoftext|>x"}])
    assert load(tmp_path, pairs(1)).facts.highest_token_id == 257
    assert load(tmp_path, pairs(1), evaluation=RowSource((apart,))).facts.highest_token_id == 258


def test_the_problems_of_all_files_come_together(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{\n")
    (tmp_path / "b.jsonl").write_text("")
    write_rows(tmp_path / "c.jsonl", [{"neither": 1}])
    sources = [RowSource((tmp_path / name,)) for name in ("a.jsonl", "b.jsonl")]
    with pytest.raises(PlanError) as caught:
        load_dataset(sources, TOKENIZER, evaluation=RowSource((tmp_path / "c.jsonl",)))
    assert [Path(p.where.file).name for p in caught.value.problems] == [
        "a.jsonl",
        "b.jsonl",
        "c.jsonl",
    ]


@given(count=st.integers(2, 60), share=st.floats(0.01, 0.9), seed=st.integers(0, 2**32 - 1))
def test_a_split_is_disjoint_whole_and_repeatable(count: int, share: float, seed: int) -> None:
    if max(1, round(count * share)) >= count:
        with pytest.raises(PlanError):
            split_rows(count, share, seed)
        return
    train, apart = (part.tolist() for part in split_rows(count, share, seed))
    assert len(apart) == max(1, round(count * share))
    assert sorted(train + apart) == list(range(count))
    assert [train, apart] == [sorted(train), sorted(apart)], "the file's order is kept"
    again = [part.tolist() for part in split_rows(count, share, seed)]
    assert again == [train, apart]


def test_another_seed_draws_other_rows() -> None:
    assert len({tuple(split_rows(40, 0.25, seed)[1]) for seed in range(5)}) == 5


def test_a_split_of_the_loaded_rows(tmp_path: Path) -> None:
    tokenizer = Tokenizer(make_tokenizer(), max_length=200)
    path = write_rows(tmp_path / "chat.jsonl", sum_rows(10))
    dataset = load_dataset([RowSource((path,))], tokenizer, split=0.2, seed=3)
    assert (len(dataset.train), len(dataset.evaluation)) == (8, 2)
    assert dataset.facts.train.rows == 8
    assert dataset.facts.evaluation is not None
    assert dataset.facts.evaluation.rows == 2
    assert dataset.facts.sources[0].kept == 10


def test_a_split_that_leaves_nothing_to_train_on(tmp_path: Path) -> None:
    message = "evaluation.split: a share of 0.5 of 1 row leaves nothing to train on"
    with pytest.raises(PlanError, match=message):
        load(tmp_path, pairs(1), split=0.5)
