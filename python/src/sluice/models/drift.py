"""How far a group's rows are from what they were (docs/decisions/0018-inference-store.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sluice import options
from sluice.errors import DeclarationError
from sluice.inferences import Span, When, instant, iso

WINDOW_S_MIN, WINDOW_S_MAX = 60, 400 * 86_400


@dataclass(frozen=True)
class ColumnDrift:
    """``column``: ``input.sqft``, ``output`` or ``output.price``. ``psi``: the population stability index, above 0.2 commonly
    called a shift; ``ks``: the two-sample Kolmogorov–Smirnov statistic, None for what has no order. None: a side has no rows."""

    column: str
    psi: float | None
    ks: float | None


@dataclass(frozen=True)
class Drift:
    """What is compared, and the figures that were computed last, at ``at``; without any it is None.

    ``due_at``: when they are computed next. ``reason``: why there are no figures; None where there are, or where none were
    computed yet. ``document`` is the server's JSON, whole.
    """

    reference_start: datetime
    reference_end: datetime
    window: timedelta
    at: datetime | None
    reference_rows: int
    window_rows: int
    columns: tuple[ColumnDrift, ...]
    reason: str | None
    due_at: datetime
    document: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Drift:
        figures = document.get("figures") or {}
        return cls(
            reference_start=instant("reference.from", document["reference"]["from"]),
            reference_end=instant("reference.until", document["reference"]["until"]),
            window=timedelta(milliseconds=document["window_ms"]),
            at=instant("figures.at", figures.get("at")),
            reference_rows=figures.get("reference_rows") or 0,
            window_rows=figures.get("window_rows") or 0,
            columns=tuple(ColumnDrift(one["column"], one["psi"], one["ks"]) for one in figures.get("columns") or ()),
            reason=figures.get("reason"),
            due_at=instant("due_at", document["due_at"]),
            document=document,
        )


def drift_json(start: When, end: When, window: timedelta | float) -> dict[str, Any]:
    """The body of PUT /v1/scaling-groups/{group}/drift. Raises DeclarationError."""
    for option, value in (("reference_start", start), ("reference_end", end)):
        if value is None:
            raise DeclarationError(f'{option} is None; it takes a datetime, or a text as "2026-11-01"')
    reference = Span.of(start, end)
    seconds = window.total_seconds() if isinstance(window, timedelta) else window
    checked = options.number("window", seconds, WINDOW_S_MIN, WINDOW_S_MAX, " of seconds")
    return {"reference": {"from": iso(reference.start), "until": iso(reference.end)}, "window_ms": round(checked * 1000)}  # type: ignore[arg-type]
