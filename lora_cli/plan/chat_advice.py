"""What a colleague would say of chat templates and of what stands in turns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lora_cli.data.chat.clock import TODAY
from lora_cli.plan.chat_rules import holds_conversations
from lora_cli.plan.inputs import Facts
from lora_cli.plan.run_plan import RunPlan
from lora_cli.words import counted

MOST_NAMED = 3


def _clock(plan: RunPlan, facts: Facts) -> Iterator[str]:
    if facts.template.reads_clock and holds_conversations(plan):
        what = "the chat template reads the clock: every row is written as of"
        yield f"{what} {TODAY:%Y-%m-%d}, where a server writes its own day"


def _learnt_header(plan: RunPlan, facts: Facts) -> Iterator[str]:
    header = facts.template.learnt_header
    if header and holds_conversations(plan):
        what = "the chat template ignores `add_generation_prompt`"
        yield (
            f"{what}: {header!r} is learnt with each answer, and the model has to write it; "
            "name another template, or mark the answers with {% generation %}"
        )


def _control_tokens(_plan: RunPlan, facts: Facts) -> Iterator[str]:
    apart = facts.dataset.evaluation_source
    sources = [*facts.dataset.sources, *([apart] if apart else [])]
    count = sum(source.control_tokens.count for source in sources)
    if count:
        first = [row for source in sources for row in source.control_tokens.first][:MOST_NAMED]
        places = "; ".join(f"{Path(row.file).name}:{row.line} ({row.reason})" for row in first)
        more = f"; and {count - len(first):,} more" if count > len(first) else ""
        what = "control tokens typed in turns become real ones, and can forge turns"
        yield f"{what}: {counted(count, 'row')}, {places}{more}"


CHAT_ADVICE = (_clock, _learnt_header, _control_tokens)
