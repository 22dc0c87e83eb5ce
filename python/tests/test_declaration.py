"""What ``@sluice.function`` makes of bodies and options, and what it refuses."""

from __future__ import annotations

import asyncio
import datetime
import decimal
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal, Optional, TypedDict

import numpy as np
import pyarrow as pa
import pytest
import sluice


class Document(TypedDict):
    title: str


def declared(body: Any, **options: Any) -> dict[str, Any]:
    return sluice.function(**options)(body).spec


def inputs(body: Any, **options: Any) -> list[tuple[Any, bool]]:
    return [(one["type"], one["nullable"]) for one in declared(body, **options)["inputs"]]


LIST_OF_FLOATS = {"list": {"name": "item", "type": "float64", "nullable": True}}


def of(hint: Any) -> Any:
    """A body whose only parameter has the hint."""

    def body(x): ...

    body.__annotations__ = {"x": hint, "return": list[int]}
    return body


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        (list[str], ("utf8", False)),
        (list[int], ("int64", False)),
        (list[float], ("float64", False)),
        (list[bool], ("bool", False)),
        (list[bytes], ("binary", False)),
        (list[list[float]], (LIST_OF_FLOATS, False)),
        (list[tuple[float, ...]], (LIST_OF_FLOATS, False)),
        (list[dict], ("json", False)),
        (list[dict[str, int]], ("json", False)),
        (list[list[dict]], ("json", False)),
        (list[Document], ("json", False)),
        (list[Any], ("json", False)),
        (list[str | None], ("utf8", True)),
        (list[Optional[int]], ("int64", True)),  # noqa: UP045
        (list[Literal["a", "b"]], ("utf8", False)),
        (list[datetime.datetime], ({"timestamp": "us", "tz": None}, False)),
        (list[datetime.date], ("date32", False)),
        (list[np.float32], ("float32", False)),
        (pa.Array, ("any", True)),
    ],
    ids=str,
)
def test_column_types(hint, expected):
    assert inputs(of(hint)) == [expected]


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        (str, ("utf8", False)),
        (int | None, ("int64", True)),
        (dict, ("json", False)),
        (bytes, ("binary", False)),
    ],
    ids=str,
)
def test_one_value_a_row(hint, expected):
    body = of(hint)
    body.__annotations__["return"] = list[float]
    spec = declared(body)
    assert spec["input_mode"] == "row"
    assert [(one["type"], one["nullable"]) for one in spec["inputs"]] == [expected]
    assert spec["output"] == {"type": LIST_OF_FLOATS, "nullable": True}


def test_text_annotations_and_the_name():
    @sluice.function
    def embed(text: list[str], size: list[int]) -> list[list[float]]: ...

    assert embed.name == "embed"
    assert [one["name"] for one in embed.spec["inputs"]] == ["text", "size"]
    assert embed.spec["input_mode"] == "columns"


def test_tables_take_any_columns_unless_they_are_named():
    def f(table: pa.Table) -> list[str]: ...

    assert declared(f)["inputs"] is None
    assert declared(f)["input_mode"] == "table"
    schema = pa.schema([pa.field("a", pa.int32(), nullable=False), pa.field("b", pa.list_(pa.float32()))])
    assert [(one["name"], one["nullable"]) for one in declared(f, input_types=schema)["inputs"]] == [("a", False), ("b", True)]


def test_given_types():
    def f(x: pa.Array, y: np.ndarray, z) -> pa.Array: ...

    types = {"x": pa.list_(pa.float32(), 4), "y": pa.field("y", pa.int32(), nullable=False), "z": str | None}
    spec = declared(f, input_types=types, output_type=pa.large_list(pa.float32()))
    size_4 = {"fixed_size_list": {"name": "item", "type": "float32", "nullable": True}, "size": 4}
    assert [one["type"] for one in spec["inputs"]] == [size_4, "int32", "utf8"]
    assert [one["nullable"] for one in spec["inputs"]] == [True, False, True]
    assert spec["output"]["type"] == {"large_list": {"name": "item", "type": "float32", "nullable": True}}
    assert declared(f, input_types=types, output_type=list[float])["output"]["type"] == LIST_OF_FLOATS


def test_input_types_stand_for_annotations_that_tell_no_type():
    money = {"decimal": [10, 2], "bits": 128}
    given = {"input_types": {"x": pa.decimal128(10, 2)}}
    assert inputs(of(list[decimal.Decimal]), **given) == [(money, False)]
    assert inputs(of(Optional[decimal.Decimal]), **given) == [(money, True)]  # noqa: UP045
    assert inputs(of(list[Document | object | None]), **given) == [(money, True)]
    with pytest.raises(sluice.DeclarationError, match="x is Decimal, which has no precision; give it an Arrow type with input"):
        inputs(of(list[decimal.Decimal]))


def test_streams_of_lists():
    def f(x: list[int]) -> Iterator[list[str]]: ...
    async def g(x: list[int]) -> AsyncIterator[list[str]]: ...
    def h(x: list[int]) -> list[float | sluice.RowError]: ...

    assert [declared(body)["output"]["type"] for body in (f, g, h)] == ["utf8", "utf8", "float64"]


def test_all_types_survive_their_json_form():
    from sluice.arrow_types import arrow_type, type_json

    kinds = [
        *(pa.int8(), pa.uint64(), pa.float16(), pa.bool_(), pa.null(), pa.string(), pa.large_string(), pa.binary()),
        *(pa.large_binary(), pa.date32(), pa.date64(), pa.timestamp("ns", "UTC"), pa.timestamp("s"), pa.time32("ms")),
        *(pa.time64("ns"), pa.duration("us"), pa.decimal128(10, 2), pa.decimal256(50, 3), pa.binary(16)),
        *(pa.list_(pa.int32()), pa.large_list(pa.list_(pa.string())), pa.list_(pa.float32(), 384)),
        *(pa.struct([pa.field("a", pa.int8(), False), ("b", pa.string())]), pa.map_(pa.string(), pa.int32())),
        pa.dictionary(pa.int16(), pa.string(), ordered=True),
    ]
    for kind in kinds:
        assert arrow_type(type_json(kind)) == kind


def test_the_body_runs_here():
    seen = []

    @sluice.function(name="doubled")
    def f(x: list[int], context: sluice.Context) -> list[int]:
        seen.append(context)
        return [v * 2 for v in x]

    @sluice.function()
    async def g(x: list[str]) -> list[str]:
        return x

    assert f([1, 2]) == [2, 4]
    assert f(x=[3]) == [6]
    assert seen[0] == sluice.Context(function="doubled")
    assert [one["name"] for one in f.spec["inputs"]] == ["x"]
    assert asyncio.run(g(["a"])) == ["a"]
    assert f.__name__ == "f"


def test_options():
    image = sluice.Image.base("python:3.12-slim").run_commands("pip install a", "echo b").pip_install("c", "d").apt_install("e")
    spec = declared(
        of(list[str]),
        name="embed",
        image=image.env(A="1", B="2"),
        cpu=2,
        memory="4Gi",
        gpu="nvidia-l4",
        max_batching_size=25,
        max_buffer_duration=2000,
        max_batch_bytes=2**20,
        retries=sluice.RetryPolicy(retries=5, first_wait=0.5, retry_on=[OSError, "ApiError"], terminal_on=KeyError),
        isolation="off",
        call_timeout=1.5,
        min_replicas=2,
        env={"B": "3"},
    )
    assert spec["environment"] == {
        "base": "python:3.12-slim",
        "steps": [{"run": "pip install a"}, {"run": "echo b"}, {"pip_install": ["c", "d"]}, {"apt_install": ["e"]}],
        "env": {"A": "1", "B": "3"},
        "isolated": False,
    }
    assert spec["resources"] == {"cpu": 2, "memory_bytes": 4 * 2**30, "gpu": "nvidia-l4"}
    assert spec["retry"]["initial_ms"] == 500
    assert (spec["retry"]["retry_on"], spec["retry"]["terminal_on"]) == (["OSError", "ApiError"], ["KeyError"])
    assert (spec["min_replicas"], spec["max_replicas"], spec["call_timeout_ms"]) == (2, 2, 1500)
    assert (spec["max_batching_size"], spec["max_buffer_duration"], spec["isolation"]) == (25, 2000, "off")


def test_images_do_not_change():
    base = sluice.Image.debian_slim("3.11")
    base.pip_install("a")
    assert base.name == "python:3.11-slim"
    assert base.steps == ()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "1st"}, ["name", "'1st'", "beginning with a letter"]),
        ({"memory": "4Qi"}, ["memory", "'4Qi'", "4Gi"]),
        ({"memory": 0}, ["memory", "0"]),
        ({"cpu": "two"}, ["cpu", "'two'", "number"]),
        ({"gpu": ""}, ["gpu"]),
        ({"max_batching_size": 0}, ["max_batching_size", "0", "1 to 1000000"]),
        ({"max_batching_size": True}, ["max_batching_size", "True"]),
        ({"max_buffer_duration": 1.5}, ["max_buffer_duration", "1.5"]),
        ({"max_batch_bytes": 5}, ["max_batch_bytes", "1024"]),
        ({"retries": -1}, ["retries", "-1", "RetryPolicy"]),
        ({"isolation": "maybe"}, ["isolation", "'maybe'", "bisect", "off"]),
        ({"call_timeout": 0}, ["call_timeout", "seconds"]),
        ({"min_replicas": 3, "max_replicas": 2}, ["max_replicas", "2", "min_replicas (3)"]),
        ({"image": "python:3.12"}, ["image", "sluice.Image"]),
        ({"env": {"A": 1}}, ["env", "'A'", "1"]),
        ({"on_startup": 5}, ["on_startup", "5"]),
        ({"output_type": "float"}, ["output_type", "pyarrow type"]),
        ({"input_types": {"y": pa.int8()}}, ["input_types", "'y'", "x"]),
        ({"input_types": [1]}, ["input_types", "dict"]),
    ],
    ids=str,
)
def test_bad_options_name_themselves(options, words):
    with pytest.raises(sluice.DeclarationError) as caught:
        declared(of(list[str]), **options)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_bad_policies_and_images():
    for make in (
        lambda: sluice.RetryPolicy(jitter=2),
        lambda: sluice.RetryPolicy(multiplier=0.5),
        lambda: sluice.RetryPolicy(retry_on=["a.b"]),
        lambda: sluice.RetryPolicy(terminal_on=3),
        lambda: sluice.Image.base(""),
        lambda: sluice.Image.base("a").pip_install(),
        lambda: sluice.Image.base("a").env({"1": "x"}),
    ):
        with pytest.raises(sluice.DeclarationError):
            make()


def bad_mixed(a: list[str], b: str) -> list[str]: ...
def bad_two_tables(a: pa.Table, b: pa.Table) -> list[str]: ...
def bad_nothing() -> list[str]: ...
def bad_stars(*a: list[str]) -> list[str]: ...
def bad_defaults(a: list[str], b: int = 1) -> list[str]: ...
def bad_bare(a) -> list[str]: ...
def bad_optional_column(a: list[str] | None) -> list[str]: ...
def bad_no_return(a: list[str]): ...
def bad_array(a: list[str]) -> pa.Array: ...
def bad_scalar_return(a: list[str]) -> str: ...
def bad_strange(a: list[complex]) -> list[str]: ...
def bad_unknown(a: list[Missing]) -> list[str]: ...  # noqa: F821
def bad_numpy(a: np.ndarray) -> list[str]: ...


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (bad_mixed, ["bad_mixed", "b is one value", "a a whole column"]),
        (bad_two_tables, ["only input"]),
        (bad_nothing, ["no input parameter"]),
        (bad_stars, ["any number"]),
        (bad_defaults, ["parameter b", "default"]),
        (bad_bare, ["parameter a", "no annotation", "list[str]"]),
        (bad_optional_column, ["list[T | None]"]),
        (bad_no_return, ["output_type="]),
        (bad_array, ["Array", "output_type="]),
        (bad_scalar_return, ["str", "list[T]"]),
        (bad_strange, ["complex"]),
        (bad_unknown, ["'Missing'", "TYPE_CHECKING"]),
        (bad_numpy, ["input_types="]),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_bad_bodies_are_explained(body, words):
    with pytest.raises(sluice.DeclarationError) as caught:
        declared(body)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_body_is_decorated_once():
    once = sluice.function(of(list[str]))
    with pytest.raises(sluice.DeclarationError, match="already"):
        sluice.function(once)
