"""The page about data says what the formats are: each row that it shows is one of its format."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args

from lora_cli.data.detect import detect_format
from lora_cli.data.format_wish import CAUSAL_LM, Wish
from lora_cli.data.readers.read import RawRow
from lora_cli.formats import LabelledText, LabelledTokens, NamedFormat, SourceTarget

KINDS = (*CAUSAL_LM, LabelledText, LabelledTokens, SourceTarget)


def test_every_format_has_a_row_that_is_told_by_its_columns(repository: Path) -> None:
    section = (repository / "docs/data.md").read_text("utf-8").split("## Formats")[1]
    row = r"^\| `(\w+)` \| .* \| (?:`(\{.*\})`|see below) \|$"
    shown = dict(re.findall(row, section, re.MULTILINE))
    assert set(shown) == set(get_args(NamedFormat))
    for name, row in shown.items():
        if name != "template":
            columns = json.loads(row)
            found = detect_format(Path("docs"), [RawRow(1, columns)], Wish(kinds=KINDS))
            assert found.format == name
            assert isinstance(found.row_format.example(columns), found.row_format.kind)
