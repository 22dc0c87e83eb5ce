"""Classification: figures of labels, answers and scores that are arrays of class codes and numbers."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sluice.evaluation.report import Figures

SUM_TOLERANCE = 1e-3
"""How far the probabilities of a row may be from 1 together: float16 softmax over many classes is that far off."""


@dataclass(frozen=True)
class Scores:
    """``values``: (rows, columns); ``classes``: the class code of each column."""

    values: np.ndarray
    classes: list[int]


@dataclass(frozen=True)
class Classified:
    """``labels`` and ``answers``: codes of ``classes``, int32 of (rows,). ``unscored``: why there are no scores."""

    classes: Sequence[Any]
    labels: np.ndarray
    answers: np.ndarray
    scores: Scores | None
    unscored: str = "the answers are classes, without scores"


def classification_figures(found: Classified) -> tuple[Figures, list[dict[str, Any]], list[list[int]]]:
    """The figures, those of each class, and the confusion matrix. At least one row."""
    from sklearn import metrics

    labels, answers = found.labels, found.answers
    every = list(range(len(found.classes)))
    # As scikit-learn averages: over the classes that a label or an answer has.
    present = np.union1d(labels, answers)
    figures = Figures()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is not defined is told by name
        figures.put("accuracy", metrics.accuracy_score(labels, answers))
        figures.put("balanced_accuracy", metrics.balanced_accuracy_score(labels, answers))
        macro = metrics.precision_recall_fscore_support(labels, answers, labels=present, average="macro", zero_division=0)
        for name, value in zip(("precision_macro", "recall_macro", "f1_macro"), macro, strict=False):
            figures.put(name, value)
        confusion = metrics.confusion_matrix(labels, answers, labels=every)
        by_class = metrics.precision_recall_fscore_support(labels, answers, labels=every, zero_division=0)
        areas = _scored(figures, found)
    rows = [
        _class_row(found.classes[code], confusion, code, [float(column[code]) for column in by_class[:3]], areas)
        for code in every
    ]
    return figures, rows, confusion.tolist()


def _class_row(
    name: Any, confusion: np.ndarray, code: int, values: list[float], areas: dict[int, float | None] | None
) -> dict[str, Any]:
    given, answered = int(confusion[code].sum()), int(confusion[:, code].sum())
    precision, recall, f1 = values
    row: dict[str, Any] = {
        "class": name,
        "precision": precision if answered else None,
        "recall": recall if given else None,
        "f1": f1 if given or answered else None,
    }
    if areas is not None:
        row["roc_auc"] = areas.get(code)
    return {**row, "labels": given, "answers": answered}


def _scored(figures: Figures, found: Classified) -> dict[int, float | None] | None:
    """Puts log loss and ROC AUC; answers the area of each class, None where there are no scores."""
    from sklearn import metrics

    if found.scores is None:
        figures.put("log_loss", None, found.unscored)
        figures.put("roc_auc", None, found.unscored)
        return None
    scores = found.scores
    order = np.argsort(scores.classes)
    values, codes = scores.values[:, order], [scores.classes[at] for at in order]
    outside = sorted(set(np.unique(found.labels).tolist()) - set(codes))
    unknown = f"the answers have no score for {_names(found, outside)}, which labels have" if outside else None
    improbable = unknown or _improbable(scores.values)
    figures.compute("log_loss", lambda: metrics.log_loss(found.labels, _summing(values), labels=codes), improbable)
    areas = {code: _area(found.labels == code, values, at, improbable is None) for at, code in enumerate(codes)}
    empty = [code for code in codes if not np.any(found.labels == code)]
    only = np.unique(found.labels)
    reason = unknown
    if len(only) == 1:
        reason = f"every label is {found.classes[int(only[0])]!r}"
    elif empty and reason is None:
        reason = f"no label is {_names(found, empty)}"
    if len(codes) == 2:
        figures.put("roc_auc", areas[codes[1]], reason)
    else:
        figures.compute("roc_auc", lambda: np.mean([areas[code] for code in codes]), reason)
    return areas


def _names(found: Classified, codes: Sequence[int]) -> str:
    return ", ".join(repr(found.classes[code]) for code in codes[:5]) + (" …" if len(codes) > 5 else "")


def _improbable(values: np.ndarray) -> str | None:
    """Why the scores are no probabilities."""
    if values.min() < 0:
        return "the scores are no probabilities: some are negative"
    sums = values.sum(axis=1, dtype=np.float64)
    worst = int(np.argmax(np.abs(sums - 1)))
    if abs(sums[worst] - 1) > SUM_TOLERANCE:
        return f"the scores are no probabilities: those of a row are {sums[worst]:.4g} together, not 1"
    return None


def _summing(values: np.ndarray) -> np.ndarray:
    """In float64 and to 1 exactly, since scikit-learn warns of less."""
    wide = values.astype(np.float64)
    wide /= wide.sum(axis=1, keepdims=True)
    return wide


def _area(is_class: np.ndarray, values: np.ndarray, at: int, are_probabilities: bool) -> float | None:
    """ROC AUC of one class against the others; None where one of the two has no row."""
    from sklearn import metrics

    if is_class.all() or not is_class.any():
        return None
    column = values[:, at]
    if values.shape[1] == 2 and not are_probabilities:
        column = column - values[:, 1 - at]
    return float(metrics.roc_auc_score(is_class, column))
