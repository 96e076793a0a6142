"""What a preview found, in words: the same for a terminal and for a page."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lora_cli.console.plan import learnt_of
from lora_cli.data.duplicates import Duplicates
from lora_cli.data.preview import Likeness, Listed, Preview
from lora_cli.data.preview_inference import InferenceCheck
from lora_cli.data.preview_rows import ShownRow
from lora_cli.facts.dataset import SourceFacts
from lora_cli.plan.run_plan import RunPlan
from lora_cli.words import counted

MOST_NAMED = 3
"""Places that are named of a kind; `--json` has up to 100."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at, what came of it, and some places."""

    name: str
    text: str
    details: tuple[str, ...] = ()
    is_bad: bool = False


def findings(plan: RunPlan, preview: Preview) -> list[Finding]:
    """Return all that is told of the rows as a whole."""
    sources = [
        *preview.sources,
        *([preview.evaluation_source] if preview.evaluation_source else []),
    ]
    found = [
        _rows(sources, preview),
        *(_source(source) for source in sources if len(sources) > 1 or source.dropped.count),
        _tokens(plan, preview),
        _lengths(plan, preview),
    ]
    if preview.packs:
        full = f"{preview.packs.full:.1%} full on average"
        packs = f"{counted(preview.packs.count, 'pack')} of up to {plan.data.max_length:,} tokens"
        found.append(Finding("packs", f"{packs}, {full}"))
    found += [_truncated(preview.truncated, plan.data.max_length)]
    found += [_ends(preview.without_end)] if preview.without_end else []
    found += _likenesses("duplicates", preview.duplicates, "an earlier row")
    found += _likenesses("leakage", preview.leakage, "a training row") if preview.leakage else []
    return [*found, _inference(plan, preview.inference)]


def place(file: str, line: int) -> str:
    """Return `file:line`, the file as it is called from here."""
    return f"{_near(file)}:{line}"


def _near(file: str) -> str:
    path, here = Path(file), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else file


def row_words(row: ShownRow) -> str:
    """Return a row's tokens, how many are trained on, and what was cut."""
    words = counted(row.tokens, "token")
    if row.labels:
        learnt = f"learns {counted(row.supervised, 'label')}"
    elif any(span.label for span in row.spans):
        learnt = f"learns {counted(row.supervised, 'tag')}"
    elif row.target:
        learnt = f"learns to write {counted(row.supervised, 'token')}"
    else:
        learnt = f"{row.supervised:,} trained on ({row.supervised / row.tokens:.0%})"
    cut = f", {_cut(row.cut_tokens, row.cut_turns)}" if row.cut_tokens else ""
    return f"{words}, {learnt}{cut}"


def unit_words(plan: RunPlan, unit: tuple[ShownRow, ...]) -> str:
    """Return what a pack holds."""
    tokens = sum(row.tokens for row in unit)
    return f"{counted(len(unit), 'row')}, {tokens:,} of {plan.data.max_length:,} tokens"


def _rows(sources: Iterable[SourceFacts], preview: Preview) -> Finding:
    read = sum(source.rows for source in sources)
    dropped = sum(source.dropped.count for source in sources)
    account = f"{read:,} read = {read - dropped:,} kept + {dropped:,} dropped"
    apart = preview.evaluation.rows if preview.evaluation else 0
    used = f"{counted(preview.train.rows, 'row')} to train on, {apart:,} to evaluate on"
    return Finding("rows", account, (used,), is_bad=dropped > 0)


def _source(source: SourceFacts) -> Finding:
    more = f" and {len(source.files) - 1:,} more" if len(source.files) > 1 else ""
    kept = f"{source.kept:,} of {counted(source.rows, 'row')} kept, {source.format}"
    reasons = [f"{count:,} × {reason}" for reason, count in source.dropped.by_reason]
    first = [
        f"{place(row.file, row.line)}: {row.reason}" for row in source.dropped.first[:MOST_NAMED]
    ]
    rest = _rest(source.dropped.count, len(first))
    text = f"{_near(source.files[0].file)}{more}: {kept}"
    return Finding("", text, (*reasons, *first, *rest), is_bad=source.dropped.count > 0)


def _tokens(plan: RunPlan, preview: Preview) -> Finding:
    tokens = preview.train
    share = tokens.supervised / tokens.total
    text = f"{tokens.total:,}, of which {tokens.supervised:,} ({share:.1%}) are trained on"
    if not plan.task.generates:
        text = f"{tokens.total:,}, {counted(tokens.supervised, learnt_of(plan))} to learn"
    elif plan.task.name == "seq2seq_lm":
        text = f"{tokens.total:,} to read, {tokens.supervised:,} to write"
    return Finding("tokens", text)


def _lengths(plan: RunPlan, preview: Preview) -> Finding:
    tokens = preview.train
    text = f"median {tokens.median:,}, 95 % {tokens.percentile_95:,}, longest {tokens.longest:,}"
    return Finding("row length", f"{text}, limit {plan.data.max_length:,}")


def _truncated(cut: Listed, limit: int) -> Finding:
    if not cut.count:
        return Finding("cut", "nothing: every row fits")
    places = [
        f"{place(row.file, row.line)}: {_cut(row.cut_tokens, row.cut_turns)}"
        for row in cut.first[:MOST_NAMED]
    ]
    rest = _rest(cut.count, len(places))
    text = f"{counted(cut.count, 'row')} longer than {counted(limit, 'token')}"
    return Finding("cut", text, (*places, *rest), is_bad=True)


def _cut(tokens: int, turns: int) -> str:
    answers = f" ({counted(turns, 'answer')})" if turns else ""
    return f"{counted(tokens, 'token')}{answers} cut"


def _ends(without: Listed) -> Finding:
    if not without.count:
        return Finding("ends", "every row trains on a token that ends an answer")
    places = [place(row.file, row.line) for row in without.first[:MOST_NAMED]]
    rows = counted(without.count, "row")
    text = f"{rows} never learn to stop: no token that ends an answer is trained on"
    return Finding("ends", text, (*places, *_rest(without.count, len(places))), is_bad=True)


def _likenesses(name: str, found: Likeness, what: str) -> list[Finding]:
    exact, near = found.exact, found.near
    among = "rows" if name == "duplicates" else "evaluation rows"
    text = f"{exact.count:,} of {found.rows:,} {among} equal {what}, token for token"
    alike = f"{near.count:,} of {near.compared:,} share at least 80 % with {what}"
    if found.is_sample:
        alike += f", in a sample ({near.compared:,} of {found.rows:,}"
        alike += f", against {found.against:,})" if name == "leakage" else ")"
    return [
        Finding(name, text, _pairs(exact), is_bad=exact.count > 0),
        Finding("", alike, _pairs(near) if near.count > exact.count else (), near.count > 0),
    ]


def _pairs(found: Duplicates) -> tuple[str, ...]:
    # the least alike say most: exact ones are listed on their own
    alike = sorted(found.shown, key=lambda pair: pair.similarity)[:MOST_NAMED]
    lines = [
        f"{place(*pair.second)} = {place(*pair.first)}"
        if pair.similarity == 1
        else f"{place(*pair.second)} ≈ {place(*pair.first)} ({pair.similarity:.0%})"
        for pair in alike
    ]
    return (*lines, *_rest(found.count, len(lines)))


def _rest(count: int, named: int) -> tuple[str, ...]:
    return (f"… and {count - named:,} more",) if count > named else ()


def _inference(plan: RunPlan, check: InferenceCheck | None) -> Finding:
    if check is None:
        why = "no conversations: what is given is fed as it stands"
        return Finding("inference", why if plan.task.generates else "this task writes no text")
    lines = [
        f"{place(each.file, each.line)}: at token {each.position + 1:,} training reads "
        f"{each.training!r}, inference {each.inference!r}"
        for each in check.different
    ]
    lines += [f"{place(each.file, each.line)}: {each.reason}" for each in check.unanswerable]
    if not lines:
        text = f"{check.compared:,} compared: all begin with exactly what a server feeds the model"
        text += f", its date aside ({check.fixed_date} here)" if check.fixed_date else ""
        return Finding("inference", text)
    text = f"{len(lines):,} of {check.compared:,} do not begin with what a server feeds the model"
    named = lines[:MOST_NAMED]
    return Finding("inference", text, (*named, *_rest(len(lines), len(named))), is_bad=True)
