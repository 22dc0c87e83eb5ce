"""Answers of a classifier, gathered as they come: classes, scores for each class, or the probability of the second of two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from sluice.evaluation.classes import ABSENT, WORDS, ClassCodes, codes_in, kind_of, order_of, text_of
from sluice.evaluation.classification import Classified, Scores
from sluice.evaluation.errors import EvaluationError, Failures, shown
from sluice.evaluation.vectors import columns_of, is_record, is_vector, matrix_of

SCORES_MAX = 100_000_000
"""Numbers that are kept for log loss and ROC AUC, 800 MB; of more rows the classes alone are."""


class ClassAnswers:
    """Labels and answers of the rows that have both.

    Args:
        labels: the classes that ``codes`` (one a row of the table, ABSENT where there is none) stand for.
        is_text: the labels come from a file without types.
        classes: in the order of the scores; ``model_classes``: as the model has them, where nobody says so.
    """

    def __init__(
        self,
        labels: ClassCodes,
        codes: np.ndarray,
        *,
        is_text: bool,
        classes: Sequence[Any] | None,
        model_classes: Sequence[str] | None,
        failures: Failures,
    ):
        self._labels = labels
        self._codes = codes
        self._is_text = is_text
        self._given = None if classes is None else list(classes)
        self._model_classes = model_classes
        self._failures = failures
        self._shape: str | None = None
        self._named = ClassCodes("the answers")
        self._fields: list[str] = []
        self._width: int | None = None
        self._keeps_scores = True
        self._rows: list[np.ndarray] = []
        self._parts: list[np.ndarray] = []
        self._winners: list[np.ndarray] = []

    def add(self, rows: np.ndarray, values: pa.Array) -> None:
        """Raises EvaluationError for answers that are neither classes nor scores."""
        shape = self._shape_of(values.type)
        if self._shape not in (None, shape):
            raise EvaluationError(f"the answers are {self._shape}, and from row {rows[0]} on {shape}")
        self._shape = shape
        if shape == "classes":
            self._keep(rows, self._named.encode(values))
        elif shape == "numbers":
            self._keep(rows, np.asarray(values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)))
        else:
            self._keep_scores(rows, self._matrix(rows, values))

    def classified(self) -> Classified:
        """Of at least one row with an answer. Raises EvaluationError when labels and answers do not fit together."""
        if self._shape == "classes":
            return self._of_classes(self._named, np.concatenate(self._parts))
        if self._shape == "numbers":
            return self._of_numbers(np.concatenate(self._parts))
        return self._of_scores()

    def _shape_of(self, kind: pa.DataType) -> str:
        found = kind_of(kind)
        if found is not None:
            return "numbers" if found == "number" else "classes"
        if is_vector(kind):
            return "lists of scores"
        if is_record(kind):
            return "structs of scores"
        raise EvaluationError(
            f"the answers are {kind}; classification takes a class, a score for each class (a list or a struct of numbers), or "
            "the probability of the second of two classes. Of a struct, answer= names the field that is one of these"
        )

    def _matrix(self, rows: np.ndarray, values: pa.Array) -> np.ndarray:
        if self._shape == "structs of scores":
            self._fields = self._fields or [field.name for field in values.type]
            matrix = columns_of(values, self._fields)
        else:
            matrix = matrix_of(rows, values, self._width)
        if self._width is None:
            self._width = matrix.shape[1]
            self._keeps_scores = int(np.count_nonzero(self._codes != ABSENT)) * self._width <= SCORES_MAX
        return matrix

    def _keep(self, rows: np.ndarray, answers: np.ndarray) -> None:
        is_answer = np.isfinite(answers)
        self._failures.add_all(rows[~is_answer], "no_answer", "the answer is NaN or infinite")
        self._rows.append(rows[is_answer])
        self._parts.append(answers[is_answer])

    def _keep_scores(self, rows: np.ndarray, matrix: np.ndarray) -> None:
        is_answer = np.isfinite(matrix).all(axis=1)
        self._failures.add_all(rows[~is_answer], "no_answer", "a score is null, NaN or infinite")
        matrix = matrix[is_answer]
        self._rows.append(rows[is_answer])
        self._winners.append(matrix.argmax(axis=1))
        if self._keeps_scores:
            self._parts.append(matrix)

    @property
    def rows_answered(self) -> int:
        return sum(map(len, self._rows))

    def _label_codes(self, classes: Sequence[Any]) -> np.ndarray:
        return codes_in(self._codes[np.concatenate(self._rows)], self._labels.values, classes)

    def _of_classes(self, named: ClassCodes, codes: np.ndarray) -> Classified:
        if self._labels.kind == "text" and named.kind == "integer" and self._model_classes is not None:
            named.named_by(self._model_classes)
        if self._is_text:
            self._labels.retyped(str(named.kind))
        if self._labels.kind != named.kind:
            raise EvaluationError(
                f"the labels are {WORDS[str(self._labels.kind)]}, as {shown(self._labels.values[0])}, and the answers "
                f"{WORDS[str(named.kind)]}, as {shown(named.values[0])}; give labels of the answers' type"
            )
        classes = order_of([*self._labels.values, *named.values])
        return Classified(classes, self._label_codes(classes), codes_in(codes, named.values, classes), None)

    def _of_numbers(self, numbers: np.ndarray) -> Classified:
        """Numbers are the probability of the second of two classes, unless they are classes themselves, which models that were
        trained on floats answer."""
        self._settle_labels()
        are_whole = bool((numbers == np.floor(numbers)).all())
        if self._labels.kind == "integer" and are_whole and self._given is None:
            known = set(self._labels.values)
            are_between = bool(((numbers >= 0) & (numbers <= 1)).all())
            if len(known) > 2 or not are_between or set(np.unique(numbers).tolist()) <= known:
                named = ClassCodes("the answers")
                return self._of_classes(named, named.encode(pa.array(numbers)))
        classes = self._pair()
        outside = numbers[(numbers < 0) | (numbers > 1)]
        if len(outside):
            raise EvaluationError(
                f"the answers are numbers, as {outside[0]:g}, which is no probability of {classes[1]!r}; answer a class, or a "
                "score for each class"
            )
        return self._scored(classes, np.column_stack([1 - numbers, numbers]), (numbers > 0.5).astype(np.int64))

    def _pair(self) -> list[Any]:
        classes = self._ordered()
        if self._given is None and len(classes) == 1:
            pairs: dict[str, list[Any]] = {"integer": [0, 1], "boolean": [False, True]}
            pair = pairs.get(str(self._labels.kind), [])
            classes = pair if classes[0] in pair else classes
        if len(classes) != 2:
            raise EvaluationError(
                f"the answers are numbers a row, the probability of the second of two classes, and the classes are "
                f"{_listed(classes)}; answer a score for each class, or give classes= the two"
            )
        return classes

    def _of_scores(self) -> Classified:
        self._settle_labels()
        classes = self._typed(self._fields) if self._fields else self._ordered()
        if len(classes) != self._width:
            raise EvaluationError(
                f"the answers have {self._width} scores a row, and there are {len(classes)} classes: {_listed(classes)}; give "
                "classes= all of them in the order of the scores"
            )
        values = np.concatenate(self._parts) if self._keeps_scores else None
        return self._scored(classes, values, np.concatenate(self._winners))

    def _scored(self, classes: list[Any], values: np.ndarray | None, winners: np.ndarray) -> Classified:
        every = [*classes, *order_of(set(self._labels.values) - set(classes))]
        scores = None if values is None else Scores(values, list(range(len(classes))))
        unscored = f"{self.rows_answered:,} rows of {self._width} scores are more than the {SCORES_MAX:,} numbers that are kept"
        return Classified(every, self._label_codes(every), winners.astype(np.int32), scores, unscored)

    def _settle_labels(self) -> None:
        """Labels of a file without types are whole numbers where all of them are, unless the classes are known as texts."""
        if not self._is_text or self._fields or (self._given is None and self._model_classes is not None):
            return
        if all(_is_whole(value) for value in [*self._labels.values, *(self._given or [])]):
            self._labels.retyped("integer")

    def _ordered(self) -> list[Any]:
        """The classes in the order of the scores."""
        if self._given is not None:
            return self._typed(self._given)
        if self._model_classes is None:
            return order_of(self._labels.values)
        if self._labels.kind == "integer":  # labels are the indices of the model's labels
            return list(range(len(self._model_classes)))
        return self._typed(self._model_classes)

    def _typed(self, classes: Sequence[Any]) -> list[Any]:
        """Classes as values of the labels' type. Raises EvaluationError."""
        texts = {text_of(value): value for value in self._labels.values}
        found = [texts[text_of(one)] if text_of(one) in texts else self._as_label(one) for one in classes]
        if len(set(found)) != len(found):
            raise EvaluationError(f"classes has one twice: {_listed(found)}")
        return found

    def _as_label(self, given: Any) -> Any:
        kind = self._labels.kind
        if kind == "text":
            return given if isinstance(given, str) else text_of(given)
        if kind == "boolean" and text_of(given) in ("true", "false"):
            return text_of(given) == "true"
        if kind == "integer" and _is_whole(given):
            return int(given)
        raise EvaluationError(f"class {shown(given)} is none of the labels' type; labels are {WORDS[str(kind)]}")


def _is_whole(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and int(str(value)) is not None
    except ValueError:
        return False


def _listed(classes: Sequence[Any]) -> str:
    return ", ".join(map(repr, classes[:10])) + (" …" if len(classes) > 10 else "")
