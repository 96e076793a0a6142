"""Every task through the command line: it learns, is measured and saved, and peft reloads it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import PeftConfig, PeftModel
from torch.nn import functional
from transformers import AutoConfig, AutoTokenizer

from lora_cli import cli
from lora_cli.engine.artifacts import write_adapter
from lora_cli.engine.prepare import (
    build_trainables,
    planned_dataset,
    planned_tokenizer,
    planned_weights,
)
from lora_cli.engine.runtime import Runtime
from lora_cli.plan.run_plan import RunPlan
from tests.helpers.runs import PLAIN_PEFT, losses_of, metrics_of, plan_of, train
from tests.helpers.task_rows import CASES, WORDS, write_case
from tests.helpers.tiny_models import write_rows

pytestmark = PLAIN_PEFT
FIGURES = {
    "bert_texts": {"accuracy", "f1_macro", "f1_weighted", "matthews"},
    "llama_texts": {"accuracy", "f1_macro", "f1_weighted", "matthews"},
    "bert_words": {"token_accuracy", "precision", "recall", "f1", "f1_macro", "f1_weighted"},
    "t5": {"perplexity", "token_accuracy"},
}


def loracli(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run the command line in this process; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["loracli", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def reloaded(adapter: Path) -> tuple[Any, Any]:
    """Return model and tokenizer as the model card says."""
    plain = PeftConfig.from_pretrained(adapter)
    plan = json.loads((adapter.parent / "plan.json").read_text("utf-8"))
    auto_class = {
        "SEQ_CLS": "AutoModelForSequenceClassification",
        "TOKEN_CLS": "AutoModelForTokenClassification",
        "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
    }[plain.task_type]
    labelled = {"config": AutoConfig.from_pretrained(adapter)} if plan["task"].get("labels") else {}
    base = getattr(transformers, auto_class).from_pretrained(
        plain.base_model_name_or_path, dtype=torch.float32, attn_implementation="eager", **labelled
    )
    return PeftModel.from_pretrained(base, adapter).eval(), AutoTokenizer.from_pretrained(adapter)


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def text_losses(model: Any, tokenizer: Any, rows: list[dict[str, Any]]) -> Iterator[torch.Tensor]:
    """Give the losses of all rows, in one padded batch."""
    seconds = [row.get("second_text", "") for row in rows]
    for has_second in (True, False):
        part = [
            row for row, second in zip(rows, seconds, strict=True) if bool(second) == has_second
        ]
        texts = [[row["text"] for row in part]]
        texts += [[row["second_text"] for row in part]] if has_second else []
        read = tokenizer(*texts, padding=True, padding_side="right", return_tensors="pt")
        names = [name for name in read if name in ("input_ids", "attention_mask")]
        names += ["token_type_ids"] if "bert" in type(tokenizer).__name__.lower() else []
        labels = torch.tensor([model.config.label2id[row["label"]] for row in part])
        logits = model(**{name: read[name] for name in names}).logits
        yield functional.cross_entropy(logits, labels, reduction="none")


def word_losses(model: Any, tokenizer: Any, rows: list[dict[str, Any]]) -> Iterator[torch.Tensor]:
    for row in rows:
        read = tokenizer(row["tokens"], is_split_into_words=True, return_tensors="pt")
        words = read.word_ids()
        first = [words.index(number) for number in range(len(row["tokens"]))]
        labels = torch.tensor([model.config.label2id[tag] for tag in row["tags"]])
        yield functional.cross_entropy(model(**read).logits[0, first], labels, reduction="none")


def target_losses(model: Any, tokenizer: Any, rows: list[dict[str, Any]]) -> Iterator[torch.Tensor]:
    for row in rows:
        read = tokenizer(row["source"], return_tensors="pt")
        labels = tokenizer(text_target=row["target"], return_tensors="pt")["input_ids"]
        ids, mask = read["input_ids"], read["attention_mask"]
        logits = model(input_ids=ids, attention_mask=mask, labels=labels).logits
        yield functional.cross_entropy(logits[0], labels[0], reduction="none")


LOSSES = {
    "bert_texts": text_losses,
    "llama_texts": text_losses,
    "bert_words": word_losses,
    "t5": target_losses,
}


@pytest.mark.parametrize("name", CASES)
def test_a_task_from_its_recipe_to_a_model_in_plain_peft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert loracli(monkeypatch, "train", write_case(tmp_path, name)) == 0
    run = tmp_path / "run"
    losses = losses_of(run)
    assert sum(losses[-6:]) < 0.9 * sum(losses[:6])
    result = json.loads((run / "result.json").read_text("utf-8"))
    assert result["figures"].keys() == FIGURES[name]
    evaluation = metrics_of(run, "evaluation")[-1]
    assert evaluation.keys() >= FIGURES[name]
    shown, card = capsys.readouterr().out, (run / "README.md").read_text("utf-8")
    report = (run / "report.html").read_text("utf-8")
    for figure in FIGURES[name]:
        assert all(figure.replace("_", " ") in text for text in (shown, card, report))
    for label in result["per_class"]:
        assert f"| {label} |" in card
        assert f"<td>{label}</td>" in report
    model, tokenizer = reloaded(run / "adapter")
    with torch.no_grad():
        plain = torch.cat(list(LOSSES[name](model, tokenizer, rows_of(tmp_path / "apart.jsonl"))))
    # float32 logits of tiny models, summed in another order
    assert float(plain.mean()) == pytest.approx(result["best_evaluation_loss"], abs=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_a_task_is_merged_into_a_model_of_its_own_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    plan = plan_of(write_case(tmp_path, name, training={"steps": 1}))
    train(plan)
    output = tmp_path / "merged"
    assert loracli(monkeypatch, "merge", tmp_path / "run", "--output", output, "--json") == 0
    assert json.loads(capsys.readouterr().out)["proof"]["agreement"] == 1.0
    config = json.loads((output / "config.json").read_text("utf-8"))
    assert config["architectures"] == [plan.model.architecture]


def test_a_classifier_is_not_exported_as_a_language_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train(plan_of(write_case(tmp_path, "bert_texts", training={"steps": 1})))
    output = tmp_path / "exported"
    arguments = ("export", "--to", "lora", tmp_path / "run", "--output", output)
    assert loracli(monkeypatch, *arguments) != 0
    said = " ".join(capsys.readouterr().err.split())
    assert "adapters for SEQ_CLS are not" in said
    assert "into its base with `loracli merge`" in said
    assert not output.exists()


@pytest.mark.parametrize(
    ("name", "variant"), [*((name, "dora") for name in CASES), ("bert_texts", "rslora")]
)
def test_the_reloaded_logits_are_those_of_the_model_in_memory(
    tmp_path: Path, name: str, variant: str
) -> None:
    adapter = {"variant": variant, "rank": 4}
    plan = plan_of(write_case(tmp_path, name, adapter=adapter, training={"steps": 1}))
    tokenizer, weights = planned_tokenizer(plan), planned_weights(plan)
    trained = build_trainables(plan, weights, Runtime(device="cpu", processes=1), print)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    run = Path(plan.run_dir)
    run.mkdir()
    (run / "plan.json").write_text(plan.to_json(), "utf-8")
    write_adapter(run / "adapter", trained.adapter, tokenizer=tokenizer, plan=plan, weights=weights)
    model, _ = reloaded(run / "adapter")
    batch = first_batch(plan, tokenizer)
    with torch.no_grad():
        found, ours = plan.task.score(model, batch), plan.task.score(trained.model.eval(), batch)
        logits = [each(**inputs_of(plan, batch)).logits for each in (model, trained.model)]
    torch.testing.assert_close(logits[0], logits[1], atol=1e-6, rtol=0)
    assert found.predictions == ours.predictions


def first_batch(plan: RunPlan, tokenizer: Any) -> Any:
    rows = [row.tokens for row in planned_dataset(plan, tokenizer).train[:5]]
    padding = plan.model.padding_token
    return plan.task.collate(rows, padding_id=padding, device=torch.device("cpu"))


def inputs_of(plan: RunPlan, batch: Any) -> dict[str, torch.Tensor]:
    labels = {"labels": batch.labels} if plan.task.name == "seq2seq_lm" else {}
    return {**batch.inputs(), **labels}


@pytest.mark.parametrize(
    ("problem", "label", "figures"),
    [
        ("multi_label", lambda n: ["a", "b", "c"][: n % 4], {"accuracy", "f1_macro", "f1_micro"}),
        ("regression", lambda n: n % 8 / 4, {"mean_squared_error", "pearson", "spearman"}),
    ],
)
def test_several_labels_or_a_number_for_a_text(
    tmp_path: Path, problem: str, label: Any, figures: set[str]
) -> None:
    task = {"name": "sequence_classification", "problem": problem}
    recipe = write_case(tmp_path, "bert_texts", task=task)
    for name, count in (("rows", 24), ("apart", 8)):
        rows = [{"text": WORDS[n % 8], "label": label(n)} for n in range(count)]
        write_rows(tmp_path / f"{name}.jsonl", rows)
    result, _ = train(plan_of(recipe))
    assert result.figures.keys() >= figures
    config = json.loads((tmp_path / "run/adapter/config.json").read_text("utf-8"))
    assert config["problem_type"].startswith(problem)
    assert len(config["id2label"]) == (3 if problem == "multi_label" else 1)
    losses = losses_of(tmp_path / "run")
    assert sum(losses[-6:]) < sum(losses[:6])


def test_the_head_is_new_seeded_and_in_full_precision(tmp_path: Path) -> None:
    recipe = write_case(tmp_path, "bert_texts", quantization="nf4", adapter={"variant": "lora"})
    heads = [head_of(plan_of(recipe, f"seed={seed}")) for seed in (1, 1, 2)]
    assert heads[0].dtype == torch.float32
    assert heads[0].equal(heads[1])
    assert not heads[0].equal(heads[2])


def head_of(plan: RunPlan) -> torch.Tensor:
    assert plan.model.new_heads == ("classifier", "bert.pooler")
    trained = build_trainables(
        plan, planned_weights(plan), Runtime(device="cpu", processes=1), lambda _event: None
    )
    state = trained.adapter.state()
    (name,) = (name for name in state if name.endswith("classifier.weight"))
    assert any("pooler.dense.weight" in other for other in state)
    return state[name]
