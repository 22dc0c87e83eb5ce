"""Classes as numbers: a column of a million class names is one array of int32 and a list of the names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types as pt

from sluice.evaluation.errors import EvaluationError, shown

CLASSES_MAX = 1000
"""More are no classes: a confusion matrix of this size has a million counts."""
ABSENT = -1
"""The code of a row without a class."""
WORDS = {"text": "texts", "integer": "whole numbers", "boolean": "booleans"}


def kind_of(kind: pa.DataType) -> str | None:
    """text, integer, boolean; ``number`` for those that may be whole or not; None: values of this type are no classes."""
    if pt.is_dictionary(kind):
        return kind_of(kind.value_type)
    if pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind):
        return "text"
    if pt.is_integer(kind):
        return "integer"
    if pt.is_boolean(kind):
        return "boolean"
    if pt.is_floating(kind) or pt.is_decimal(kind):
        return "number"
    return None


class ClassCodes:
    """Values of columns as codes, in the order in which they first came. ``kind``: text, integer or boolean."""

    def __init__(self, what: str):
        self._what = what
        self.kind: str | None = None
        self.values: list[Any] = []
        self._codes: dict[Any, int] = {}

    def encode(self, column: pa.Array | pa.ChunkedArray) -> np.ndarray:
        """One code a row; ABSENT for null and NaN. Raises EvaluationError for values that are no classes."""
        if pt.is_null(column.type):
            return np.full(len(column), ABSENT, np.int32)
        known = self._known(column)
        encoded = known.combine_chunks() if isinstance(known, pa.ChunkedArray) else known
        if not pt.is_dictionary(encoded.type):
            encoded = encoded.dictionary_encode()
        codes = np.fromiter((self._code(value) for value in encoded.dictionary.to_pylist()), np.int32)
        places = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        # Index −1 takes the last one.
        return np.append(codes, np.int32(ABSENT))[places]

    def _known(self, column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
        kind = kind_of(column.type)
        if kind == "number":
            column, kind = self._whole(column), "integer"
        if kind is None:
            raise EvaluationError(f"{self._what} are {column.type}; classes are texts, whole numbers or booleans")
        if self.kind not in (None, kind):
            raise EvaluationError(f"{self._what} are {WORDS[str(self.kind)]} and {WORDS[kind]}; make them one type")
        self.kind = kind
        return column

    def _whole(self, column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
        """pandas makes whole numbers with a gap into floats."""
        plain = column.cast(pa.float64())
        plain = pc.if_else(pc.is_nan(plain), pa.scalar(None, pa.float64()), plain)
        try:
            return plain.cast(pa.int64())
        except pa.ArrowInvalid:
            broken = next(value for value in plain.to_pylist() if value is not None and not float(value).is_integer())
            message = f"{self._what} hold {broken!r}, which is no class; "
            raise EvaluationError(f'{message}numbers are evaluated with task="regression"') from None

    def _code(self, value: Any) -> int:
        if value is None:
            return ABSENT
        code = self._codes.setdefault(value, len(self.values))
        if code == len(self.values):
            if code == CLASSES_MAX:
                raise EvaluationError(
                    f"{self._what} have more than {CLASSES_MAX:,} distinct values, which are no classes; "
                    'numbers are evaluated with task="regression"'
                )
            self.values.append(value)
        return code

    def retyped(self, kind: str) -> None:
        """Texts of a file without types, as what they are compared with. Raises EvaluationError naming the one that is not."""
        if kind == "text" or self.kind != "text":
            return
        target = pa.int64() if kind == "integer" else pa.bool_()
        for at, text in enumerate(self.values):
            try:
                self.values[at] = pa.scalar(text, pa.string()).cast(target).as_py()
            except pa.ArrowInvalid:
                raise EvaluationError(
                    f"{self._what} hold {shown(text)}, and the answers are {WORDS[kind]}; give labels of the answers' type"
                ) from None
        self.kind = kind

    def named_by(self, names: Sequence[str]) -> None:
        """Indices of a model's labels, as these labels. Raises EvaluationError for an index that has none."""
        beyond = next((value for value in self.values if not 0 <= value < len(names)), None)
        if beyond is not None:
            raise EvaluationError(f"{self._what} hold {beyond}, and the model has {len(names)} class labels")
        self.values = [names[value] for value in self.values]
        self.kind = "text"


def order_of(classes: Iterable[Any]) -> list[Any]:
    """Classes in the order of reports; of one type."""
    return sorted(set(classes))


def codes_in(codes: np.ndarray, values: Sequence[Any], classes: Sequence[Any]) -> np.ndarray:
    """Codes of ``values`` as codes of ``classes``, which hold all of them."""
    places = {value: at for at, value in enumerate(classes)}
    # Two texts may have become one number: 1 and 01.
    table = np.array([places[value] for value in values] + [ABSENT], np.int32)
    return table[codes]


def text_of(value: Any) -> str:
    """A class as a field of a struct is named."""
    return str(value).lower() if isinstance(value, bool) else str(value)
