"""A frame as what estimators take: a pandas frame where they were fitted with column names, else a matrix."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sluice.models.frame import DataFrame


def features_for(frame: DataFrame, fitted_names: Iterable[Any] | None) -> Any:
    """All columns, in the order that the model was fitted with where it knows the names, else in the schema's."""
    names = [str(name) for name in fitted_names] if fitted_names is not None else []
    if names and set(names) == set(frame.columns):
        return _pandas_or_matrix(frame.select(names))
    matrix = frame.to_numpy()
    return _pandas_or_matrix(frame) if matrix.dtype == object else matrix


def _pandas_or_matrix(frame: DataFrame) -> Any:
    try:
        return frame.to_pandas()
    except ModuleNotFoundError:
        return frame.to_numpy()
