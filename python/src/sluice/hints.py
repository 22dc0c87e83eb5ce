"""Annotations of a body into its inputs and its output.

A parameter is a whole column (``list[T]``, an Arrow or NumPy array), one value of a row (``T``), or the whole table.
Nothing here imports pyarrow or NumPy unless the user's file has done so.
"""

from __future__ import annotations

import collections.abc as abc
import datetime
import decimal
import inspect
import sys
import types
import typing
from dataclasses import dataclass
from typing import Any, Literal

from sluice.context import Context
from sluice.errors import DeclarationError, RowError

InputMode = Literal["columns", "row", "table"]
Form = Literal["list", "arrow", "numpy", "scalar", "Table", "RecordBatch"]
"""How a parameter is handed over: a Python list, a pyarrow Array, a NumPy array, one value, or the table."""

_SCALARS: dict[Any, Any] = {
    str: "utf8",
    bool: "bool",
    int: "int64",
    float: "float64",
    bytes: "binary",
    datetime.datetime: {"timestamp": "us", "tz": None},
    datetime.date: "date32",
    datetime.time: {"time": "us"},
    datetime.timedelta: {"duration": "us"},
}
_LISTS = (list, tuple, abc.Sequence, abc.MutableSequence, abc.Collection)
_STREAMS = (abc.Iterator, abc.Iterable, abc.Generator, abc.AsyncIterator, abc.AsyncIterable, abc.AsyncGenerator)
_MAPPINGS = (dict, abc.Mapping, abc.MutableMapping)
_PARAMETERS = (
    "list[str], list[int], list[float], list[bool], list[list[float]], list[dict], pyarrow.Array, pyarrow.Table or "
    "pyarrow.RecordBatch for a whole batch, or str, int, float, bool, bytes, dict for one row"
)


@dataclass(frozen=True)
class Parameter:
    """One input of the body. ``type`` is None where only ``input_types`` can give it."""

    name: str
    form: Form
    type: Any
    nullable: bool


def _without(hint: Any, *dropped: Any) -> tuple[Any, bool]:
    """The hint without the named members of its union, and whether one of them was there."""
    if typing.get_origin(hint) is typing.Annotated:
        hint = typing.get_args(hint)[0]
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return hint, False
    members = typing.get_args(hint)
    left = tuple(member for member in members if member not in dropped)
    if not left or len(left) == len(members):
        return hint, False
    return typing.Union[left], True  # noqa: UP007 - the members are known at run time only


def _is_from(module: str, hint: Any) -> bool:
    return isinstance(hint, type) and hint.__module__.partition(".")[0] == module


def _arrow_form(hint: Any) -> Form | None:
    pa = sys.modules.get("pyarrow")
    if pa is None or not isinstance(hint, type):
        return None
    for kind, form in ((pa.Table, "Table"), (pa.RecordBatch, "RecordBatch"), (pa.Array, "arrow"), (pa.ChunkedArray, "arrow")):
        if issubclass(hint, kind):
            return form  # type: ignore[return-value]
    return None


def _is_numpy_array(hint: Any) -> bool:
    origin = typing.get_origin(hint) or hint
    return _is_from("numpy", origin) and origin.__name__ == "ndarray"


def _is_json(hint: Any) -> bool:
    """A dict anywhere in the value makes the whole value JSON."""
    if hint is Any or typing.is_typeddict(hint) or (typing.get_origin(hint) or hint) in _MAPPINGS:
        return True
    origin = typing.get_origin(hint)
    return (origin in _LISTS or origin in (typing.Union, types.UnionType)) and any(map(_is_json, typing.get_args(hint)))


def _numpy_scalar(hint: Any) -> str | None:
    """``numpy.float32`` → float32."""
    if not _is_from("numpy", hint):
        return None
    name = hint.__name__.rstrip("_")
    return {"str": "utf8", "bytes": "binary"}.get(name, name)


def value_type(hint: Any, where: str) -> tuple[Any, bool]:
    """One value's TypeJson, and whether it may be null."""
    hint, nullable = _without(hint, type(None))
    if _is_json(hint):
        return "json", nullable
    if typing.get_origin(hint) is Literal:
        hint = type(typing.get_args(hint)[0])
    if isinstance(hint, type) and hint in _SCALARS:
        return _SCALARS[hint], nullable
    numpy_name = _numpy_scalar(hint)
    if numpy_name is not None:
        return numpy_name, nullable
    if typing.get_origin(hint) in _LISTS:
        members = [member for member in typing.get_args(hint) if member is not Ellipsis]
        if len(members) == 1:
            inner, _ = value_type(members[0], where)
            return {"list": {"name": "item", "type": inner, "nullable": True}}, nullable
    advice = "give it an Arrow type with input_types= or output_type="
    if hint is decimal.Decimal:
        raise DeclarationError(f"{where} is Decimal, which has no precision; {advice}")
    raise DeclarationError(f"{where} is {text(hint)}, which has no Arrow type of its own; {advice}")


def text(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and typing.get_origin(hint) is None else str(hint)


def given_type(value: Any, where: str) -> tuple[Any, bool]:
    """``output_type=`` and ``input_types=``: a pyarrow type (or field), or an annotation. Answers TypeJson and nullable."""
    pa = sys.modules.get("pyarrow")
    if pa is not None and isinstance(value, (pa.DataType, pa.Field)):
        from sluice.arrow_types import type_json

        return (type_json(value.type), value.nullable) if isinstance(value, pa.Field) else (type_json(value), True)
    if isinstance(value, (type, types.GenericAlias, types.UnionType)) or typing.get_origin(value) or value is Any:
        return value_type(value, where)
    raise DeclarationError(
        f"{where} is {value!r}; it takes a pyarrow type as pa.list_(pa.float32()), or an annotation as list[float]"
    )


def _parameter(name: str, hint: Any, where: str, is_given: bool) -> Parameter:
    """``is_given``: ``input_types`` has the type, so the annotation need not tell one."""

    def type_of(value: Any) -> tuple[Any, bool]:
        return (None, _without(value, type(None))[1]) if is_given else value_type(value, where)

    bare, optional = _without(hint, type(None))
    form = _arrow_form(bare)
    if form is not None:
        return Parameter(name, form, "any", True)
    if _is_numpy_array(bare):
        return Parameter(name, "numpy", None, False)
    origin = typing.get_origin(bare)
    if bare in _LISTS or origin in _LISTS:
        if optional:
            advice = "a whole column is never None, write list[T | None] for null rows"
            raise DeclarationError(f"{where} is {text(hint)}; {advice}")
        members = [member for member in typing.get_args(bare) if member is not Ellipsis]
        if not members:
            return Parameter(name, "list", None, False)
        if len(members) > 1:
            raise DeclarationError(f"{where} is {text(hint)}; a parameter takes {_PARAMETERS}")
        return Parameter(name, "list", *type_of(members[0]))
    return Parameter(name, "scalar", *type_of(hint))


def hints_of(body: Any, name: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(body, include_extras=False)
    except NameError as error:
        raise DeclarationError(
            f"function {name}: an annotation names {getattr(error, 'name', None)!r}, which the module does not define; "
            "import it outside of `if TYPE_CHECKING`"
        ) from None


def parameters_of(body: Any, name: str, hints: dict[str, Any], given: dict[str, Any]) -> tuple[list[Parameter], str | None]:
    """The inputs in order, with the types of ``input_types``, and the name of the Context parameter if there is one."""
    found: list[Parameter] = []
    context = None
    for parameter in inspect.signature(body).parameters.values():
        where = f"function {name}: parameter {parameter.name}"
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise DeclarationError(f"{where} takes any number of arguments; name every input column")
        hint = hints.get(parameter.name)
        if hint is not None and _without(hint, type(None))[0] is Context:
            context = parameter.name
            continue
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise DeclarationError(f"{where} is positional only; inputs are given by name")
        if parameter.default is not parameter.empty:
            raise DeclarationError(f"{where} has a default; every parameter is an input column, so take the default away")
        if hint is None and parameter.name in given:
            hint = list
        if hint is None:
            raise DeclarationError(f"{where} has no annotation; it takes {_PARAMETERS}, or sluice.Context")
        found.append(_parameter(parameter.name, hint, where, parameter.name in given))
    return found, context


def mode_of(name: str, parameters: list[Parameter]) -> InputMode:
    if not parameters:
        raise DeclarationError(f"function {name} has no input parameter; a row needs a value")
    forms = {"row" if p.form == "scalar" else "table" if p.form in ("Table", "RecordBatch") else "columns" for p in parameters}
    if forms == {"table"} and len(parameters) == 1:
        return "table"
    if "table" in forms:
        raise DeclarationError(f"function {name} takes a table beside other inputs; a table is the only input")
    if len(forms) > 1:
        row = next(p.name for p in parameters if p.form == "scalar")
        column = next(p.name for p in parameters if p.form != "scalar")
        raise DeclarationError(
            f"function {name}: {row} is one value and {column} a whole column; make all parameters lists, or none"
        )
    return forms.pop()  # type: ignore[return-value]


def inputs_json(name: str, mode: InputMode, parameters: list[Parameter], given: dict[str, Any]) -> list[dict[str, Any]] | None:
    """FieldJson of every input; None for a table of any columns."""
    if mode != "table":
        unknown = sorted(set(given) - {p.name for p in parameters})
        if unknown:
            names = ", ".join(p.name for p in parameters)
            raise DeclarationError(f"function {name}: input_types names {unknown[0]!r}; the inputs are {names}")
    elif not given:
        return None
    else:
        parameters = [Parameter(column, "Table", None, True) for column in given]
    return [_input_json(name, p, given) for p in parameters]


def _input_json(name: str, parameter: Parameter, given: dict[str, Any]) -> dict[str, Any]:
    kind, nullable = parameter.type, parameter.nullable
    if parameter.name in given:
        kind, may_be_null = given_type(given[parameter.name], f"function {name}: input_types[{parameter.name!r}]")
        # A plain pyarrow type says nothing of nulls, so the annotation decides; a field or `T | None` says it.
        is_plain = hasattr(given[parameter.name], "id") and not hasattr(given[parameter.name], "nullable")
        nullable = nullable if is_plain else may_be_null
    if kind is None:
        raise DeclarationError(
            f"function {name}: parameter {parameter.name} does not say the type of its values; "
            f"write list[T], or give input_types={{{parameter.name!r}: pa.float32()}}"
        )
    return {"name": parameter.name, "type": kind, "nullable": nullable}


def output_json(name: str, mode: InputMode, hint: Any, given: Any) -> dict[str, Any]:
    """The output's TypeJson. Rows may always be null in it: a refused row is."""
    where = f"function {name}: the return annotation"
    if given is not None:
        return {"type": given_type(given, f"function {name}: output_type")[0], "nullable": True}
    if hint is None or hint is type(None):
        raise DeclarationError(f"function {name} has no return annotation; write `-> list[T]`, or give output_type=")
    hint, _ = _without(hint, RowError)
    if mode != "row":
        hint = _column_of(hint, where)
    return {"type": value_type(_without(hint, RowError)[0], where)[0], "nullable": True}


def _column_of(hint: Any, where: str) -> Any:
    """``list[T]`` → T, also of a generator of lists."""
    if typing.get_origin(hint) in _STREAMS and typing.get_origin(hint) not in _LISTS:
        hint, _ = _without(typing.get_args(hint)[0], RowError)
    if _arrow_form(hint) is not None or _is_numpy_array(hint):
        raise DeclarationError(f"{where} is {text(hint)}, which does not say the type of its values; give output_type=")
    members = [member for member in typing.get_args(hint) if member is not Ellipsis]
    if typing.get_origin(hint) not in _LISTS or len(members) != 1:
        raise DeclarationError(
            f"{where} is {text(hint)}; a body that takes a whole batch answers list[T], one value for each row, "
            "or give output_type="
        )
    return members[0]
