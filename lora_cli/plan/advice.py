"""What an experienced colleague would say about a plan: warnings, one small function each."""

from __future__ import annotations

from collections.abc import Iterator

from lora_cli.adapters.lokr import LoKr
from lora_cli.adapters.low_rank import LowRankSpec
from lora_cli.facts.bare_parameters import ParameterFacts
from lora_cli.facts.dataset import SourceFacts
from lora_cli.plan.chat_advice import CHAT_ADVICE
from lora_cli.plan.inputs import Facts
from lora_cli.plan.run_plan import RunPlan
from lora_cli.targets.cost import rank_over_weights
from lora_cli.targets.roles import role_of
from lora_cli.words import counted

MODEST_RANK = 64
HIGH_LEARNING_RATE = 2.5
"""Times the variant's own: 5e-4 for LoRA."""
MANY_EPOCHS = 20
FEW_STEPS = 10


def find_warnings(plan: RunPlan, facts: Facts) -> list[str]:
    """Return what is worth a second thought before the run."""
    return [warning for rule in _RULES for warning in rule(plan, facts)]


def _alpha(plan: RunPlan, _facts: Facts) -> Iterator[str]:
    spec = plan.adapter.spec
    if not isinstance(spec, LowRankSpec) or spec.rank_stabilised or spec.start_from != "seed":
        return
    usual = spec.model_copy(update={"alpha": None}).resolved_alpha
    if spec.resolved_alpha != usual:
        yield (
            f"alpha is {spec.resolved_alpha:g} at rank {spec.rank}: without rank-stabilised "
            f"scaling {usual:g} is {spec.variant}'s usual choice"
        )


def _learning_rate(plan: RunPlan, _facts: Facts) -> Iterator[str]:
    rate, spec = plan.schedule.learning_rate, plan.adapter.spec
    high = HIGH_LEARNING_RATE * spec.learning_rate
    if rate > high:
        what = f"a learning rate of {rate:g} is over {high:g}"
        yield f"{what}, which is high for {spec.variant}: watch for a jump in the loss"


def _attention_only(plan: RunPlan, facts: Facts) -> Iterator[str]:
    there_is_more = any(role_of(linear.name) == "mlp" for linear in facts.base.linears)
    if there_is_more and {role_of(name) for name in plan.adapter.modules} == {"attention"}:
        yield "only attention is adapted: all-linear usually learns more at the same rank"


def _high_rank(plan: RunPlan, _facts: Facts) -> Iterator[str]:
    spec = plan.adapter.spec
    if not isinstance(spec, LowRankSpec) or spec.rank_stabilised:
        return
    if spec.rank > MODEST_RANK:
        message = "alpha / rank shrinks the update; try variant rslora"
        yield f"rank {spec.rank} without rsLoRA: {message}"


def _whole_factors(plan: RunPlan, facts: Facts) -> Iterator[str]:
    spec = plan.adapter.spec
    if not isinstance(spec, LoKr):
        return
    highest = spec.highest_rank(facts.matched.modules)
    if spec.rank > highest:
        yield f"lokr of rank {spec.rank} is that of rank {highest}, where its factors are whole"


def _own_base(plan: RunPlan, _facts: Facts) -> Iterator[str]:
    method, spec = plan.quantization.method, plan.adapter.spec
    if method != "none" and spec.takes_from_base:
        yield (
            f"{spec.variant} quantizes other weights than the model's: the run writes its {method} "
            "base beside the adapter, which works on no other"
        )


def _fused_experts(plan: RunPlan, facts: Facts) -> Iterator[str]:
    fused, spec = facts.base.fused_experts, plan.adapter.spec
    if fused and not getattr(spec, "target_parameters", ()):
        where = f"in {counted(len(fused), 'module')} such as `{fused[0]}`"
        field = "write `target_parameters: experts`"
        variant = ", with variant lora or rslora" if spec.capability.experts else ""
        what = "the experts are not adapted"
        yield f"{what}: {where} one tensor holds them, and no linear layer; {field}{variant}"


def _unquantized_experts(plan: RunPlan, facts: Facts) -> Iterator[str]:
    method = plan.quantization.method
    experts = sum(each.matrices * each.rows * each.columns for each in _experts(facts))
    if method != "none" and experts:
        share = f"{experts / plan.model.parameters:.0%} of the model's parameters"
        what = "one tensor holds several experts, and bitsandbytes quantizes linear layers alone"
        yield f"{share} stay in {plan.model.dtype} on this base in {method}: {what}"


def _experts(facts: Facts) -> list[ParameterFacts]:
    return [each for each in facts.base.bare_parameters if each.experts]


def _no_evaluation(plan: RunPlan, _facts: Facts) -> Iterator[str]:
    if plan.evaluation is None:
        yield "no evaluation: nothing will tell learning from memorising; try `evaluation: 0.1`"


def _evaluation_is_training(plan: RunPlan, _facts: Facts) -> Iterator[str]:
    apart = plan.evaluation.source if plan.evaluation else None
    trained = {file.sha256 for source in plan.data.sources for file in source.files}
    if apart and trained & {file.sha256 for file in apart.files}:
        yield "the evaluation rows are training rows: their loss says nothing about new ones"


def _end_supervised(plan: RunPlan, _facts: Facts) -> Iterator[str]:
    if not plan.task.generates:
        return
    tokens = plan.data.train
    if tokens.rows_with_end == 0:
        yield "no row trains on an end-of-turn token: the model may never stop"
    elif tokens.rows_with_end < tokens.rows and tokens.truncated_rows:
        # the beginning of a long text ends in no token, and is not cut
        missing = min(tokens.rows - tokens.rows_with_end, tokens.truncated_rows)
        yield f"cut before their end-of-turn token: {missing} of {counted(tokens.rows, 'row')}"


def _split_tokens(plan: RunPlan, facts: Facts) -> Iterator[str]:
    split = facts.template.split_tokens
    if plan.model.chat_template is not None and split:
        listing = ", ".join(f"`{token}`" for token in split)
        what = "the chat template writes what is no token of this model, and is read in pieces"
        yield f"{what}: {listing}"


def _truncation(plan: RunPlan, _facts: Facts) -> Iterator[str]:
    tokens = plan.data.train
    if tokens.truncated_rows:
        share = f"{tokens.truncated_rows / tokens.rows:.1%}"
        rows, answers = counted(tokens.truncated_rows, "row"), counted(tokens.cut_turns, "answer")
        yield f"longer than max_length, and cut: {rows} ({share}), with {answers}"


def _dropped(_plan: RunPlan, facts: Facts) -> Iterator[str]:
    dropped = sum(source.dropped.count for source in _sources(facts))
    if dropped:
        rows = counted(dropped, "row")
        yield f"dropped: {rows}; `loracli preview` says which and why"


def _unused_columns(_plan: RunPlan, facts: Facts) -> Iterator[str]:
    columns = dict.fromkeys(c for source in _sources(facts) for c in source.unused_columns)
    if columns:
        listing = ", ".join(f"`{column}`" for column in columns)
        yield f"columns of the data that nothing reads: {listing}"


def _sources(facts: Facts) -> list[SourceFacts]:
    apart = facts.dataset.evaluation_source
    return [*facts.dataset.sources, *([apart] if apart else [])]


def _few_packs(plan: RunPlan, _facts: Facts) -> Iterator[str]:
    steps, size = plan.schedule.steps_per_epoch, plan.schedule.batch_size
    if plan.schedule.batching == "packed" and steps < FEW_STEPS and size > 1:
        epoch = f"{counted(plan.schedule.units_per_epoch, 'pack')} make {counted(steps, 'step')}"
        yield f"{epoch} an epoch: a smaller training.batch_size, counted in packs, makes more"


def _rows_per_step(plan: RunPlan, _facts: Facts) -> Iterator[str]:
    schedule = plan.schedule
    asked = schedule.batch_size * schedule.gradient_accumulation_steps * schedule.processes
    there = schedule.units_per_epoch
    if asked > there:
        what = "pack" if schedule.batching == "packed" else "row"
        yield f"a step asks for {counted(asked, what)}, and there are {there:,}: it takes all"


def _late_evaluation(plan: RunPlan, _facts: Facts) -> Iterator[str]:
    evaluation, steps = plan.evaluation, plan.schedule.steps
    if evaluation and evaluation.every_steps > steps:
        patience = ", and patience has nothing to wait for" if evaluation.patience else ""
        every = f"evaluation every {evaluation.every_steps:,} steps of {steps:,}"
        yield f"{every} is one at the end{patience}"


def more_than_the_weights(plan: RunPlan, facts: Facts) -> Iterator[str]:
    """Yield that a rank is higher than a module's weight can have, if one is."""
    yield from rank_over_weights(plan.adapter.spec, facts.matched.modules)


def _many_epochs(plan: RunPlan, _facts: Facts) -> Iterator[str]:
    if plan.schedule.epochs > MANY_EPOCHS:
        rows = counted(plan.data.train.rows, "row")
        yield f"{plan.schedule.epochs:.0f} passes over {rows} memorise more than they teach"


_RULES = (
    _alpha,
    _learning_rate,
    _attention_only,
    _high_rank,
    _whole_factors,
    _own_base,
    _fused_experts,
    _unquantized_experts,
    _no_evaluation,
    _evaluation_is_training,
    _end_supervised,
    _split_tokens,
    _truncation,
    _dropped,
    _unused_columns,
    _few_packs,
    _rows_per_step,
    _late_evaluation,
    more_than_the_weights,
    _many_epochs,
    *CHAT_ADVICE,
)
