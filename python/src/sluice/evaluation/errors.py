"""What makes an evaluation impossible, and the rows that are no part of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sluice.errors import SluiceError

FAILURES_KEPT = 5
"""Failed rows that a report names; the others are counted."""
VALUE_CHARACTERS_MAX = 60


class EvaluationError(SluiceError, ValueError):
    """A table, a label or an answer that cannot be evaluated; the message names it and says what to do instead."""


def shown(value: Any) -> str:
    """A value as messages show it."""
    text = repr(value)
    return text if len(text) <= VALUE_CHARACTERS_MAX else f"{text[:VALUE_CHARACTERS_MAX]}…"


class Failures:
    """Rows of one table that have no answer: how many, and the first of them."""

    def __init__(self, table: str):
        self.table = table
        self.rows = 0
        self.first: list[dict[str, Any]] = []

    def add(self, row: int, error: Mapping[str, Any]) -> None:
        self.rows += 1
        if len(self.first) < FAILURES_KEPT:
            self._keep(row, error)

    def add_all(self, rows: np.ndarray, code: str, message: str) -> None:
        """Rows that fail alike; ``rows`` are their numbers in the table."""
        self.rows += len(rows)
        for row in rows[: FAILURES_KEPT - len(self.first)]:
            self._keep(int(row), {"code": code, "message": message})

    def _keep(self, row: int, error: Mapping[str, Any]) -> None:
        kind = f"{error['kind']}: " if error.get("kind") else ""
        message = f"{kind}{error.get('message', '')}"
        self.first.append({"table": self.table, "row": row, "code": error.get("code", "handler_error"), "message": message})

    def __str__(self) -> str:
        first = self.first[0]
        return f"{self.rows:,} rows failed; the first: row {first['row']}: {first['message']} ({first['code']})"
