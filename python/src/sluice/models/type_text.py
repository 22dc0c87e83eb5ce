"""Columns as a command line names them: ``sqft=float64``, ``vector=list<float32>``, or a type in the JSON of docs/API.md."""

from __future__ import annotations

import json

import pyarrow as pa

from sluice.arrow_types import NAMES, arrow_type
from sluice.errors import DeclarationError

DEPTH_MAX = 32
"""Lists in lists."""
_NAMES = [name for name in NAMES if name != "json"]
"""A model's columns are Arrow columns, and JSON texts in them are utf8."""


def named_schema(given: list[str], option: str) -> pa.Schema | None:
    """One column for each ``NAME=TYPE``; None without any. Raises DeclarationError that names the option and the way out."""
    fields: list[pa.Field] = []
    for text in given:
        name, equals, kind = text.partition("=")
        if not name or not equals:
            raise DeclarationError(f"{option} is {text!r}; it takes NAME=TYPE, as sqft=float64")
        if any(field.name == name for field in fields):
            raise DeclarationError(f"{option} names {name} more than once; give each column one type")
        try:
            fields.append(pa.field(name, type_of_text(kind)))
        except _TypeTextError:
            raise DeclarationError(
                f"{option} {name} has the type {kind!r}; it takes {', '.join(_NAMES)}, list<TYPE>, or a type in JSON, "
                'as {"timestamp": "us", "tz": "UTC"}'
            ) from None
    return pa.schema(fields) if fields else None


class _TypeTextError(Exception):
    """The text is no type."""


def type_of_text(text: str) -> pa.DataType:
    kind = text.strip()
    depth = 0
    while kind.startswith("list<") and kind.endswith(">") and depth < DEPTH_MAX:
        kind = kind[len("list<") : -1].strip()
        depth += 1
    made = _innermost(kind)
    for _ in range(depth):
        made = pa.list_(made)
    return made


def _innermost(kind: str) -> pa.DataType:
    if kind in _NAMES:
        return NAMES[kind]
    if not kind.startswith("{"):
        raise _TypeTextError
    try:
        return arrow_type(json.loads(kind))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        # Whatever is missing or misspelt in the object shows as one of these; pyarrow's own errors are ValueErrors too.
        raise _TypeTextError from None
