"""Regression: a number a row beside a number a row."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types as pt

from sluice.evaluation.errors import EvaluationError, Failures
from sluice.evaluation.report import Figures


def is_number(kind: pa.DataType) -> bool:
    return pt.is_integer(kind) or pt.is_floating(kind) or pt.is_decimal(kind)


def label_numbers(column: pa.ChunkedArray, name: str, first: int) -> np.ndarray:
    """float64, NaN where there is no label. ``first``: the number of the first row. Raises EvaluationError."""
    if not is_number(column.type) and not pt.is_null(column.type):
        raise EvaluationError(
            f'labels {name!r} are {column.type}, which are no numbers; classes are evaluated with task="classification"'
        )
    numbers = _float64(column)
    infinite = np.flatnonzero(np.isinf(numbers))
    if len(infinite):
        raise EvaluationError(f"label {name!r} of row {first + int(infinite[0])} is infinite; leave such rows out")
    return numbers


def _float64(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    numbers = column.cast(pa.float64(), safe=False)
    numbers = pc.fill_null(numbers, float("nan"))
    return np.asarray(numbers.to_numpy(), np.float64)


class RegressionAnswers:
    """Labels and answers of the rows that have both."""

    def __init__(self, labels: np.ndarray, failures: Failures):
        self._labels = labels
        self._failures = failures
        self._pairs: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, rows: np.ndarray, values: pa.Array) -> None:
        """Raises EvaluationError for answers that are no numbers."""
        if not is_number(values.type):
            raise EvaluationError(f"the answers are {values.type}; regression takes one number a row{_way_out(values.type)}")
        numbers = _float64(values)
        is_finite = np.isfinite(numbers)
        self._failures.add_all(rows[~is_finite], "no_answer", "the answer is NaN or infinite")
        self._pairs.append((self._labels[rows[is_finite]], numbers[is_finite]))

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Labels and answers."""
        labels, answers = zip(*self._pairs, strict=True) if self._pairs else ((np.empty(0),), (np.empty(0),))
        return np.concatenate(labels), np.concatenate(answers)


def _way_out(kind: pa.DataType) -> str:
    if pt.is_struct(kind):
        return f"; name the field with answer=, one of {', '.join(field.name for field in kind)}"
    return ""


def regression_figures(labels: np.ndarray, answers: np.ndarray) -> Figures:
    """MAE, RMSE, median absolute error, MAPE (a share, not per cent), R² and explained variance, of at least one row."""
    from sklearn import metrics

    figures = Figures()
    zeros = int(np.count_nonzero(labels == 0))
    alone = "one row has no variance" if len(labels) < 2 else "all labels are the same" if np.ptp(labels) == 0 else None
    relative = f"{zeros:,} labels are 0, and an error relative to 0 is not defined" if zeros else None
    with np.errstate(all="ignore"):
        figures.put("mae", metrics.mean_absolute_error(labels, answers))
        figures.put("rmse", metrics.root_mean_squared_error(labels, answers))
        figures.put("median_absolute_error", metrics.median_absolute_error(labels, answers))
        figures.compute("mape", lambda: metrics.mean_absolute_percentage_error(labels, answers), relative)
        figures.compute("r2", lambda: metrics.r2_score(labels, answers), alone)
        figures.compute("explained_variance", lambda: metrics.explained_variance_score(labels, answers), alone)
    return figures
