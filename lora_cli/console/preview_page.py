"""A preview as one page for a browser: nothing is loaded, everything is escaped.

Characters that a browser would obey or hide are written as on a terminal.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape as escaped

from lora_cli.console.preview_rows import visible
from lora_cli.console.preview_words import Finding, findings, place, row_words, unit_words
from lora_cli.data.lengths import Lengths
from lora_cli.data.preview import Preview
from lora_cli.data.preview_rows import ShownRow, Span
from lora_cli.plan.run_plan import RunPlan
from lora_cli.words import counted

STYLE = """
:root { color-scheme: light dark; --learnt: #c9efce; --special: #0b6e8a; --bad: #9a5b00;
  --line: #d0d0d0; --bar: #6aa5c9; --text: #1c1c1c; --page: #ffffff; --soft: #666 }
@media (prefers-color-scheme: dark) { :root { --learnt: #14532d; --special: #67c7e3;
  --bad: #f0b45a; --line: #444; --bar: #3f7391; --text: #e6e6e6; --page: #161616;
  --soft: #9a9a9a } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: var(--text); background: var(--page) }
pre { white-space: pre-wrap; overflow-wrap: anywhere; border-left: 3px solid var(--line);
  padding: .5rem .8rem; margin: .3rem 0 1rem; font: 14px/1.5 ui-monospace, monospace }
mark { background: var(--learnt); color: inherit; border-radius: 2px }
b { color: var(--special); font-weight: 600 }
mark b { color: inherit; text-decoration: underline }
sub { color: var(--soft) }
h3 { font-size: 1rem; margin: 1rem 0 0; overflow-wrap: anywhere }
h3 + pre { border-color: var(--bar) }
table { border-collapse: collapse } td, th { padding: .15rem .8rem .15rem 0; vertical-align: top;
  text-align: left; overflow-wrap: anywhere } th { white-space: nowrap }
small { display: block; color: var(--soft) } .bad { color: var(--bad) }
.bar { display: inline-block; height: .9rem; background: var(--bar); vertical-align: middle }
.over .bar { background: var(--bad) }
.limit td { border-top: 2px solid var(--bad); color: var(--bad) }
"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
BAR_REM = 24


def preview_page(plan: RunPlan, preview: Preview, title: str) -> str:
    """Return the page's text."""
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}: preview</title><style>{STYLE}</style>"
    )
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(plan.model.name)}, {escape(plan.task.name)}</p>",
        f"<table>{''.join(map(_finding, findings(plan, preview)))}</table>",
        "<h2>Row length</h2>",
        _lengths(preview.lengths),
        "".join(f'<p class="bad">warning: {escape(text)}</p>' for text in plan.warnings),
        "<h2>Rows as the model sees them</h2><p><mark>Trained on</mark>, the rest is read only; "
        "<b>special tokens</b>.</p>"
        if preview.shown
        else "",
        *(_unit(plan, unit, number) for number, unit in enumerate(preview.shown, 1)),
        f"<p><small>plan digest {plan.digest}</small></p>",
    ]
    body = "\n".join(parts)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'


def escape(text: str) -> str:
    """Return a text as HTML that shows all of it."""
    return escaped(visible(text))


def _finding(finding: Finding) -> str:
    details = "".join(f"<small>{escape(detail)}</small>" for detail in finding.details)
    text = f"<span{' class=bad' if finding.is_bad else ''}>{escape(finding.text)}</span>{details}"
    return f"<tr><th>{escape(finding.name)}</th><td>{text}</td></tr>\n"


def _lengths(lengths: Lengths) -> str:
    most, lines = max(1, *(each.rows for each in lengths.bins)), []
    limit = f'<tr class="limit"><td colspan="2">limit {counted(lengths.limit, "token")}</td></tr>'
    within = [each for each in lengths.bins if each.first <= lengths.limit]
    for each in lengths.bins:
        over = each.first > lengths.limit
        bar = f'<span class="bar" style="width:{each.rows / most * BAR_REM:.2f}rem"></span>'
        cells = f"<td>{each.first:,} – {each.last:,}</td><td>{bar} {each.rows:,}</td>"
        lines.append(f"<tr{' class=over' if over else ''}>{cells}</tr>")
    lines.insert(len(within), limit)
    return f"<table>{''.join(lines)}</table>"


def _unit(plan: RunPlan, unit: tuple[ShownRow, ...], number: int) -> str:
    if plan.schedule.batching != "packed":
        return "".join(_row(row, f"row {number}") for row in unit)
    rows = (_row(row, f"document {n} of {len(unit)}") for n, row in enumerate(unit, 1))
    return f"<h3>pack {number} · {unit_words(plan, unit)}</h3>" + "".join(rows)


def _row(row: ShownRow, name: str) -> str:
    title = escape(f"{name} · {place(row.file, row.line)} · {row_words(row)}")
    target = f"<p>→ target</p>{_text(row.target)}" if row.target else ""
    labels = f"<p>→ <mark>{escape(', '.join(row.labels))}</mark></p>" if row.labels else ""
    return f"<h3>{title}</h3>{_text(row.spans)}{target}{labels}\n"


def _text(spans: Sequence[Span]) -> str:
    # a line end right after <pre> would be left out, hence the one more
    return "<pre>\n" + "".join(map(_span, spans)) + "</pre>"


def _span(span: Span) -> str:
    text = escape(span.text)
    text = f"<b>{text}</b>" if span.special else text
    text = f"<mark>{text}</mark>" if span.supervised else text
    return f"{text}<sub>{escape(span.label)}</sub>" if span.label else text
