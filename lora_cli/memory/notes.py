"""What is worth saying beside an estimate: what is not counted, what was left out, what is odd."""

from __future__ import annotations

from collections.abc import Iterator

from lora_cli.memory.closed_form import paged_bytes
from lora_cli.memory.subject import Subject
from lora_cli.plan.advice import more_than_the_weights


def notes_of(subject: Subject) -> Iterator[str]:
    """Yield what a reader of the estimate has to know, a sentence each."""
    plan, facts = subject.plan, subject.facts
    yield from subject.left_out
    if paged := paged_bytes(plan, facts.base):
        yield (
            f"{paged / (1 << 20):,.0f} MiB of the optimizer's state lie in pages, which move to "
            "the machine's memory where the device's is short: they are not counted"
        )
    yield from more_than_the_weights(plan, facts)
