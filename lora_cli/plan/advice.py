"""What an experienced colleague would say about a plan: warnings, one small function each."""

from __future__ import annotations

from collections.abc import Iterator

from lora_cli.facts.dataset import SourceFacts
from lora_cli.plan.inputs import Facts
from lora_cli.plan.run_plan import RunPlan
from lora_cli.targets.roles import role_of

MODEST_RANK = 64
HIGH_LEARNING_RATE = 5e-4
MANY_EPOCHS = 20


def find_warnings(plan: RunPlan, facts: Facts) -> list[str]:
    """Return what is worth a second thought before the run."""
    return [warning for rule in _RULES for warning in rule(plan, facts)]


def _alpha(plan: RunPlan, _facts: Facts) -> Iterator[str]:
    spec = plan.adapter.spec
    if not spec.rank_stabilised and spec.resolved_alpha != 2 * spec.rank:
        yield (
            f"alpha is {spec.resolved_alpha:g} at rank {spec.rank}: without rank-stabilised "
            f"scaling 2·rank = {2 * spec.rank} is the usual choice"
        )


def _learning_rate(plan: RunPlan, _facts: Facts) -> Iterator[str]:
    rate = plan.schedule.learning_rate
    if rate > HIGH_LEARNING_RATE:
        yield f"a learning rate of {rate:g} is over 5e-4: watch for a jump in the loss"


def _attention_only(plan: RunPlan, _facts: Facts) -> Iterator[str]:
    if {role_of(name) for name in plan.adapter.modules} == {"attention"}:
        yield "only attention is adapted: all-linear usually learns more at the same rank"


def _high_rank(plan: RunPlan, _facts: Facts) -> Iterator[str]:
    spec = plan.adapter.spec
    if spec.rank > MODEST_RANK and not spec.rank_stabilised:
        message = "alpha / rank shrinks the update; try variant rslora"
        yield f"rank {spec.rank} without rsLoRA: {message}"


def _fused_experts(_plan: RunPlan, facts: Facts) -> Iterator[str]:
    fused = facts.base.fused_experts
    if fused:
        where = f"{len(fused)} modules such as `{fused[0]}` hold them in one tensor each"
        yield f"the experts are not adapted: {where}, which is no linear layer"


def _no_evaluation(plan: RunPlan, _facts: Facts) -> Iterator[str]:
    if plan.evaluation is None:
        yield "no evaluation: nothing will tell learning from memorising; try `evaluation: 0.1`"


def _evaluation_is_training(plan: RunPlan, _facts: Facts) -> Iterator[str]:
    apart = plan.evaluation.source if plan.evaluation else None
    if apart and apart.sha256 in {source.sha256 for source in plan.data.sources}:
        yield "the evaluation rows are training rows: their loss says nothing about new ones"


def _end_supervised(plan: RunPlan, _facts: Facts) -> Iterator[str]:
    tokens = plan.data.train
    if tokens.rows_with_end == 0:
        yield "no row trains on an end-of-turn token: the model may never stop"
    elif tokens.rows_with_end < tokens.rows:
        missing = tokens.rows - tokens.rows_with_end
        yield f"{missing} of {tokens.rows} rows are cut before their end-of-turn token"


def _truncation(plan: RunPlan, _facts: Facts) -> Iterator[str]:
    tokens = plan.data.train
    if tokens.truncated_rows:
        share = f"({tokens.truncated_rows / tokens.rows:.1%})"
        yield f"{tokens.truncated_rows} rows {share} are longer than max_length and are cut"


def _dropped(_plan: RunPlan, facts: Facts) -> Iterator[str]:
    dropped = sum(len(source.dropped) for source in _sources(facts))
    if dropped:
        yield f"{dropped} rows are dropped (on_bad_row: skip); plan.json lists each with its reason"


def _unused_columns(_plan: RunPlan, facts: Facts) -> Iterator[str]:
    columns = dict.fromkeys(c for source in _sources(facts) for c in source.unused_columns)
    if columns:
        listing = ", ".join(f"`{column}`" for column in columns)
        yield f"columns of the data that nothing reads: {listing}"


def _sources(facts: Facts) -> list[SourceFacts]:
    apart = facts.dataset.evaluation_source
    return [*facts.dataset.sources, *([apart] if apart else [])]


def _many_epochs(plan: RunPlan, _facts: Facts) -> Iterator[str]:
    if plan.schedule.epochs > MANY_EPOCHS:
        rows = plan.data.train.rows
        yield f"{plan.schedule.epochs:.0f} passes over {rows} rows will memorise them"


_RULES = (
    _alpha,
    _learning_rate,
    _attention_only,
    _high_rank,
    _fused_experts,
    _no_evaluation,
    _evaluation_is_training,
    _end_supervised,
    _truncation,
    _dropped,
    _unused_columns,
    _many_epochs,
)
