"""Previews of small recipes, and what a console prints of them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from lora_cli.console.preview import show_preview
from lora_cli.data.preview import Preview
from lora_cli.data.preview_rows import Span
from lora_cli.engine.preview import preview_of_plan
from lora_cli.plan.run_plan import RunPlan
from tests.helpers.runs import plan_of
from tests.helpers.tiny_models import write_rows

WriteRecipe = Callable[..., Path]
HOSTILE = "</pre><script>alert('&')</script>\x1b[2J\u202e"


def made(recipe: Path, rows: list[dict[str, Any]] | None = None) -> tuple[RunPlan, Preview]:
    if rows:
        write_rows(recipe.parent / "rows.jsonl", rows)
    plan = plan_of(recipe)
    return plan, preview_of_plan(plan, 2)


def in_a_pipe(plan: RunPlan, preview: Preview) -> str:
    text = io.StringIO()
    show_preview(plan, preview, Console(file=text, highlight=False))
    return text.getvalue()


def span(text: str, *, learnt: bool = False, special: bool = False, label: str = "") -> Span:
    return Span(text, 1, supervised=learnt, special=special, label=label)
