"""What an evaluation found, as an object, as JSON and as a text to read."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

MATRIX_CLASSES_MAX = 12
"""A wider confusion matrix is in ``to_dict()`` only."""
CLASS_ROWS_MAX = 40
CLASS_FIGURES = ("precision", "recall", "f1", "roc_auc")
CLASS_COUNTS = ("labels", "answers")


class Figures:
    """Figures by name; one that is not defined is None, and ``reasons`` has why."""

    def __init__(self) -> None:
        self.values: dict[str, float | None] = {}
        self.reasons: dict[str, str] = {}

    def put(self, name: str, value: Any, reason: str | None = None) -> None:
        """``reason``: why there is none; None: there is one, which must be finite."""
        number = None if reason is not None or value is None else float(value)
        if number is not None and not math.isfinite(number):
            number, reason = None, "its value is beyond what a float64 holds"
        self.values[name] = number
        if number is None:
            self.reasons[name] = reason or "it is not defined for these rows"

    def compute(self, name: str, figure: Callable[[], Any], reason: str | None = None) -> None:
        """As :meth:`put`, and computed only where there is no reason against it."""
        self.put(name, None if reason is not None else figure(), reason)


@dataclass(frozen=True)
class Evaluation:
    """Figures of one function on one table.

    Attributes:
        figures: by name; None where it is not defined, and ``reasons`` says why.
        counts: ``rows`` of the table, ``evaluated``, ``failed`` (no answer) and ``unlabelled`` (null label, never sent); of
            retrieval ``queries``, ``documents`` and ``documents_failed`` beside them.
        classes: of a classification, for each class its figures, ``labels`` (rows with this label) and ``answers``.
        confusion: rows by label (outer) and answer (inner), in the order of ``classes``.
        failures: the first rows that failed, ``{"table", "row", "code", "message"}``.
        notes: what a reader of the figures should know.
    """

    task: str
    function: str
    figures: dict[str, float | None]
    counts: dict[str, int]
    reasons: dict[str, str] = field(default_factory=dict)
    classes: list[dict[str, Any]] = field(default_factory=list)
    confusion: list[list[int]] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __getitem__(self, figure: str) -> float | None:
        return self.figures[figure]

    def to_dict(self) -> dict[str, Any]:
        """JSON values only."""
        told: dict[str, Any] = {
            "task": self.task,
            "function": self.function,
            "counts": dict(self.counts),
            "figures": dict(self.figures),
            "reasons": dict(self.reasons),
            "failures": [dict(one) for one in self.failures],
            "notes": list(self.notes),
        }
        if self.classes:
            told["classes"] = [dict(one) for one in self.classes]
            told["confusion"] = [list(row) for row in self.confusion]
        return told

    def __str__(self) -> str:
        counts = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in self.counts.items())
        width = max(map(len, self.figures))
        lines = [f"{self.task} of {self.function}: {counts}", ""]
        for name, value in self.figures.items():
            lines.append(f"  {name:<{width}}  {_number(value)}{'' if value is not None else f'  ({self.reasons.get(name)})'}")
        if self.classes:
            lines += ["", *self._class_lines()]
        if self.failures:
            lines += ["", "failed:"]
            lines += [f"  {one['table']}, row {one['row']}: {one['message']} ({one['code']})" for one in self.failures]
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)

    def _class_lines(self) -> list[str]:
        figures = [name for name in CLASS_FIGURES if any(name in one for one in self.classes)]
        header = ["class", *figures, *CLASS_COUNTS]
        rows = [
            [str(one["class"]), *(_number(one.get(name)) for name in figures), *(f"{one[name]:,}" for name in CLASS_COUNTS)]
            for one in self.classes[:CLASS_ROWS_MAX]
        ]
        lines = _table([header, *rows])
        if len(self.classes) > CLASS_ROWS_MAX:
            lines.append(f"  … and {len(self.classes) - CLASS_ROWS_MAX:,} more classes")
        if len(self.classes) <= MATRIX_CLASSES_MAX:
            names = [str(one["class"]) for one in self.classes]
            counts = [[name, *(f"{count:,}" for count in row)] for name, row in zip(names, self.confusion, strict=True)]
            lines += ["", *_table([["label \\ answer", *names], *counts])]
        return lines


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.4f}" if 0.001 <= abs(value) < 1e6 or value == 0 else f"{value:.4g}"


def _table(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    first = widths[0]
    return [
        "  " + "  ".join([f"{row[0]:<{first}}", *(f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
