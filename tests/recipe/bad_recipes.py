"""The bad recipes: files in `bad/` that say what they expect, and those that no text file can be.

A file begins with one line for each problem that it has, in the order they are shown:
`# expect: LINE:COLUMN KEY | a part of the message | a part of the hint` (`-` for no key).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "bad"

_EXPECTATION = re.compile(r"# expect: (\d+):(\d+) (.+?) \| (.+?)(?: \|(?: (.*))?)?")
_BASE = b"model: base-model\nadapter: lora\ndataset: rows.jsonl\n"


@dataclass(frozen=True)
class Expected:
    """One problem: where it is, and what is said of it."""

    line: int
    column: int
    key: str
    message: str
    hint: str


def bad_files() -> list[Path]:
    """Return the bad recipes that are text files, by name."""
    return sorted(FOLDER.glob("*.yaml"))


def expectations(path: Path) -> list[Expected]:
    """Return the problems that a bad recipe says it has."""
    found: list[Expected] = []
    for line in path.read_bytes().decode("utf-8-sig").splitlines():
        if not line.startswith("# expect:"):
            break
        match = _EXPECTATION.fullmatch(line)
        assert match, f"{path.name}: {line}"
        key = "" if match[3] == "-" else match[3]
        found.append(Expected(int(match[1]), int(match[2]), key, match[4], match[5] or ""))
    return found


@dataclass(frozen=True)
class Made:
    """A bad recipe that is made when the tests run, and its one problem."""

    name: str
    content: bytes
    position: str
    message: str
    hint: str = ""


MADE = [
    Made("empty", b"", ":1:1", "the recipe is empty", "`model`, `adapter` and `dataset`"),
    Made("only_a_bom", b"\xef\xbb\xbf", ":1:1", "the recipe is empty"),
    Made("only_blanks", b" \n\n   \n", ":1:1", "the recipe is empty"),
    Made("only_comments", b"# model: x\n# adapter: lora\n", ":1:1", "the recipe is empty"),
    Made("only_null", b"~\n", ":1:1", "the recipe is empty"),
    Made("only_a_document_mark", b"---\n", ":1:1", "the recipe is empty"),
    Made("binary", b"\x7fELF\x02\x01\x01\x00\xc3\x28", ":1:9", "is not UTF-8 text", "right file?"),
    Made(
        "nul_bytes", _BASE + b"seed: \x003\n", ":4:7", "holds the character U+0000", "right file?"
    ),
    Made("escape_character", _BASE + b"output: \x1b[31mruns\n", ":4:9", "U+001B", "remove it"),
    Made("delete_character", _BASE + b"output: ru\x7fns\n", ":4:11", "U+007F", "remove it"),
    Made("next_line_character", _BASE + "seed: 1\u0085\n".encode(), ":4:8", "U+0085", "remove it"),
    Made("line_separator", _BASE + "seed:\u20281\n".encode(), ":4:6", "U+2028", "remove it"),
    Made("bom_in_the_middle", _BASE + b"\xef\xbb\xbfseed: 1\n", ":4:1", "U+FEFF", "remove it"),
    Made("two_boms", b"\xef\xbb\xbf\xef\xbb\xbf" + _BASE, ":1:1", "U+FEFF", "remove it"),
    Made("latin_1", _BASE + "# ü\noutput: für".encode("latin-1"), ":4:3", "is not UTF-8", "UTF-8"),
    Made(
        "bad_utf_8_after_wide_characters",
        "model: 模型\nadapter: 适\xff".encode()[:-2] + b"\xff\n",
        ":2:11",
        "is not UTF-8 text",
    ),
    Made("utf_16", _BASE.decode().encode("utf-16"), ":1:1", "is UTF-16 text", "save it as UTF-8"),
    Made("utf_16_without_bom", _BASE.decode().encode("utf-16-le"), ":1:2", "U+0000", "right file?"),
    Made("utf_32", _BASE.decode().encode("utf-32-be"), ":1:1", "U+0000", "right file?"),
    Made("ten_megabytes", b"# padding\n" * 1_048_576, "", "larger than 262,144 bytes", "the data?"),
    Made("brackets", b"[" * 200_000, ":1:21", "nested more than 20 levels", "loracli schema"),
    Made("braces", b"{a: " * 60_000, ":1:81", "nested more than 20 levels", "loracli schema"),
    Made("dashes", b"- " * 100_000, ":1:41", "nested more than 20 levels", "loracli schema"),
    Made("many_values", b"a: [" + b"1," * 100_000 + b"]", ":1:9999", "more than 5,000 values"),
    Made(
        "alias_bomb",
        b"a: &a [x, x, x, x, x, x, x, x, x]\n"
        + b"".join(
            b"%c: &%c [%s]\n" % (98 + level, 98 + level, b", ".join([b"*%c" % (97 + level)] * 9))
            for level in range(12)
        ),
        ":4:24",
        "aliases expand to more than 5,000 values",
        "write the values out",
    ),
    Made("endless_key", _BASE + b"k" * 250_000 + b": 1\n", ":4:1", "more than 1,024 characters"),
    Made("endless_quote", b"model: '" + b"x" * 250_000, ":1:8", "this quote is never closed"),
    Made("endless_number", _BASE + b"seed: " + b"1" * 250_000, ":4:7", "too large a number"),
    Made("endless_digits", _BASE + b"seed: 1" + b"_" * 250_000 + b"x", ":4:7", "a whole number"),
    Made("endless_sexagesimal", _BASE + b"seed: 1" + b":1" * 120_000 + b"x", ":4:7", "a whole"),
    Made("endless_value", _BASE + b"training: " + b"x" * 250_000, ":4:11", "must be a mapping"),
    Made(
        "endless_regex",
        b"model: m\ndataset: d\nadapter:\n  variant: lora\n  target_modules:\n    regex: "
        + b"(" * 100_000
        + b"a" * 100
        + b")" * 100_000,
        ":6:12",
        "is not a regular expression",
    ),
]
"""Each has one problem; those with hundreds are in `test_bad_recipes`."""

MANY = {
    "unknown_keys": _BASE + b"".join(b"key%dwxyz: 1\n" % number for number in range(2_400)),
    "foreign_keys": _BASE + b"".join(b"lora_%d: 1\n" % number for number in range(2_400)),
    "keys_twice": _BASE + b"seed: 1\n" * 2_400,
    "bad_items": b"model: m\nadapter: lora\ndataset:\n" + b"  - 7\n" * 4_800,
    "misspelt_items": b"model: m\nadapter: lora\ndataset:\n" + b"  - {paht: x, spilt: y}\n" * 900,
    "empty_names": b"model: m\ndataset: d\nadapter: {variant: lora, target_modules: ["
    + b"''," * 4_800
    + b"]}\n",
    "null_keys": b"? a\n" * 2_400,
}
"""Recipes with thousands of problems, by name."""


def write_made(folder: Path) -> list[Path]:
    """Return the made recipes as files in `folder`, and what is no file at all."""
    paths = [folder / f"{made.name}.yaml" for made in MADE]
    for path, made in zip(paths, MADE, strict=True):
        path.write_bytes(made.content)
    for name, content in MANY.items():
        paths.append(folder / f"{name}.yaml")
        paths[-1].write_bytes(content)
    (folder / "folder.yaml").mkdir()
    return [*paths, folder / "folder.yaml", folder / "missing.yaml"]
