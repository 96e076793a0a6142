"""Every value of a plan has a reader: what is planned and not read would be a promise unkept."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from lora_cli.plan import run_plan

WRITERS = re.compile(r"plan/(run_plan|resolve|inputs|make|reasons|\w+_part)\.py")
"""Where the plan is declared and filled: an access there is no use of the value."""

CHECKED_BY_PYDANTIC = {"version"}
"""A literal: a plan file of another version is refused when it is read."""


def parts() -> list[type[BaseModel]]:
    """Return the plan's classes, as its module defines them."""
    found = [
        value
        for _, value in inspect.getmembers(run_plan, inspect.isclass)
        if issubclass(value, run_plan.PlanPart) and value is not run_plan.PlanPart
    ]
    assert len(found) > 8
    return found


def attributes_read(package: Path) -> set[str]:
    """Return the name of every attribute that is read in `package`, the writers aside."""
    names: set[str] = set()
    for file in sorted(package.rglob("*.py")):
        if WRITERS.fullmatch(file.relative_to(package).as_posix()):
            continue
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                names.add(node.attr)
    return names


@pytest.mark.parametrize("part", parts(), ids=lambda part: part.__name__)
def test_every_field_is_read_somewhere(part: type[BaseModel], repository: Path) -> None:
    unread = part.model_fields.keys() - attributes_read(repository / "lora_cli")
    assert sorted(unread - CHECKED_BY_PYDANTIC) == []


def test_a_field_that_nobody_reads_would_be_found(repository: Path) -> None:
    class Careless(run_plan.PlanPart):
        steps: int
        promised_and_forgotten: int

    unread = Careless.model_fields.keys() - attributes_read(repository / "lora_cli")
    assert unread == {"promised_and_forgotten"}
