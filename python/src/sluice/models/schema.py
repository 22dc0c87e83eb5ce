"""Input and output schemas: Python types or Arrow types in, FIELD JSON of docs/API.md out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from sluice.arrow_types import field_of
from sluice.errors import DeclarationError
from sluice.hints import given_type

Field = dict[str, Any]
"""``{"name", "type", "nullable"}``."""

_TAKEN = 'a dict of name to type, as {"sqft": float, "kind": pyarrow.string()}, or a pyarrow.Schema'
COLUMNS_MAX = 10_000


def schema_fields(schema: Any, option: str) -> list[Field]:
    """The fields of ``input_schema=`` or ``output_schema=``; all are nullable but those of a Schema that says otherwise.

    Raises DeclarationError that names the option, the column and what it takes.
    """
    if isinstance(schema, pa.Schema):
        given: list[tuple[Any, Any]] = [(field.name, field) for field in schema]
    elif isinstance(schema, Mapping):
        given = list(schema.items())
    else:
        raise DeclarationError(f"{option} is {schema!r}; it takes {_TAKEN}")
    if not 0 < len(given) <= COLUMNS_MAX:
        raise DeclarationError(f"{option} has {len(given)} columns; it takes 1 to {COLUMNS_MAX}, as {_TAKEN}")
    fields = []
    for name, value in given:
        if not isinstance(name, str) or not name:
            raise DeclarationError(f"{option} names a column {name!r}; names are texts that are not empty")
        kind, nullable = given_type(value, f"{option}[{name!r}]")
        if kind == "json":
            raise DeclarationError(f"{option}[{name!r}] holds dicts; give it an Arrow type, as pyarrow.struct([…])")
        field = {"name": name, "type": kind, "nullable": nullable if isinstance(value, pa.Field) else True}
        try:
            field_of(field)
        except KeyError:
            raise DeclarationError(f"{option}[{name!r}] is {kind!r}, which is no Arrow type") from None
        fields.append(field)
    names = [field["name"] for field in fields]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DeclarationError(f"{option} names the column {twice!r} more than once")
    return fields


def arrow_schema(fields: list[Field]) -> pa.Schema:
    return pa.schema([field_of(field) for field in fields])


def output_field(outputs: list[Field]) -> Field:
    """The output of the function that serves the model: one column's type, or a struct of several."""
    kind = outputs[0]["type"] if len(outputs) == 1 else {"struct": outputs}
    return {"name": "result", "type": kind, "nullable": True}
