"""Writes the capability table in docs/variants.md: `python -m tests.helpers.variant_docs`."""

from __future__ import annotations

from pathlib import Path

from lora_cli.adapters import AdapterSpec
from lora_cli.adapters.variant import VariantSpec
from lora_cli.recipe.fields import members, sections_of

DOCS = Path(__file__).parent.parent.parent / "docs" / "variants.md"
BEGIN, END = "<!-- capabilities -->\n", "<!-- /capabilities -->"
HEAD = ("variant", "plain", "GPT-2's layers", "nf4, fp4", "int8", "merge", "export as LoRA")


def variants() -> dict[str, type[VariantSpec]]:
    """Return every adapter variant by name."""
    return members(sections_of(AdapterSpec))  # type: ignore[return-value]


def capability_table() -> str:
    """Return the Markdown of all capability rows, and under it why a cell is refused."""
    lines = [_line(HEAD), _line(["---"] * len(HEAD))]
    reasons: dict[str, list[str]] = {}
    for name, variant in variants().items():
        row = variant.capability
        cells = []
        for reason in (row.plain, row.conv1d, row.four_bit, row.eight_bit, row.merge):
            cells.append("no" if reason else "yes")
            if reason:
                reasons.setdefault(reason, []).append(name)
        lines.append(_line([f"`{name}`", *cells, row.exports]))
    lines += ["", "Why not:", ""]
    lines += [f"- {', '.join(dict.fromkeys(names))}: {why}" for why, names in reasons.items()]
    return "\n".join(lines) + "\n"


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def with_current_table(text: str) -> str:
    """Return the page with the table made anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{capability_table()}{END}{after}"


if __name__ == "__main__":
    DOCS.write_text(with_current_table(DOCS.read_text("utf-8")), "utf-8")
