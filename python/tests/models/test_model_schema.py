"""Schemas of Python and Arrow types, and the environment's requirements."""

import datetime
import importlib.metadata

import numpy as np
import pyarrow as pa
import pytest
from sluice import DeclarationError
from sluice.models.dependencies import environment, name_of, pinned_requirement
from sluice.models.schema import arrow_schema, schema_fields
from sluice.models.type_text import named_schema


def types_of(schema):
    return {field["name"]: field["type"] for field in schema_fields(schema, "input_schema")}


def test_python_types_and_arrow_types():
    given = {
        "a": float,
        "b": int,
        "c": str,
        "d": bool,
        "e": bytes,
        "f": datetime.date,
        "g": list[float],
        "h": np.float32,
        "i": pa.int8(),
        "j": pa.list_(pa.float32(), 3),
    }
    assert types_of(given) == {
        "a": "float64",
        "b": "int64",
        "c": "utf8",
        "d": "bool",
        "e": "binary",
        "f": "date32",
        "g": {"list": {"name": "item", "type": "float64", "nullable": True}},
        "h": "float32",
        "i": "int8",
        "j": {"fixed_size_list": {"name": "item", "type": "float32", "nullable": True}, "size": 3},
    }
    assert all(field["nullable"] for field in schema_fields(given, "input_schema"))
    schema = pa.schema([pa.field("x", pa.float64(), False), pa.field("y", pa.string())])
    assert arrow_schema(schema_fields(schema, "input_schema")) == schema


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({}, "input_schema has 0 columns"),
        ([("a", int)], "input_schema is .*; it takes a dict of name to type"),
        ({1: int}, "input_schema names a column 1"),
        ({"a": "float"}, r"input_schema\['a'\] is 'float'"),
        ({"a": dict}, r"input_schema\['a'\] holds dicts"),
        ({"a": object}, r"input_schema\['a'\] is object, which has no Arrow type"),
        ({"a": np.complex64}, r"input_schema\['a'\] is 'complex64', which is no Arrow type"),
        (pa.schema([("a", pa.int8()), ("a", pa.int8())]), "names the column 'a' more than once"),
    ],
)
def test_what_is_no_schema_is_refused_with_its_column(schema, said):
    with pytest.raises(DeclarationError, match=said):
        schema_fields(schema, "input_schema")


# Dependencies

NUMPY = importlib.metadata.version("numpy").partition("+")[0]


def test_requirements_without_a_version_get_the_one_that_is_installed():
    assert pinned_requirement("numpy") == f"numpy=={NUMPY}"
    assert pinned_requirement("NumPy [extra]") == f"NumPy [extra]=={NUMPY}"
    assert pinned_requirement('numpy ; python_version > "3"') == f'numpy=={NUMPY} ; python_version > "3"'
    for kept in (
        "numpy>=1",
        "numpy==1.0",
        "numpy @ https://host/numpy.whl",
        "git+https://host/x.git",
        "./wheel.whl",
        "no-such-thing",
    ):
        assert pinned_requirement(kept) == kept


def test_names_of_requirements():
    assert name_of("scikit-learn==1.7") == "scikit-learn"
    assert name_of("uvicorn[standard]>=1") == "uvicorn"
    assert name_of("https://host/x.whl") is None
    assert name_of("./x") is None


def test_the_frameworks_of_the_model_are_added_where_they_are_missing():
    sklearn = importlib.metadata.version("scikit-learn")
    skops = importlib.metadata.version("skops")
    assert environment(["pandas<4"], ["sklearn", "skops", "pyarrow"], True) == [
        "pandas<4",
        f"scikit-learn=={sklearn}",
        f"skops=={skops}",
    ]
    assert environment(["scikit_learn", "skops==1"], ["sklearn", "skops"], True) == [f"scikit_learn=={sklearn}", "skops==1"]
    assert environment((), ["sklearn"], True) == []
    # xgboost-cpu is the same module under another name.
    xgboost = importlib.metadata.version("xgboost-cpu")
    assert environment(["xgboost"], ["xgboost"], True) == [f"xgboost=={xgboost}"]


def test_a_requirement_that_stays_without_a_version_is_said():
    with pytest.warns(UserWarning, match="no-such-thing has no version"):
        assert environment(["no-such-thing", "numpy"], [], True) == ["no-such-thing", f"numpy=={NUMPY}"]
    with pytest.warns(UserWarning, match="numpy has no version"):
        assert environment(["numpy"], [], False) == ["numpy"]


@pytest.mark.parametrize("wrong", ["numpy", ["-r x.txt"], ["--index-url=x"], [1], [""], ["a\nb"], 7])
def test_what_is_no_requirement_is_refused(wrong):
    with pytest.raises(DeclarationError, match="dependencies"):
        environment(wrong, [], True)


def test_a_command_line_names_columns_and_types():
    given = ["a=float64", "b=list<float32>", "c=list<list<utf8>>", 'd={"timestamp": "us", "tz": "UTC"}']
    given += ['e=list<{"fixed_size_binary": 4}>']
    assert named_schema(given, "--input") == pa.schema(
        {
            "a": pa.float64(),
            "b": pa.list_(pa.float32()),
            "c": pa.list_(pa.list_(pa.string())),
            "d": pa.timestamp("us", "UTC"),
            "e": pa.list_(pa.binary(4)),
        }
    )
    assert named_schema([], "--input") is None


@pytest.mark.parametrize(
    "kind",
    ["float", "", "json", "any", "list<>", "list<float32", "{", "{}", '{"list": "float32"}', '{"timestamp": "x", "tz": null}'],
)
def test_an_unknown_type_is_refused_with_those_that_are(kind):
    with pytest.raises(DeclarationError) as caught:
        named_schema([f"a={kind}"], "--output")
    assert f"--output a has the type {kind!r}; it takes " in str(caught.value)
    assert "float64" in str(caught.value) and "list<TYPE>" in str(caught.value)


@pytest.mark.parametrize(
    ("given", "words"), [(["a"], "NAME=TYPE"), (["=int8"], "NAME=TYPE"), (["a=int8", "a=utf8"], "more than once")]
)
def test_a_column_has_a_name_of_its_own_and_a_type(given, words):
    with pytest.raises(DeclarationError, match=words):
        named_schema(given, "--input")
