"""What a name in a recipe means, and what to say of one that means nothing."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

from lora_cli.adapters.targeted import TargetRegex


def is_named(module: str, name: str) -> bool:
    """Return whether peft, given `name` in a list, would match the module called `module`."""
    return module == name or module.endswith(f".{name}")


def is_meant(module: str, by: Sequence[str] | TargetRegex) -> bool:
    """Return whether one of the names, or the expression, means the module called `module`."""
    if isinstance(by, TargetRegex):
        return re.fullmatch(by.regex, module) is not None
    return any(is_named(module, name) for name in by)


def last_names(modules: Iterable[str]) -> tuple[str, ...]:
    """Return the last parts of full names, each once."""
    return tuple(dict.fromkeys(module.rpartition(".")[2] for module in modules))


def listing(modules: Iterable[str]) -> str:
    """Return the last names of modules as a reader would list them."""
    return ", ".join(last_names(modules)) or "none"


def did_you_mean(name: str, modules: Iterable[str]) -> str:
    """Return a question with the last name that is most like `name`; empty if none is."""
    near = difflib.get_close_matches(name, last_names(modules), n=1)
    return f"did you mean `{near[0]}`? " if near else ""
