"""The date that chat templates read from the clock: always the same one.

Templates such as Llama 3.1's write today's date with `strftime_now`. Rows that held the day on
which they were first read would be other rows on the next one.
"""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache

TODAY = datetime(2024, 7, 26)  # a day, the same everywhere
"""What Llama 3.1's own template writes where there is no clock."""
FUNCTION = "strftime_now"
DIRECTIVES = "aAwdbBmyYHIpMSfzZjUWcxXGuVeDFTR"
PERCENT = "\ufdd2"
"""One of Unicode's noncharacters."""


def reads_clock(template: object) -> bool:
    """Return whether a chat template, or one of several by name, asks for the date."""
    templates = template.values() if isinstance(template, dict) else [template or ""]
    return any(FUNCTION in str(each) for each in templates)


@lru_cache(maxsize=8)
def at_fixed_date(template: str) -> str:
    """Return the template with a clock of its own, in a line before its first one."""
    return f"{_macro()}\n{template}"


def _macro() -> str:
    names = [*DIRECTIVES, *(f"-{letter}" for letter in "dmHIMSjy")]
    said = [(f"%{name}", TODAY.strftime(f"%{name}")) for name in names]
    pairs = [("%%", PERCENT), *said, (PERCENT, "%")]
    filters = "".join(f" | replace('{name}', '{value}')" for name, value in pairs)
    return f"{{% macro {FUNCTION}(format) %}}{{{{ format{filters} }}}}{{% endmacro %}}"
