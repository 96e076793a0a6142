"""The docs say what is true: the table of fields, the tree, the links, the commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.helpers.recipe_docs import DOCS, with_current_table

PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]


def test_the_table_of_fields_is_current() -> None:
    text = DOCS.read_text("utf-8")
    assert text == with_current_table(text), "run: python -m tests.helpers.recipe_docs"


def test_every_link_leads_somewhere(repository: Path) -> None:
    pages = [repository / page for page in PAGES] + sorted((repository / "docs").rglob("*.md"))
    links = [
        (page, link)
        for page in pages
        for link in re.findall(r"\]\(([^)#]+?)\)", page.read_text("utf-8"))
        if not link.startswith("http")
    ]
    assert len(links) > 8
    dead = [f"{page.name}: {link}" for page, link in links if not (page.parent / link).exists()]
    assert dead == []


def test_the_architecture_page_shows_the_tree_as_it_is(repository: Path) -> None:
    text = (repository / "docs" / "architecture.md").read_text("utf-8")
    tree = text.split("```")[1]
    shown = set(re.findall(r"\b([a-z0-9_]+\.py|[a-z_]+)(?=/|\s|$)", tree))
    package = repository / "lora_cli"
    missing = [
        path.relative_to(package).as_posix()
        for path in sorted(package.rglob("*.py"))
        if path.name != "__init__.py" and path.name not in shown
    ]
    assert missing == []


def test_the_architecture_page_shows_nothing_that_is_not_there(repository: Path) -> None:
    text = (repository / "docs" / "architecture.md").read_text("utf-8")
    names = {path.name for path in repository.rglob("*.py") if ".venv" not in path.parts}
    shown = set(re.findall(r"\b[a-z0-9_]+\.py\b", text.split("```")[1]))
    assert shown - names == set()


@pytest.mark.parametrize("command", ["train", "plan", "merge", "schema"])
def test_every_command_is_in_the_readme(repository: Path, command: str) -> None:
    assert f"`loracli {command}" in (repository / "README.md").read_text("utf-8")
