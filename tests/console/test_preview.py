"""The preview on a terminal and in a pipe: the same rows and the same findings."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from lora_cli.console.preview import show_preview
from lora_cli.console.preview_page import preview_page
from lora_cli.data.preview import Preview
from lora_cli.data.preview_inference import Difference, InferenceCheck, Unanswerable
from lora_cli.engine.preview import preview_of_plan
from lora_cli.plan.run_plan import RunPlan
from tests.console.previews import HOSTILE, WriteRecipe, in_a_pipe, made
from tests.helpers.runs import plan_of
from tests.helpers.task_rows import write_case
from tests.helpers.tiny_models import chat_row


def on_a_terminal(
    plan: RunPlan, preview: Preview, *, width: int = 80, no_color: bool = False
) -> str:
    text = io.StringIO()
    console = Console(
        file=text,
        force_terminal=True,
        color_system="standard",
        width=width,
        no_color=no_color,
        highlight=False,
        _environ={},
    )
    show_preview(plan, preview, console)
    return text.getvalue()


def test_a_pipe_gets_marks_around_what_is_trained_on(found: tuple[RunPlan, Preview]) -> None:
    text = in_a_pipe(*found)
    assert "\x1b" not in text
    assert text.startswith("⟦trained on⟧, the rest is read only; ┃ marks its lines\n")
    answers = re.findall(r"⟦(.*?)⟧", text)[1:]
    learnt = ["".join(s.text for s in row.spans if s.supervised) for (row,) in found[1].shown]
    assert answers == learnt
    assert all(line.startswith("┃ ") for line in text.splitlines() if line.endswith("<|im_end|>⟧↵"))


def test_the_account_is_told_in_words(found: tuple[RunPlan, Preview]) -> None:
    text = in_a_pipe(*found)
    for piece in (
        "rows        11 read = 10 kept + 1 dropped",
        "9 rows to train on, 1 to evaluate on",
        "rows.jsonl: 9 of 10 rows kept, messages",
        "rows.jsonl:9: column `messages` must be a list",
        "cut         nothing: every row fits",
        "ends        every row trains on a token that ends an answer",
        "duplicates  1 of 9 rows equal an earlier row, token for token",
        "rows.jsonl:10 = ",
        "leakage     1 of 1 evaluation rows equal a training row",
        "inference   9 compared: all begin with exactly what a server",
        "limit 256 tokens: no row is longer",
        "warning: dropped",
    ):
        assert piece in text


def test_a_terminal_gets_colour_and_no_marks(found: tuple[RunPlan, Preview]) -> None:
    text = on_a_terminal(*found)
    assert "\x1b[1;32m" in text
    assert "⟦" not in text
    plain = re.sub(r"\x1b\[[\d;]*m", "", text)
    rows = [line for line in plain.splitlines() if line[:1] in "│┃"]
    assert rows
    assert all(len(line) <= 80 for line in rows)


def test_no_color_is_marks_on_a_terminal_too(found: tuple[RunPlan, Preview]) -> None:
    text = on_a_terminal(*found, no_color=True)
    assert "⟦" in text
    assert "32m" not in text


def test_documents_of_a_pack_are_parted(recipe_file: WriteRecipe) -> None:
    training = {"batching": "packed", "max_length": 200, "steps": 2}
    plan, preview = made(recipe_file(training=training))
    text = in_a_pipe(plan, preview)
    for number, unit in enumerate(preview.shown, 1):
        tokens = sum(row.tokens for row in unit)
        assert f"pack {number} · {len(unit)} rows, {tokens} of 200 tokens" in text
        for place in range(1, len(unit) + 1):
            assert f"── document {place} of {len(unit)} · " in text
    assert f"{preview.packs.count} packs of up to 200 tokens" in text if preview.packs else False


def test_a_difference_from_inference_is_told_in_words(found: tuple[RunPlan, Preview]) -> None:
    plan, preview = found
    check = InferenceCheck(
        5, (Difference("a.jsonl", 3, 7, "yes\n", "no"),), (Unanswerable("a.jsonl", 4, "refused"),)
    )
    text = in_a_pipe(plan, replace(preview, inference=check))
    assert "inference   2 of 5 do not begin with what a server feeds" in text
    assert "a.jsonl:3: at token 8 training reads 'yes\\n', inference 'no'" in text
    assert "a.jsonl:4: refused" in text


def test_the_terminal_holds_hostile_text_as_text(recipe_file: WriteRecipe) -> None:
    plan, preview = made(recipe_file(), [chat_row(HOSTILE, HOSTILE)] * 2)
    shown = in_a_pipe(plan, preview)
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "</script>\\x1b[2J\\u202e" in shown


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bert_texts", ["→ ⟦good⟧", "learns 1 label", "24 labels to learn", "writes no text"]),
        ("bert_words", ["⟦ a⟧/B-NAME", "learns 3 tags", "tags to learn"]),
        ("t5", ["→ target", "⟦sad</s>⟧", "learns to write 4 tokens", "to read, "]),
    ],
)
def test_other_tasks_show_what_is_learnt_beside_the_text(
    tmp_path: Path, name: str, said: list[str]
) -> None:
    plan = plan_of(write_case(tmp_path, name))
    preview = preview_of_plan(plan, 24)
    text = in_a_pipe(plan, preview)
    assert [piece for piece in said if piece not in text] == []
    page = preview_page(plan, preview, name)
    assert any(
        tag in page for tag in ("<mark>good</mark>", "<sub>B-NAME</sub>", "<mark>sad</mark>")
    )
