"""The preview as JSON: its counts add up, and the docs name its keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lora_cli.console.preview_json import preview_json
from lora_cli.data.preview import Preview
from lora_cli.plan.run_plan import RunPlan


def test_the_json_counts_add_up(found: tuple[RunPlan, Preview]) -> None:
    plan, preview = found
    told = json.loads(json.dumps(preview_json(plan, preview)))
    rows = told["rows"]
    assert (rows["read"], rows["kept"], rows["dropped"]) == (11, 10, 1)
    assert (rows["training"], rows["evaluation"]) == (9, 1)
    for source in told["sources"]:
        assert source["read"] == source["kept"] + source["dropped"]
        assert source["dropped"] == sum(source["dropped_by_reason"].values())
    assert told["sources"][0]["dropped_rows"][0]["line"] == 9
    assert sum(each["rows"] for each in told["lengths"]["bins"]) == rows["training"]
    for unit in told["shown"]:
        assert unit["tokens"] == sum(row["tokens"] for row in unit["rows"])
        for row in unit["rows"]:
            assert row["tokens"] == sum(each["tokens"] for each in row["spans"])
            learnt = sum(each["tokens"] for each in row["spans"] if each["supervised"])
            assert row["supervised"] == learnt
    assert told["digest"] == plan.digest
    assert told["leakage"]["exact"]["rows"] == 1


def test_the_docs_name_every_key_of_the_json(
    found: tuple[RunPlan, Preview], repository: Path
) -> None:
    def keys(value: Any) -> set[str]:
        if isinstance(value, list):
            return set().union(*map(keys, value))
        if not isinstance(value, dict):
            return set()
        inner = (each for name, each in value.items() if name != "dropped_by_reason")
        return set(value).union(*map(keys, inner))

    plan, preview = found
    page = (repository / "docs" / "preview.md").read_text("utf-8")
    assert [
        key for key in sorted(keys(preview_json(plan, preview))) if f"`{key}`" not in page
    ] == []
