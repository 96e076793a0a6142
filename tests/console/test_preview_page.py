"""The preview as a page: hostile text is text, and nothing is loaded."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

from lora_cli.console.preview_page import preview_page
from lora_cli.console.preview_rows import visible
from lora_cli.data.preview import Preview
from lora_cli.data.preview_rows import ShownRow
from lora_cli.plan.run_plan import RunPlan
from tests.console.previews import HOSTILE, WriteRecipe, made, span
from tests.helpers.tiny_models import chat_row


class Reader(HTMLParser):
    """Collects tags, and the text that stands in `pre`."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.texts: list[str] = []
        self._in_text = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        if tag == "pre":
            self._in_text = True
            self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in_text = self._in_text and tag != "pre"

    def handle_data(self, data: str) -> None:
        if self._in_text:
            self.texts[-1] += data


def test_the_page_holds_hostile_text_as_text_and_loads_nothing(recipe_file: WriteRecipe) -> None:
    plan, preview = made(recipe_file(), [chat_row(HOSTILE, HOSTILE)] * 2)
    page = preview_page(plan, preview, "<i>recipe</i>")
    reader = Reader()
    reader.feed(page)
    assert reader.texts == [f"\n{visible(row.text)}" for (row,) in preview.shown]
    assert r"\x1b[2J\u202e" in reader.texts[0]
    assert all(each == "\n" or each.isprintable() for each in page)
    assert not {"script", "i", "img", "link", "iframe"} & set(reader.tags)
    assert not {"src", "href", "onload"} & set(reader.attributes)
    assert not re.search(r"https?://|url\(|@import", page)
    assert "prefers-color-scheme: dark" in page


def test_a_page_marks_what_is_learnt(found: tuple[RunPlan, Preview]) -> None:
    plan, preview = found
    row = ShownRow("f", 1, 0, 3, 2, 0, 0, ends=True, spans=(
        span("q & a"), span("yes", learnt=True), span("<e>", learnt=True, special=True)
    ))  # fmt: skip
    page = preview_page(plan, replace(preview, shown=((row,),)), "recipe")
    assert "<pre>\nq &amp; a<mark>yes</mark><mark><b>&lt;e&gt;</b></mark></pre>" in page
