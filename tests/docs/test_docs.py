"""The docs say what is true: the table of fields, the tree, the links, the commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.helpers import variant_docs
from tests.helpers.recipe_docs import DOCS, with_current_table

PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]


def test_the_table_of_fields_is_current() -> None:
    text = DOCS.read_text("utf-8")
    assert text == with_current_table(text), "run: python -m tests.helpers.recipe_docs"


def test_the_table_of_capabilities_is_current() -> None:
    text = variant_docs.DOCS.read_text("utf-8")
    current = variant_docs.with_current_table(text)
    assert text == current, "run: python -m tests.helpers.variant_docs"


def test_every_variant_has_its_paragraph() -> None:
    text = variant_docs.DOCS.read_text("utf-8").split("## The variants")[1]
    assert [name for name in variant_docs.variants() if f"**`{name}`**" not in text] == []


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


def tree_of(repository: Path) -> str:
    text = (repository / "docs" / "architecture.md").read_text("utf-8")
    return text.split("## The tree")[1].split("```")[1]


def drawn_files(repository: Path) -> set[str]:
    """Return the drawing's files as paths under the package."""
    folders: dict[int, str] = {0: ""}
    drawn = set()
    for line in tree_of(repository).splitlines():
        depth = len(line) - len(line.lstrip())
        if match := re.match(r" +([a-z_]+/) ", line):
            folders[depth] = folders[depth - 2] + match[1]
        names = re.findall(r"\b[a-z0-9]+[a-z0-9_]*\.py\b|__main__\.py", line)
        drawn |= {folders[depth - 2] + name for name in names}
    return drawn


def test_the_drawing_is_the_tree(repository: Path) -> None:
    package = repository / "lora_cli"
    files = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if path.name != "__init__.py"
    }
    assert len(files) > 60
    assert drawn_files(repository) == files


@pytest.mark.parametrize(
    "command",
    [
        "train",
        "plan",
        "inspect-targets",
        "estimate-memory",
        "preview",
        "merge",
        "export",
        "extract",
        "push",
        "schema",
    ],
)
def test_every_command_is_in_the_readme(repository: Path, command: str) -> None:
    assert f"`loracli {command}" in (repository / "README.md").read_text("utf-8")
