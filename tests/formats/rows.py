"""What the tests of formats share: the problem of a row, and texts of any characters."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st

from lora_cli.formats import FORMATS, RowProblemError

ANY_TEXT = st.text(max_size=20)
SAID = ANY_TEXT.filter(lambda text: bool(text.strip()))
"""Text that is not blank; white space around it must survive."""


def problem_of(name: str, row: dict[str, Any]) -> str:
    """Return why a format refuses a row."""
    with pytest.raises(RowProblemError) as caught:
        FORMATS[name].example(row)
    return str(caught.value)
