"""Figures of predictions against references, through scikit-learn, scipy and seqeval.

Shares lie between 0 and 1. A figure that is not defined, such as a correlation of constant
predictions, is left out.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lora_cli.tasks.task import Measured, PerClass, Totals

Numbers = Sequence[float]
AVERAGES = ("macro", "weighted")


def text_figures(totals: Totals) -> Measured:
    """Return perplexity and the share of tokens that were the likeliest ones."""
    perplexity = math.exp(min(totals.loss, 100.0))
    return Measured({"perplexity": perplexity, "token_accuracy": totals.accuracy})


def class_figures(
    predictions: Sequence[int], references: Sequence[int], names: Sequence[str]
) -> Measured:
    """Return accuracy, F1 (macro and weighted over the labels that occur) and Matthews' phi."""
    from sklearn import metrics

    figures = {"accuracy": metrics.accuracy_score(references, predictions)}
    figures |= _f1(predictions, references)
    figures["matthews"] = metrics.matthews_corrcoef(references, predictions)
    return Measured(_plain(figures), _per_class(predictions, references, names))


def label_set_figures(
    predictions: Sequence[Sequence[int]], references: Sequence[Sequence[int]], names: Sequence[str]
) -> Measured:
    """Return the share of rows whose labels are all right, and F1 over labels.

    Rows are 0 or 1 for each label.
    """
    from sklearn import metrics

    expected = [[int(each) for each in row] for row in references]
    figures = {"accuracy": metrics.accuracy_score(expected, predictions)}
    figures |= _f1(predictions, expected)
    figures["f1_micro"] = metrics.f1_score(expected, predictions, average="micro", zero_division=0)
    return Measured(_plain(figures), _per_class(predictions, expected, names))


def choice_figures(
    predictions: Sequence[int], references: Sequence[int], labels: int
) -> dict[str, float]:
    """Return accuracy and the F1 averaged over `labels` labels; -1 stands for no choice at all."""
    from sklearn import metrics

    accuracy = metrics.accuracy_score(references, predictions)
    f1 = metrics.f1_score(
        references, predictions, labels=range(labels), average="macro", zero_division=0
    )
    return _plain({"accuracy": accuracy, "f1_macro": f1})


def overlap_figures(answers: Sequence[str], expected: Sequence[str]) -> dict[str, float]:
    """Return ROUGE-L (Lin 2004), the F measure averaged over answers; words in any script."""
    from rouge_score import rouge_scorer

    scorer = rouge_scorer.RougeScorer(["rougeL"], tokenizer=_Words())
    pairs = zip(answers, expected, strict=True)
    shares = [scorer.score(target, answer)["rougeL"].fmeasure for answer, target in pairs]
    return {"rouge_l": sum(shares) / len(shares)}


class _Words:
    """Cuts a text into words as rouge-score does, which knows those of ASCII letters alone."""

    def tokenize(self, text: str) -> list[str]:
        return re.findall(r"[^\W_]+", text.lower())


def number_figures(predictions: Numbers, references: Numbers) -> dict[str, float]:
    """Return the mean squared error, and the correlations of Pearson and Spearman."""
    from scipy import stats
    from sklearn import metrics

    figures = {"mean_squared_error": metrics.mean_squared_error(references, predictions)}
    if len(references) > 1:
        with _undefined_is_silent():
            figures["pearson"] = stats.pearsonr(predictions, references).statistic
            figures["spearman"] = stats.spearmanr(predictions, references).statistic
    return _plain(figures)


def tag_figures(
    predictions: Sequence[Sequence[int]], references: Sequence[Sequence[int]], names: Sequence[str]
) -> Measured:
    """Return F1 of whole entities where the tags mark them (B-…, I-…), else F1 of tags."""
    if not all(name == "O" or name[1:2] == "-" for name in names):
        flat = [[tag for row in rows for tag in row] for rows in (predictions, references)]
        return Measured(_plain(_f1(*flat)), _per_class(flat[0], flat[1], names))
    from seqeval.metrics import classification_report

    named = [[[names[tag] for tag in row] for row in rows] for rows in (references, predictions)]
    with _undefined_is_silent():
        report = classification_report(*named, output_dict=True, zero_division=0)
    averages = {key: report.pop(f"{key} avg") for key in ("micro", "macro", "weighted")}
    micro = averages["micro"]
    figures = {"precision": micro["precision"], "recall": micro["recall"], "f1": micro["f1-score"]}
    figures |= {f"f1_{key}": averages[key]["f1-score"] for key in AVERAGES}
    per_class = {
        name: {"f1" if key == "f1-score" else key: float(value) for key, value in found.items()}
        for name, found in report.items()
    }
    return Measured(_plain(figures), per_class)


def _f1(predictions: Any, references: Any) -> dict[str, float]:
    from sklearn import metrics

    return {
        f"f1_{average}": metrics.f1_score(references, predictions, average=average, zero_division=0)
        for average in AVERAGES
    }


def _per_class(predictions: Any, references: Any, names: Sequence[str]) -> PerClass:
    from sklearn import metrics

    columns = metrics.precision_recall_fscore_support(
        references, predictions, labels=range(len(names)), zero_division=0
    )
    fields = ("precision", "recall", "f1", "support")
    return {
        name: {field: float(column[number]) for field, column in zip(fields, columns, strict=True)}
        for number, name in enumerate(names)
    }


def _plain(figures: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in figures.items() if math.isfinite(value)}


@contextmanager
def _undefined_is_silent() -> Iterator[None]:
    """Silence what libraries say of figures that are not defined: those are left out, or 0."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
