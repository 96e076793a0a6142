"""A preview as plain values for a program; the keys are told in docs/preview.md and stay."""

from __future__ import annotations

from typing import Any

from lora_cli.data.duplicates import Alike, Duplicates
from lora_cli.data.lengths import Lengths
from lora_cli.data.preview import Likeness, Listed, Place, Preview
from lora_cli.data.preview_inference import InferenceCheck
from lora_cli.data.preview_rows import ShownRow, Span
from lora_cli.facts.dataset import SourceFacts, TokenFacts
from lora_cli.plan.run_plan import RunPlan

VERSION = 1


def preview_json(plan: RunPlan, preview: Preview) -> dict[str, Any]:
    """Return the whole preview."""
    apart = preview.evaluation_source
    evaluation, packs = preview.evaluation, preview.packs
    return {
        "version": VERSION,
        "digest": plan.digest,
        "task": plan.task.name,
        "model": plan.model.name,
        "batching": plan.schedule.batching,
        "max_length": plan.data.max_length,
        "rows": _rows(preview),
        "sources": [
            *(_source(source, "training") for source in preview.sources),
            *([_source(apart, "evaluation")] if apart else []),
        ],
        "tokens": {
            "training": _tokens(preview.train),
            "evaluation": _tokens(evaluation) if evaluation else None,
        },
        "packs": {"count": packs.count, "full": packs.full} if packs else None,
        "lengths": _lengths(preview.lengths),
        "truncated": _listed(preview.truncated),
        "without_end": _listed(preview.without_end) if preview.without_end else None,
        "duplicates": _likeness(preview.duplicates),
        "leakage": _likeness(preview.leakage) if preview.leakage else None,
        "inference": _inference(preview.inference) if preview.inference else None,
        "warnings": list(plan.warnings),
        "shown": [
            {"tokens": sum(row.tokens for row in unit), "rows": [_row(row) for row in unit]}
            for unit in preview.shown
        ],
    }


def _rows(preview: Preview) -> dict[str, int]:
    sources = preview.all_sources
    return {
        "read": sum(source.rows for source in sources),
        "kept": sum(source.kept for source in sources),
        "dropped": sum(source.dropped.count for source in sources),
        "training": preview.train.rows,
        "evaluation": preview.evaluation.rows if preview.evaluation else 0,
    }


def _source(source: SourceFacts, used_for: str) -> dict[str, Any]:
    return {
        "used_for": used_for,
        "files": [file.file for file in source.files],
        "format": source.format,
        "evidence": source.evidence,
        "read": source.rows,
        "kept": source.kept,
        "dropped": source.dropped.count,
        "dropped_by_reason": dict(source.dropped.by_reason),
        "dropped_rows": [
            {"file": row.file, "line": row.line, "column": row.column, "reason": row.reason}
            for row in source.dropped.first
        ],
        "unused_columns": list(source.unused_columns),
    }


def _tokens(tokens: TokenFacts) -> dict[str, Any]:
    return {**tokens.model_dump(), "supervised_share": tokens.supervised / tokens.total}


def _lengths(lengths: Lengths) -> dict[str, Any]:
    bins = [{"from": each.first, "to": each.last, "rows": each.rows} for each in lengths.bins]
    return {"limit": lengths.limit, "bins": bins}


def _listed(listed: Listed) -> dict[str, Any]:
    return {"rows": listed.count, "listed": [_place(place) for place in listed.first]}


def _place(place: Place) -> dict[str, Any]:
    return {
        "file": place.file,
        "line": place.line,
        "cut_tokens": place.cut_tokens,
        "cut_turns": place.cut_turns,
    }


def _likeness(found: Likeness) -> dict[str, Any]:
    return {
        "rows": found.rows,
        "against": found.against_all,
        "exact": _duplicates(found.exact),
        "near": {**_duplicates(found.near), "compared_with": found.against},
        "sampled": found.is_sample,
    }


def _duplicates(found: Duplicates) -> dict[str, Any]:
    listed = [_alike(pair) for pair in found.shown]
    return {"rows": found.count, "compared": found.compared, "listed": listed}


def _alike(pair: Alike) -> dict[str, Any]:
    first, second = ({"file": file, "line": line} for file, line in (pair.first, pair.second))
    return {"row": second, "like": first, "similarity": pair.similarity}


def _inference(check: InferenceCheck) -> dict[str, Any]:
    return {
        "compared": check.compared,
        "fixed_date": check.fixed_date,
        "different": [
            {
                "file": each.file,
                "line": each.line,
                "position": each.position,
                "training": each.training,
                "inference": each.inference,
            }
            for each in check.different
        ],
        "unanswerable": [
            {"file": each.file, "line": each.line, "reason": each.reason}
            for each in check.unanswerable
        ],
    }


def _row(row: ShownRow) -> dict[str, Any]:
    return {
        "file": row.file,
        "line": row.line,
        "source": row.source,
        "tokens": row.tokens,
        "supervised": row.supervised,
        "cut_tokens": row.cut_tokens,
        "cut_turns": row.cut_turns,
        "ends": row.ends,
        "spans": [_span(span) for span in row.spans],
        "labels": list(row.labels),
        "target": [_span(span) for span in row.target],
    }


def _span(span: Span) -> dict[str, Any]:
    return {
        "text": span.text,
        "tokens": span.tokens,
        "supervised": span.supervised,
        "special": span.special,
        **({"label": span.label} if span.label else {}),
    }
