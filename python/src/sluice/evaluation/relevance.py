"""Which documents are relevant to which queries: ids looked up once, before anything is embedded."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types as pt

from sluice.evaluation.answers import is_list
from sluice.evaluation.errors import EvaluationError, shown
from sluice.evaluation.source import TableSource


@dataclass(frozen=True)
class Relevance:
    """``documents``: row numbers of the relevant documents, those of query i from ``offsets[i]`` to before ``offsets[i + 1]``."""

    offsets: np.ndarray
    documents: np.ndarray

    @property
    def queries(self) -> int:
        return len(self.offsets) - 1

    def of(self, query: int) -> np.ndarray:
        return self.documents[self.offsets[query] : self.offsets[query + 1]]

    def is_labelled(self) -> np.ndarray:
        """Of each query, whether it has a relevant document."""
        return np.diff(self.offsets) > 0


def document_ids(source: TableSource, column: str, as_text: bool) -> pa.Array:
    """One id a document. Raises EvaluationError for ids that are null, twice there, or neither texts nor whole numbers."""
    parts = [chunk[column] for chunk in source.chunks([column], {column: pa.string()})]
    if not parts:
        raise EvaluationError(f"{source.name} has no rows: there are no documents to find")
    given = pa.chunked_array([chunk for part in parts for chunk in part.chunks])
    ids = _ids(given, f"ids in {column!r} of {source.name}", as_text)
    if ids.null_count > 0:
        raise EvaluationError(f"the id of document {ids.is_null().index(True).as_py()} in {source.name} is null")
    if len(ids.unique()) < len(ids):
        counts = ids.value_counts()
        again = counts.field("values").filter(pc.greater(counts.field("counts"), 1))[0].as_py()
        raise EvaluationError(f"id {shown(again)} is there more than once in {source.name}; each document has its own")
    return ids


def relevance_of(source: TableSource, column: str, ids: pa.Array, as_text: bool) -> Relevance:
    """Of every query, also of those without a relevant document. Raises EvaluationError for ids that no document has."""
    offsets, documents = [np.zeros(1, np.int64)], [np.empty(0, np.int64)]
    first = total = 0
    for chunk in source.chunks([column], {column: pa.string()}, empty_is_null=True):
        lists = _lists(chunk[column], column, source.is_text)
        lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False).astype(np.int64)
        given = _ids(lists.flatten(), f"labels {column!r}", as_text)
        owners = np.repeat(np.arange(len(lists)), lengths)
        pairs = np.unique(np.column_stack([owners, _places(given, ids, owners + first, column)]), axis=0)
        documents.append(pairs[:, 1])
        offsets.append(total + np.cumsum(np.bincount(pairs[:, 0], minlength=len(lists))))
        total, first = total + len(pairs), first + len(lists)
    return Relevance(np.concatenate(offsets), np.concatenate(documents))


def _lists(column: pa.ChunkedArray, name: str, is_text: bool) -> pa.Array:
    """The ids of each query as a list; one id may stand by itself, and a text file holds a JSON list or one id."""
    values = column.combine_chunks()
    if isinstance(values, pa.ChunkedArray):
        values = pa.array([], column.type)
    if is_text:
        return pa.array([None if text is None else _listed(text, name) for text in values.to_pylist()], pa.list_(pa.string()))
    if pt.is_null(values.type):
        return pa.nulls(len(values), pa.list_(pa.string()))
    if pt.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if is_list(values.type):
        return values
    ends = np.cumsum(values.is_valid().to_numpy(zero_copy_only=False))
    return pa.ListArray.from_arrays(pa.array(np.append(0, ends), pa.int32()), values.drop_null())


def _listed(text: str, name: str) -> list[str]:
    if not text.lstrip().startswith("["):
        return [text]
    try:
        return [one if isinstance(one, str) else json.dumps(one) for one in json.loads(text)]
    except ValueError:
        raise EvaluationError(f"label {name!r} holds {shown(text)}, which is no JSON list of ids") from None


def _ids(values: pa.Array | pa.ChunkedArray, what: str, as_text: bool) -> pa.Array:
    kind = values.type.value_type if pt.is_dictionary(values.type) else values.type
    if pt.is_integer(kind):
        target = pa.string() if as_text else pa.int64()
    elif pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind) or pt.is_null(kind):
        target = pa.large_string()
    else:
        raise EvaluationError(f"{what} are {values.type}; ids are texts or whole numbers")
    target = pa.large_string() if target == pa.string() else target
    if pt.is_integer(kind) and as_text:
        values = values.cast(pa.int64()).cast(pa.string())
    plain = values.cast(target)
    if isinstance(plain, pa.ChunkedArray):
        combined = plain.combine_chunks()
        plain = combined if isinstance(combined, pa.Array) else pa.array([], target)
    return plain


def _places(given: pa.Array, ids: pa.Array, queries: np.ndarray, column: str) -> np.ndarray:
    if len(given) == 0:
        return np.empty(0, np.int64)
    if given.type != ids.type:
        first = shown(given[0].as_py())
        raise EvaluationError(f"labels {column!r} are {_kind(given)}, as {first}, and ids are {_kind(ids)}; make them one type")
    places = pc.fill_null(pc.index_in(given, value_set=ids), -1).to_numpy(zero_copy_only=False).astype(np.int64)
    unknown = np.flatnonzero(places < 0)
    if len(unknown):
        at = int(unknown[0])
        raise EvaluationError(
            f"label {column!r} of query {queries[at]} holds {shown(given[at].as_py())}, which is the id of no document "
            f"({len(unknown):,} such ids)"
        )
    return places


def _kind(ids: pa.Array) -> str:
    return "whole numbers" if pt.is_integer(ids.type) else "texts"
