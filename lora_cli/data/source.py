"""One source of rows → tokenized rows, every row counted: kept, or dropped with a reason."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from lora_cli import __version__
from lora_cli.data.account import RowAccount, dropped_rows, noted_rows
from lora_cli.data.bad_rows import bad_rows, row_problems
from lora_cli.data.detect import SAMPLE, Detected, detect_format
from lora_cli.data.encode_rows import Dropped, NumberedRow, RowEncoding
from lora_cli.data.encoding.encoder import Encoder
from lora_cli.data.estimate import estimated_rows
from lora_cli.data.readers.read import RawRow, kind_of_file, read_rows
from lora_cli.data.row_cache import cached_store
from lora_cli.data.rows import SourceRows
from lora_cli.data.store_files import VERSION, StoreWriter
from lora_cli.data.workers import encode_all
from lora_cli.errors import LoraCliError, PlanError, Where
from lora_cli.events import Report, RowsRead, unheard
from lora_cli.facts.cache import cached_sha256
from lora_cli.facts.dataset import FileFacts, SourceFacts
from lora_cli.files import sha256_of_text
from lora_cli.formats import Conversation, Example, FormatName, Pair, PlainText


@dataclass(frozen=True, slots=True)
class RowSource:
    """Files of rows and how to read them; all values final but `format`, which may be `auto`."""

    files: tuple[Path, ...]
    format: FormatName = "auto"
    max_rows: int | None = None
    system_prompt: str | None = None
    on_bad_row: Literal["error", "skip"] = "error"
    names: tuple[str, ...] = ()
    """The columns of a table that has no header."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """The format's columns by the names that the file has for them, as far as the recipe says."""
    template: Mapping[str, str] = field(default_factory=dict)
    """The parts of a template that the recipe holds, by name."""
    kinds: tuple[type[Example], ...] = (Conversation, Pair, PlainText)
    """The examples that the task takes: a format is looked for among theirs."""
    places: Mapping[str, Where] = field(default_factory=dict)
    """Where the recipe says it: `format`, `columns.prompt`, `template.text`, …"""


def load_source(
    source: RowSource, encoder: Encoder, report: Report = unheard
) -> tuple[SourceRows, SourceFacts]:
    """Return the rows of a source that can be used, at least one, and the account of all its rows.

    They are read and tokenized only if the cache does not hold them.

    Raises:
        PlanError: a file cannot be read, no format fits, the chat template is broken, a row is
            bad and the source says `error`, or no row is left.
    """
    detected = _detect(source)
    if detected.row_format.kind is Conversation and not getattr(encoder, "has_chat_template", True):
        message = "holds conversations, but the model's tokenizer has no chat template"
        hint = "name one with `model.chat_template`, or take the instruct version of the model"
        raise PlanError(message, str(source.files[0]), hint)
    encoding = RowEncoding(
        detected.format, encoder, source.system_prompt, source.columns, source.template
    )
    reading = _Reading(source, encoding, _file_facts(source))
    store, entry = cached_store(reading.key(), lambda new: reading.write(new, report))
    account = entry["account"]
    if account["bad"]["reasons"] and source.on_bad_row == "error":
        raise _unusable(source, account)
    facts = SourceFacts(
        files=reading.files,
        format=detected.format,
        evidence=detected.evidence,
        rows=account["rows"],
        kept=account["kept"],
        dropped=dropped_rows([account["bad"], account["too_long"]], source.files),
        unused_columns=tuple(account["unused"]),
        control_tokens=noted_rows(account["control_tokens"], source.files),
    )
    rows = SourceRows(
        store, reading.files, detected.row_format, source.names, entry["highest_token"]
    )
    return rows, facts


@dataclass(frozen=True, slots=True)
class _Reading:
    """A source whose format and content are known."""

    source: RowSource
    encoding: RowEncoding
    files: tuple[FileFacts, ...]

    def key(self) -> str:
        """Return a digest of all that decides the tokens and the account, and of nothing else.

        What a bad row does to the plan is not part of it: rows that are mended by being skipped
        need no second reading.
        """
        source = self.source
        content = {
            "loracli": __version__,
            "store": VERSION,
            "files": [[file.sha256, kind_of_file(Path(file.file))] for file in self.files],
            "format": self.encoding.format,
            "names": source.names,
            "columns": dict(source.columns),
            "template": dict(source.template),
            "encoder": [type(self.encoding.encoder).__name__, self.encoding.encoder.fingerprint],
            "system_prompt": source.system_prompt,
            "max_rows": source.max_rows,
        }
        return sha256_of_text(json.dumps(content, sort_keys=True))

    def write(self, folder: Path, report: Report) -> None:
        """Read and tokenize all rows into a folder.

        Raises:
            PlanError: no row can be used, or a file changes.
        """
        source, account = self.source, RowAccount()
        total, started = estimated_rows(source.files, source.max_rows), time.monotonic()
        with StoreWriter(folder) as writer:
            for chunk in encode_all(self.encoding, _rows_of(source)):
                writer.add(chunk.store)
                account.add(chunk)
                report(RowsRead(account.rows, total, time.monotonic() - started))
            if not account.kept:
                raise _unusable(source, account.as_json())
            writer.finish(account.as_json())
        if _file_facts(source) != self.files:
            raise PlanError("changed while it was read", str(source.files[0]), "start again")


def _unusable(source: RowSource, account: Mapping[str, Any]) -> LoraCliError:
    bad = dropped_rows([account["bad"]], source.files)
    if bad.count:
        return PlanError.from_problems(bad_rows(bad, source.on_bad_row))
    too_long = dropped_rows([account["too_long"]], source.files)
    places = [(Where(row.file, row.line), row.reason) for row in too_long.first]
    hint = "raise `training.max_length`, or keep beginnings with `training.truncation: tokens`"
    return PlanError.from_problems(row_problems(places, hint, too_long.count))


def _file_facts(source: RowSource) -> tuple[FileFacts, ...]:
    try:
        return tuple(FileFacts(str(file), cached_sha256(file)) for file in source.files)
    except OSError as error:
        reason = error.strerror or str(error)
        raise PlanError(f"cannot be read: {reason}", str(error.filename)) from error


def _rows_of(source: RowSource) -> Iterator[NumberedRow]:
    """Give the rows that a source takes, each with the number of its file."""
    rows = (
        (number, row)
        for number, file in enumerate(source.files)
        for row in read_rows(file, source.names)
    )
    return islice(rows, source.max_rows)


def _detect(source: RowSource) -> Detected:
    """Return the format, as the recipe says or as the first rows that can be read show."""
    account = RowAccount()
    sample: list[RawRow] = []
    for number, row in _rows_of(source):
        account.rows += 1
        if row.columns is None:
            account.drop(Dropped(number, row.line, row.column, row.reason))
        else:
            sample.append(row)
        if len(sample) == SAMPLE or (source.format != "auto" and account.rows == SAMPLE):
            break
    if not account.rows:
        raise PlanError("holds no rows", str(source.files[0]))
    if not sample and source.format == "auto":
        raise _unusable(source, account.as_json())
    return detect_format(source.files[0], sample, source)
