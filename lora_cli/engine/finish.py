"""After the last step: the best adapter and everything about it, the result file last."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

from lora_cli.data.encoding.encoders import encoder_for
from lora_cli.engine import run_directory
from lora_cli.engine.answers import Scores, compare_answers
from lora_cli.engine.artifacts import (
    RunResult,
    write_adapter,
    write_base,
    write_loss_curve,
    write_rank_curve,
)
from lora_cli.engine.cards import write_model_card, write_report
from lora_cli.engine.label_words import compare_labels, label_choices
from lora_cli.engine.loop import Training
from lora_cli.engine.metrics import measured_at
from lora_cli.events import Stage
from lora_cli.files import write_text
from lora_cli.plan.run_folder import MOST_PROBES, PROBE_TOKENS, PROBES, RESULT
from lora_cli.plan.run_plan import EvaluationPlan


def finish(training: Training, tokenizer: Any, weights: Path) -> RunResult:
    """Write what a run leaves behind; a run directory with a result file is complete."""
    plan, report, adapter = training.plan, training.report, training.trained.adapter
    folder = Path(plan.run_dir)
    if training.state.best is not None:
        adapter.load_state(training.state.best)
    report(Stage("writing the adapter"))
    own_base = folder / run_directory.BASE if adapter.own_base else None
    if own_base is not None:
        write_base(own_base, adapter, tokenizer)
    write_adapter(
        folder / run_directory.ADAPTER,
        adapter,
        tokenizer=tokenizer,
        plan=plan,
        weights=weights,
        own_base=own_base,
    )
    _write_probes(folder / PROBES, training)
    result = _result(training, _scores(training, tokenizer))
    write_loss_curve(folder / run_directory.METRICS, folder / run_directory.CURVE)
    write_rank_curve(folder / run_directory.METRICS, folder / run_directory.RANKS)
    write_model_card(folder / run_directory.CARD, plan, result)
    write_report(
        folder / run_directory.REPORT,
        plan,
        result,
        curve=folder / run_directory.CURVE,
        ranks=folder / run_directory.RANKS,
    )
    write_text(folder / RESULT, result.to_json())
    return result


def _write_probes(file: Path, training: Training) -> None:
    """Write what `merge` will ask the merged model: the ends of the first evaluation rows."""
    rows = islice(training.dataset.evaluation, MOST_PROBES)
    ends = [row.tokens.input_ids[-PROBE_TOKENS:].tolist() for row in rows]
    if ends:
        write_text(file, json.dumps(ends) + "\n")


def _scores(training: Training, tokenizer: Any) -> Scores:
    evaluation = training.plan.evaluation
    if evaluation is None or evaluation.answers is None:
        return {}
    training.report(Stage("answering the evaluation rows"))
    scores = compare_answers(
        training.trained.model,
        tokenizer,
        training.dataset.evaluation,
        evaluation.answers,
        file=Path(training.plan.run_dir) / run_directory.ANSWERS,
        report=training.report,
    )
    if evaluation.answers.labels is None:
        return scores
    likelihoods = _label_scores(training, tokenizer, evaluation)
    return {who: {**found, **likelihoods[who]} for who, found in scores.items()}


def _label_scores(training: Training, tokenizer: Any, evaluation: EvaluationPlan) -> Scores:
    assert evaluation.answers is not None, "asked before"
    plan, rows = training.plan, training.dataset.evaluation
    # whatever is trained on: a label is the answer alone
    masking = plan.data.masking.model_copy(update={"loss_on": "assistant"})
    length = plan.data.max_length
    encoder = encoder_for(plan.task, tokenizer, max_length=length, masking=masking)
    apart = [evaluation.source] if evaluation.source else plan.data.sources
    prompts = [source.system_prompt for source in apart]
    answers = evaluation.answers
    choices = label_choices(rows, answers.labels or (), encoder, prompts)
    expected = [example.answer for example in rows.examples()]
    training.report(Stage("weighing the labels of the evaluation rows"))
    padding = plan.model.padding_token
    return compare_labels(training.trained.model, choices, expected, answers, padding_id=padding)


def _result(training: Training, scores: Scores) -> RunResult:
    folder, progress = Path(training.plan.run_dir), training.state.progress
    assert progress.loss is not None, "a plan has at least one step"
    best = measured_at(folder / run_directory.METRICS, progress.best_step)
    return RunResult(
        run_dir=str(folder),
        adapter=str(folder / run_directory.ADAPTER),
        digest=training.plan.digest,
        steps=progress.step,
        final_loss=progress.loss,
        tokens=progress.tokens,
        seconds=progress.seconds,
        peak_memory_bytes=progress.peak_memory_bytes,
        memory_before_bytes=training.memory_before,
        largest_batch=training.largest.fields() if training.largest else None,
        best_step=progress.best_step or None,
        best_evaluation_loss=progress.best_loss,
        figures=best.figures,
        per_class=best.per_class,
        scores=scores,
        base=str(folder / run_directory.BASE) if training.trained.adapter.own_base else None,
    )
