"""What is evaluated: a function of the server, and the columns that it is called with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc

from sluice.arrow_types import arrow_type
from sluice.errors import ServerError
from sluice.evaluation.errors import EvaluationError, shown
from sluice.evaluation.source import TableSource
from sluice.remote import Remote, RemoteFunction

MODEL = "model."
Inputs = Sequence[str] | Mapping[str, str] | None


class Target:
    """A function with its declaration. ``class_labels``: the classes in the order of their scores, where its model has them."""

    def __init__(self, target: Any, url: str | None = None, api_key: str | None = None):
        self.function, group = _function(target, url, api_key)
        self.name = self.function.name
        spec = _spec(self.function)
        self._fields: list[dict[str, Any]] | None = spec["inputs"]
        self.is_json = spec["output"]["type"] == "json"
        self.class_labels = None if group is None else _class_labels(self.function, group)

    def columns(self, source: TableSource, inputs: Inputs, others: Sequence[str]) -> dict[str, str]:
        """Input → column of the table. ``others``: columns that are no inputs unless it is said so.

        Raises EvaluationError when an input has no column.
        """
        declared = None if self._fields is None else [field["name"] for field in self._fields]
        chosen = _chosen(inputs, declared if declared is not None else [one for one in source.columns if one not in others])
        unknown = [name for name in chosen if declared is not None and name not in declared]
        if unknown:
            raise EvaluationError(f"{self.name} has no input {unknown[0]!r}; its inputs are {', '.join(declared or [])}")
        missing = [field["name"] for field in self._fields or [] if field["name"] not in chosen and not field["nullable"]]
        if missing:
            raise EvaluationError(f"inputs lack {missing[0]!r}, which {self.name} needs; name its column")
        if not chosen:
            raise EvaluationError(f"{source.name} has no column for {self.name} to be called with; give inputs")
        source.require(list(chosen.values()), f"an input of {self.name}")
        return chosen

    def types(self, columns: Mapping[str, str]) -> dict[str, pa.DataType]:
        """Column → the declared type of its input, as far as there is one."""
        declared = {field["name"]: field["type"] for field in self._fields or []}
        known = {name: declared.get(name, "any") for name in columns}
        return {columns[name]: arrow_type(kind) for name, kind in known.items() if kind != "any"}

    def rows(self, chunk: pa.Table, columns: Mapping[str, str]) -> tuple[pa.Table, pa.ChunkedArray | None]:
        """The rows as the function takes them, and True for those with a null that it does not take (None: there are none)."""
        types = self.types(columns)
        required = {field["name"] for field in self._fields or [] if not field["nullable"]}
        arrays, absent = {}, None
        for name, column in columns.items():
            values = self._cast(chunk[column], name, types.get(column))
            arrays[name] = values
            if name in required and values.null_count > 0:
                absent = values.is_null() if absent is None else pc.or_(absent, values.is_null())
        return pa.table(arrays), absent

    def _cast(self, values: pa.ChunkedArray, name: str, kind: pa.DataType | None) -> pa.ChunkedArray:
        if kind is None or values.type == kind:
            return values
        try:
            return values.cast(kind)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            raise EvaluationError(f"input {name} of {self.name} takes {kind}, and the table has {values.type}: {error}") from None


def _chosen(inputs: Inputs, default: Sequence[str]) -> dict[str, str]:
    if isinstance(inputs, Mapping):
        return dict(inputs)
    if isinstance(inputs, str):
        raise EvaluationError(f"inputs is {inputs!r}; give a list of columns, or input → column")
    return {name: name for name in (default if inputs is None else inputs)}


def _function(target: Any, url: str | None, api_key: str | None) -> tuple[RemoteFunction, dict[str, Any] | None]:
    """The function, and the document of the scaling group that runs it. A group's name goes before a function's."""
    if isinstance(target, RemoteFunction):
        is_model = target.name.startswith(MODEL)
        return target, _group(target, target.name.removeprefix(MODEL)) if is_model else None
    name = target if isinstance(target, str) else getattr(target, "function", None) or getattr(target, "name", None)
    if not isinstance(name, str) or not name:
        raise EvaluationError(
            f"target is {shown(target)}; give the name of a scaling group or of a function, or what Remote().function(…), "
            "a deployment of a model or @sluice.function answered"
        )
    remote = Remote(url, api_key)
    function = remote.function(name)
    group = _group(function, name.removeprefix(MODEL))
    if group is not None:
        return remote.function(group["function"]), group
    return function, None


def _group(function: RemoteFunction, name: str) -> dict[str, Any] | None:
    return _found(function, f"/v1/scaling-groups/{quote(name, safe='')}")


def _spec(function: RemoteFunction) -> dict[str, Any]:
    try:
        return dict(function.show()["spec"])
    except ServerError as error:
        if error.code != "function_not_found":
            raise
        raise EvaluationError(
            f"There is no scaling group and no function named {function.name}; `sluice functions` lists them."
        ) from None


def _class_labels(function: RemoteFunction, group: Mapping[str, Any]) -> list[str] | None:
    path = f"/v1/models/{quote(group['model'], safe='')}/versions/{group['version']}"
    imported = (_found(function, path) or {}).get("import") or {}
    labels: dict[str, int] = imported.get("class_labels") or {}
    ordered = sorted(labels, key=labels.__getitem__)
    is_whole = [labels[name] for name in ordered] == list(range(len(ordered)))
    return ordered if ordered and is_whole else None


def _found(function: RemoteFunction, path: str) -> dict[str, Any] | None:
    """The document; None: there is none, or the key may not see it."""
    try:
        return dict(function._transport.request("GET", path).json())
    except ServerError as error:
        if error.status in (400, 403, 404, 422):
            return None
        raise
