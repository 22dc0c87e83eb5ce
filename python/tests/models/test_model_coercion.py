"""What predict may return, and how the output schema is checked."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sluice import DataFrame
from sluice.models.coercion import PredictionError, coerced, result_array
from sluice.models.schema import output_field, schema_fields

PRICE = schema_fields({"price": float}, "output_schema")
TWO = schema_fields({"price": float, "label": str}, "output_schema")
PREDICTION = schema_fields({"prediction": float}, "output_schema")
COLUMNS = {"price": [1.0, 2.0], "label": ["a", "b"]}
TABLE = pa.table(COLUMNS)

FORMS = {
    "frame": DataFrame(TABLE),
    "table": TABLE,
    "batch": TABLE.to_batches()[0],
    "pandas": pd.DataFrame(COLUMNS, index=[7, 9]),
    "polars": pl.DataFrame(COLUMNS),
    "dict of lists": COLUMNS,
    "dict of arrays": {"label": pa.array(["a", "b"]), "price": np.array([1.0, 2.0])},
    "dict of series": {"label": pd.Series(["a", "b"]), "price": pl.Series([1.0, 2.0])},
    "other order": TABLE.select(["label", "price"]),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_columns_by_name(form):
    found = coerced(form, TWO, 2)
    assert found.schema == pa.schema([("price", pa.float64()), ("label", pa.string())])
    assert found.to_pydict() == COLUMNS
    assert result_array(found).to_pylist() == [{"price": 1.0, "label": "a"}, {"price": 2.0, "label": "b"}]


def test_numpy_has_names_of_its_own():
    assert coerced(np.array([1.0, 2.0]), PREDICTION, 2).to_pydict() == {"prediction": [1.0, 2.0]}
    matrix = np.array([[1, 2], [3, 4]])
    numbered = schema_fields({"col_0": int, "col_1": int}, "output_schema")
    assert coerced(matrix, numbered, 2).to_pydict() == {"col_0": [1, 3], "col_1": [2, 4]}
    named = schema_fields({"a": int, "b": int}, "output_schema")
    with pytest.raises(
        PredictionError, match="returned the columns 'col_0', 'col_1'; output_schema has 'a', 'b'.*return a dict of columns"
    ):
        coerced(matrix, named, 2)
    assert coerced(matrix, named, 2, by_position=True).to_pydict() == {"a": [1, 3], "b": [2, 4]}


def test_the_only_column_takes_the_only_prediction_whatever_its_name():
    for array in (np.array([1.0, 2.0]), np.array([[1.0], [2.0]]), np.array([1, 2])):
        found = coerced(array, PRICE, 2)
        assert result_array(found).equals(pa.array([1.0, 2.0]))


def test_a_matrix_is_a_column_of_lists_where_one_is_declared():
    for kind in (pa.list_(pa.float32()), pa.list_(pa.float32(), 3), pa.large_list(pa.float64())):
        outputs = schema_fields({"vector": kind}, "output_schema")
        array = np.arange(6, dtype=np.float32).reshape(2, 3)
        found = result_array(coerced(array, outputs, 2))
        assert found.type == kind
        assert found.to_pylist() == [[0, 1, 2], [3, 4, 5]]
        assert result_array(coerced({"vector": array}, outputs, 2)).equals(found)


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ([1.0, 2.0], "predict returned list; it must return a sluice.DataFrame"),
        (None, "predict returned None"),
        (1.5, "predict returned float"),
        (pa.array([1.0, 2.0]), "predict returned pyarrow.DoubleArray"),
        (pd.Series([1.0, 2.0]), "predict returned pandas.Series, which has no column name"),
        (np.zeros((2, 2, 2)), r"NumPy array of shape \(2, 2, 2\)"),
        (np.array(1.0), r"NumPy array of shape \(\)"),
        ({1: [1.0, 2.0]}, "a column named 1; names are texts"),
        ({"price": 1.0}, "column 'price' that is no list"),
        ({"price": [1.0, "x"]}, "column 'price' that is no list of values of one type"),
        (pd.DataFrame({0: [1.0, 2.0]}), "a column named 0; names are texts"),
        (pa.table([[1.0], [2.0]], names=["price", "price"]), "the column 'price' more than once"),
        (DataFrame, "predict returned type"),
    ],
)
def test_everything_else_is_a_type_error_that_says_what_is_taken(returned, said):
    with pytest.raises(PredictionError, match=said) as caught:
        coerced(returned, PRICE, 2)
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize(
    ("returned", "outputs", "said"),
    [
        ({"cost": [1.0, 2.0]}, PRICE, r"columns 'cost'; output_schema has 'price': the answer lacks 'price' and has 'cost' too"),
        ({**COLUMNS, "x": [1, 2]}, TWO, "the answer has 'x' too"),
        ({"price": [1.0]}, PRICE, "predict got 2 rows and returned 1 in the column 'price'"),
        (np.zeros(3), PRICE, "predict got 2 rows and returned 3 in the column 'price'"),
        ({"price": ["a", "b"]}, PRICE, "column 'price' of output_schema is double, and predict returned string"),
        ({"price": ["1", "2"]}, PRICE, "column 'price' of output_schema is double, and predict returned string"),
        ({"price": [True, None]}, {"price": str}, "is string, and predict returned bool"),
        ({"n": [1.5, 2.0]}, {"n": int}, "is int64, and predict returned double, which does not cast without loss"),
        ({"n": [300, 1]}, {"n": pa.int8()}, "is int8, and predict returned int64, which does not cast without loss"),
        ({"n": [2, 1]}, {"n": bool}, "does not cast without loss: there are values beside 0 and 1"),
        ({"n": [[1], [2]]}, {"n": int}, "is int64, and predict returned list"),
        ({"n": [1, None]}, pa.schema([pa.field("n", pa.int64(), False)]), "takes no nulls, and predict returned 1"),
    ],
)
def test_name_type_and_length_are_checked(returned, outputs, said):
    fields = outputs if isinstance(outputs, list) else schema_fields(outputs, "output_schema")
    with pytest.raises(PredictionError, match=said):
        coerced(returned, fields, 2)


def test_casts_that_lose_nothing_are_made():
    outputs = schema_fields(
        {
            "a": float,
            "b": int,
            "c": bool,
            "d": pa.large_string(),
            "e": pa.float32(),
            "f": str,
            "g": float,
            "h": pa.timestamp("us"),
        },
        "output_schema",
    )
    returned = {
        "a": np.array([1, 2], np.uint8),
        "b": np.array([1.0, 2.0], np.float32),
        "c": [1, 0],
        "d": ["x", None],
        "e": [0.5, None],
        "f": pa.array(["u", "v"]).dictionary_encode(),
        "g": pa.nulls(2),
        "h": pa.array([1, 2], pa.timestamp("ms")),
    }
    found = coerced(returned, outputs, 2)
    assert found.schema.types == [
        pa.float64(),
        pa.int64(),
        pa.bool_(),
        pa.large_string(),
        pa.float32(),
        pa.string(),
        *[pa.float64(), pa.timestamp("us")],
    ]
    assert found.column("c").to_pylist() == [True, False]
    found.validate(full=True)


def test_zero_rows_and_many_chunks():
    assert coerced(pa.table({"price": pa.array([], pa.float64())}), PRICE, 0).num_rows == 0
    chunked = pa.chunked_array([[1.0], [2.0], []], pa.float64())
    assert result_array(coerced({"price": chunked}, PRICE, 2)).to_pylist() == [1.0, 2.0]
    assert result_array(coerced({"price": pa.chunked_array([], pa.float64())}, PRICE, 0)).to_pylist() == []


def test_without_a_declared_schema_what_comes_is_taken():
    assert coerced({"x": [1, 2]}, None, 2).to_pydict() == {"x": [1, 2]}
    with pytest.raises(PredictionError, match="predict got 2 rows and returned 1"):
        coerced({"x": [1]}, None, 2)


def test_the_output_of_a_function_is_the_type_or_a_struct():
    assert output_field(PRICE)["type"] == "float64"
    assert [field["name"] for field in output_field(TWO)["type"]["struct"]] == ["price", "label"]
