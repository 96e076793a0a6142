"""The account of all rows: cut, without an end, said twice, leaked, unlike inference."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lora_cli.data import preview as preview_module
from lora_cli.data.encoding.tokenize import Masking, Tokenizer
from lora_cli.data.load import RowSource, load_dataset
from lora_cli.data.preview import Preview, Selection, make_preview
from lora_cli.data.preview_inference import FIRST_OF_SOURCE
from lora_cli.data.preview_rows import RowReader
from lora_cli.tasks.causal_lm import CausalLm
from tests.data import templates
from tests.helpers.tiny_models import chat_row, make_tokenizer, sum_rows, write_rows

Rows = list[dict[str, Any]]


def pairs(texts: Sequence[str]) -> Rows:
    return [{"prompt": "Q", "completion": text} for text in texts]


def words(count: int, seed: int = 0) -> list[str]:
    """Return texts of 12 words, all different."""
    draw = random.Random(seed)
    return [" ".join("".join(draw.choices("abcdef", k=5)) for _ in range(12)) for _ in range(count)]


def previewed(
    folder: Path,
    rows: Rows,
    apart: Rows | None = None,
    *,
    max_length: int = 200,
    shown: Sequence[int] = (0,),
    tokenizer: Any = None,
    **masking: Any,
) -> Preview:
    own = tokenizer or make_tokenizer()
    encoder = Tokenizer(own, max_length=max_length, masking=Masking(**masking))
    train = RowSource((write_rows(folder / "rows.jsonl", rows),), on_bad_row="skip")
    evaluation = apart and RowSource((write_rows(folder / "apart.jsonl", apart),))
    dataset = load_dataset([train], encoder, evaluation=evaluation or None)
    chosen = Selection([(row,) for row in shown], None, max_length, CausalLm(), [None])
    return make_preview(dataset, encoder, RowReader(own, CausalLm()), chosen)


def test_the_rows_that_are_asked_for_are_shown(tmp_path: Path) -> None:
    found = previewed(tmp_path, sum_rows(6), shown=(4, 1))
    assert [[row.line for row in unit] for unit in found.shown] == [[5], [2]]
    assert "What is 4 plus 12?" in found.shown[0][0].text


def test_cut_rows_are_counted_and_named(tmp_path: Path) -> None:
    texts = ["a" * (40 if n % 3 else 10) for n in range(9)]
    found = previewed(tmp_path, pairs(texts), max_length=20, truncation="tokens")
    assert found.truncated.count == 6 == found.train.truncated_rows
    assert [place.line for place in found.truncated.first] == [2, 3, 5, 6, 8, 9]
    assert {(place.cut_tokens, place.cut_turns) for place in found.truncated.first} == {(22, 1)}
    assert found.without_end is not None
    assert [place.line for place in found.without_end.first] == [2, 3, 5, 6, 8, 9]
    over = found.lengths.bins[-1]
    assert (over.first, over.last, over.rows) == (21, 42, 6)


def test_more_places_than_are_listed_are_still_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview_module, "LISTED", 2)
    found = previewed(tmp_path, pairs(["a" * 40] * 5), max_length=20, truncation="tokens")
    assert found.truncated.count == 5
    assert len(found.truncated.first) == 2


def test_dropped_rows_are_in_the_account(tmp_path: Path) -> None:
    found = previewed(tmp_path, [*sum_rows(3), {"messages": []}, *sum_rows(2)])
    (source,) = found.all_sources
    assert (source.rows, source.kept, source.dropped.count) == (6, 5, 1)
    assert source.dropped.first[0].line == 4


def test_a_long_text_ends_once_and_every_part_of_it_is_compared(tmp_path: Path) -> None:
    found = previewed(tmp_path, [{"text": "abcdefgh" * 12}], max_length=20)
    assert found.train.rows == 6
    assert found.without_end is not None
    assert found.without_end.count == 0
    assert found.duplicates.rows == 6


def test_duplicates_and_leaks_are_found(tmp_path: Path) -> None:
    texts = words(30)
    near = texts[3].rsplit(" ", 1)[0] + " zzzzz"
    found = previewed(tmp_path, pairs([*texts, texts[5], near]), pairs([texts[7], *words(3, 1)]))
    duplicates = found.duplicates
    assert (duplicates.exact.count, duplicates.near.count) == (1, 2)
    assert [(pair.second[1], pair.first[1]) for pair in duplicates.near.shown] == [(31, 6), (32, 4)]
    assert duplicates.near.shown[1].similarity == pytest.approx(0.86, abs=0.06)  # of some 70 runs
    assert not duplicates.is_sample
    assert found.leakage is not None
    assert (found.leakage.exact.count, found.leakage.near.count) == (1, 1)
    leak = found.leakage.exact.shown[0]
    assert (Path(leak.second[0]).name, leak.second[1]) == ("apart.jsonl", 1)
    assert (Path(leak.first[0]).name, leak.first[1]) == ("rows.jsonl", 8)
    assert (found.leakage.rows, found.leakage.against_all) == (4, 32)


def test_without_evaluation_nothing_can_leak(tmp_path: Path) -> None:
    assert previewed(tmp_path, sum_rows(2)).leakage is None


def test_a_sample_is_told_to_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview_module, "MOST_COMPARED", 8)
    found = previewed(tmp_path, pairs(words(20) * 2), pairs(words(3, 2)))
    assert found.duplicates.is_sample
    assert (found.duplicates.near.compared, found.duplicates.exact.count) == (8, 20)
    assert found.leakage is not None
    assert found.leakage.is_sample
    assert found.leakage.against == 8


def test_long_rows_are_compared_in_smaller_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview_module, "TOKENS_COMPARED", 400)
    found = previewed(tmp_path, pairs(words(20)))  # each of about 73 tokens
    assert found.duplicates.near.compared == 5


def test_parts_of_one_conversation_are_no_duplicates(tmp_path: Path) -> None:
    thought = "<think>\n" + words(1)[0] + "\n</think>\n\n"
    turns = [turn for n in range(3) for turn in chat_row(words(3)[n], thought + "Yes")["messages"]]
    found = previewed(
        tmp_path, [{"messages": turns}], max_length=2000, tokenizer=templates.QWEN.tokenizer()
    )
    assert found.train.rows > 1
    assert found.duplicates.rows == 1
    assert found.inference is not None
    assert found.inference.compared == 1


def test_training_text_is_compared_with_inference(tmp_path: Path) -> None:
    rows = sum_rows(FIRST_OF_SOURCE + 10)
    found = previewed(tmp_path, rows, shown=(3, FIRST_OF_SOURCE + 5)).inference
    assert found is not None
    assert (found.compared, found.different) == (FIRST_OF_SOURCE + 1, ())
    assert previewed(tmp_path, pairs(words(3))).inference is None


ODD_MARKED = (
    "{% for m in messages %}{{ '[' + loop.revindex0 | string + '] ' + m['role'] + ': ' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}{% endgeneration %}"
    "{% else %}{{ m['content'] }}{% endif %}{{ '<end>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[0] assistant: ' }}{% endif %}"
)
"""Numbers turns from the end: a question is another once it is answered."""


def test_a_prompt_that_differs_is_told_with_both_texts(tmp_path: Path) -> None:
    odd = templates.Template(ODD_MARKED, special=("<end>",)).tokenizer()
    found = previewed(tmp_path, sum_rows(2), tokenizer=odd).inference
    assert found is not None
    assert found.compared == 2
    first = found.different[0]
    assert (first.line, first.position) == (1, 1)
    assert first.training.startswith("[1] user")
    assert first.inference.startswith("[0] user")


def test_a_prompt_that_the_template_refuses_is_told(tmp_path: Path) -> None:
    picky = templates.Template(
        "{% for m in messages %}{% if loop.last and m['role'] != 'assistant' %}"
        "{{ raise_exception('answer first') }}{% endif %}{{ '<' + m['role'] + '>' }}"
        "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}{% endgeneration %}"
        "{% else %}{{ m['content'] }}{% endif %}{{ '<end>' }}{% endfor %}",
        special=("<end>",),
    ).tokenizer()
    found = previewed(tmp_path, sum_rows(2), tokenizer=picky).inference
    assert found is not None
    assert [each.line for each in found.unanswerable] == [1, 2]
    assert "answer first" in found.unanswerable[0].reason
