"""Arrow types in the JSON of docs/API.md ("Types"), both ways. A TypeJson is a name or a dict; json is utf8 that holds JSON."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from pyarrow import types as pt

from sluice.errors import DeclarationError

TypeJson = Any

NAMES: dict[str, pa.DataType] = {
    "null": pa.null(),
    "bool": pa.bool_(),
    **{name: getattr(pa, name)() for sign in ("", "u") for name in (f"{sign}int{bits}" for bits in (8, 16, 32, 64))},
    "float16": pa.float16(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "utf8": pa.string(),
    "large_utf8": pa.large_string(),
    "binary": pa.binary(),
    "large_binary": pa.large_binary(),
    "date32": pa.date32(),
    "date64": pa.date64(),
    "json": pa.string(),
}
_BY_TYPE = {kind: name for name, kind in NAMES.items() if name != "json"}


def item(kind: TypeJson, nullable: bool = True) -> dict[str, Any]:
    return {"name": "item", "type": kind, "nullable": nullable}


def _field_json(field: pa.Field, name: str | None = None) -> dict[str, Any]:
    return {"name": field.name if name is None else name, "type": type_json(field.type), "nullable": field.nullable}


def type_json(kind: pa.DataType) -> TypeJson:
    """@raises DeclarationError for types that have no JSON form (views, unions, run ends)."""
    if kind in _BY_TYPE:
        return _BY_TYPE[kind]
    if isinstance(kind, pa.BaseExtensionType):
        return "json" if kind.extension_name == "arrow.json" else type_json(kind.storage_type)
    if pt.is_list(kind):
        return {"list": _field_json(kind.value_field, "item")}
    if pt.is_large_list(kind):
        return {"large_list": _field_json(kind.value_field, "item")}
    if pt.is_fixed_size_list(kind):
        return {"fixed_size_list": _field_json(kind.value_field, "item"), "size": kind.list_size}
    if pt.is_struct(kind):
        return {"struct": [_field_json(kind.field(i)) for i in range(kind.num_fields)]}
    if pt.is_map(kind):
        return {"map": [_field_json(kind.key_field), _field_json(kind.item_field)]}
    if pt.is_dictionary(kind):
        return {
            "dictionary": type_json(kind.value_type),
            "index": type_json(kind.index_type),
            "ordered": kind.ordered,
        }
    return _parametric_json(kind)


def _parametric_json(kind: pa.DataType) -> TypeJson:
    if pt.is_timestamp(kind):
        return {"timestamp": kind.unit, "tz": kind.tz}
    if pt.is_time(kind):
        return {"time": kind.unit}
    if pt.is_duration(kind):
        return {"duration": kind.unit}
    if pt.is_decimal128(kind) or pt.is_decimal256(kind):
        return {"decimal": [kind.precision, kind.scale], "bits": kind.bit_width}
    if pt.is_fixed_size_binary(kind):
        return {"fixed_size_binary": kind.byte_width}
    raise DeclarationError(f"the Arrow type {kind} is not supported; see the list of types in docs/API.md")


def field_of(field: dict[str, Any]) -> pa.Field:
    """A FieldJson as an Arrow field."""
    return pa.field(field["name"], arrow_type(field["type"]), field["nullable"])


def arrow_type(kind: TypeJson) -> pa.DataType:
    """A TypeJson as an Arrow type. ``any`` has none; ask before."""
    if isinstance(kind, str):
        return NAMES[kind]
    if "list" in kind:
        return pa.list_(field_of(kind["list"]))
    if "large_list" in kind:
        return pa.large_list(field_of(kind["large_list"]))
    if "fixed_size_list" in kind:
        return pa.list_(field_of(kind["fixed_size_list"]), kind["size"])
    if "struct" in kind:
        return pa.struct([field_of(field) for field in kind["struct"]])
    if "map" in kind:
        key, value = kind["map"]
        return pa.map_(field_of(key), field_of(value))
    if "dictionary" in kind:
        return pa.dictionary(arrow_type(kind["index"]), arrow_type(kind["dictionary"]), kind.get("ordered", False))
    return _parametric_type(kind)


def _parametric_type(kind: TypeJson) -> pa.DataType:
    if "timestamp" in kind:
        return pa.timestamp(kind["timestamp"], kind["tz"])
    if "time" in kind:
        return pa.time32(kind["time"]) if kind["time"] in ("s", "ms") else pa.time64(kind["time"])
    if "duration" in kind:
        return pa.duration(kind["duration"])
    if "decimal" in kind:
        make = pa.decimal128 if kind["bits"] == 128 else pa.decimal256
        return make(*kind["decimal"])
    return pa.binary(kind["fixed_size_binary"])
