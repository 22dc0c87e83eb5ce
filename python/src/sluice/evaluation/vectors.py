"""Answers that are lists or structs of numbers, as matrices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types as pt

from sluice.evaluation.answers import is_list
from sluice.evaluation.errors import EvaluationError
from sluice.evaluation.regression import is_number


def is_vector(kind: pa.DataType) -> bool:
    return is_list(kind) and is_number(kind.value_type)


def is_record(kind: pa.DataType) -> bool:
    return pt.is_struct(kind) and kind.num_fields > 0 and all(is_number(field.type) for field in kind)


def matrix_of(rows: np.ndarray, values: pa.Array, width: int | None) -> np.ndarray:
    """(rows, width), float32 where the answers are, else float64; NaN for a null in a list.

    ``width``: of the rows before. Raises EvaluationError naming the first row of another width.
    """
    lengths = pc.list_value_length(values).to_numpy(zero_copy_only=False)
    empty = np.flatnonzero(lengths == 0)
    if len(empty):
        raise EvaluationError(f"the answer of row {rows[int(empty[0])]} is an empty list")
    expected = int(lengths[0]) if width is None else width
    other = np.flatnonzero(lengths != expected)
    if len(other):
        at = int(other[0])
        raise EvaluationError(f"the answer of row {rows[at]} has {int(lengths[at])} numbers, and those before it have {expected}")
    return _numbers(values.flatten()).reshape(len(values), expected)


def columns_of(values: pa.Array, names: Sequence[str]) -> np.ndarray:
    """(rows, fields) of structs of numbers, in the order of ``names``."""
    if [field.name for field in values.type] != list(names):
        raise EvaluationError(f"the answers have the fields {', '.join(names)}, and later {values.type}")
    return np.column_stack([_numbers(pc.struct_field(values, name)) for name in names])


def _numbers(flat: pa.Array) -> np.ndarray:
    is_narrow = pt.is_float32(flat.type) or pt.is_float16(flat.type)
    kind = pa.float32() if is_narrow else pa.float64()
    plain = pc.fill_null(flat.cast(kind, safe=False), pa.scalar(float("nan"), kind))
    return np.asarray(plain.to_numpy(zero_copy_only=False))
