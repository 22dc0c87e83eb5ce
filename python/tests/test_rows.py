"""Whatever callers hand over becomes one table."""

from datetime import date, datetime, time, timedelta
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from sluice.arrow_types import item
from sluice.rows import refitted, stream_of, table_of

TEXT = {"name": "text", "type": "utf8", "nullable": False}
NUMBER = {"name": "n", "type": "int32", "nullable": True}
JSON = {"name": "item", "type": "json", "nullable": False}


def table(*args, fields=(TEXT,), **columns):
    return table_of(args, columns, lambda: None if fields is None else list(fields))


def never():
    raise AssertionError("the server was asked for the inputs")


class Stream:
    """A DataFrame of another library: it has columns and an Arrow stream, and is nothing that this package knows."""

    def __init__(self, inner):
        self.inner = inner
        self.columns = inner.column_names

    def __arrow_c_stream__(self, requested_schema=None):
        return self.inner.__arrow_c_stream__(requested_schema)


def test_arrow_tables_go_as_they_are_without_a_question():
    source = pa.table({"text": ["a", "b"]})
    assert table_of((source,), {}, never) == source
    assert table_of((source.to_batches()[0],), {}, never) == source
    assert table_of((source.to_reader(),), {}, never) == source
    assert table_of((Stream(source),), {}, never) == source


def test_metadata_stays_at_home():
    source = pa.table({"text": ["a"]}).replace_schema_metadata({"pandas": "{}"})
    assert table_of((source,), {}, never).schema.metadata is None


def test_lists_take_the_declared_types():
    assert table(["a", "b"]).to_pydict() == {"text": ["a", "b"]}
    two = table(["a"], [1], fields=(TEXT, NUMBER))
    assert two.schema.types == [pa.string(), pa.int32()]
    assert table(text=["a"], n=[None], fields=(TEXT, NUMBER)).schema.types == [pa.string(), pa.int32()]
    assert table({"text": []}).schema.types == [pa.string()]
    assert table(pa.table({"text": pa.nulls(0)})).schema.types == [pa.string()]


def test_rows_as_dicts():
    rows = [{"text": "a", "n": 1}, {"text": "b"}]
    assert table(rows, fields=(TEXT, NUMBER)).to_pydict() == {"text": ["a", "b"], "n": [1, None]}
    with pytest.raises(ValueError, match="row 1 has 'x', which is no input; the inputs are text"):
        table([{"text": "a"}, {"text": "b", "x": 1}])


def test_json_inputs_take_any_value():
    assert table([{"a": 1}, {"b": [None, "é"]}], fields=(JSON,)).to_pydict() == {"item": ['{"a":1}', '{"b":[null,"é"]}']}
    assert table([{"item": {"a": 1}}], fields=(JSON,)).to_pydict() == {"item": ['{"a":1}']}


def test_numpy_columns():
    assert table(np.array(["a", "b"])).to_pydict() == {"text": ["a", "b"]}
    vectors = table(v=np.arange(6, dtype=np.float32).reshape(3, 2), fields=None)
    assert vectors.schema.types == [pa.list_(pa.float32())]
    assert vectors.to_pydict() == {"v": [[0, 1], [2, 3], [4, 5]]}


def test_views_and_run_ends_become_what_travels():
    source = pa.table(
        {
            "s": pa.array(["a", "b"], pa.string_view()),
            "l": pa.array([["a"], []], pa.list_(pa.string_view())),
            "d": pa.DictionaryArray.from_arrays(pa.array([1, None], pa.uint32()), pa.array(["a", "b"], pa.string_view())),
            "r": pa.RunEndEncodedArray.from_arrays(pa.array([2], pa.int32()), pa.array([7])),
        }
    )
    got = table_of((source,), {}, never)
    assert got.schema.types == [pa.large_string(), pa.list_(pa.large_string()), pa.large_string(), pa.int64()]
    assert got.to_pydict() == {"s": ["a", "b"], "l": [["a"], []], "d": ["b", None], "r": [7, 7]}


def test_data_frames_of_pandas_and_polars():
    pd = pytest.importorskip("pandas")
    pl = pytest.importorskip("polars")
    assert table_of((pd.DataFrame({"text": ["a", "b"]}, index=["x", "y"]),), {}, never).to_pydict() == {"text": ["a", "b"]}
    assert table(pd.DataFrame({"text": []})).schema.types == [pa.string()]
    assert table(pd.Series(["a"])).to_pydict() == {"text": ["a"]}
    frame = pl.DataFrame({"text": ["a", "b", "a"]}).with_columns(kind=pl.col("text").cast(pl.Categorical))
    assert table_of((frame,), {}, never).to_pydict() == {"text": ["a", "b", "a"], "kind": ["a", "b", "a"]}
    assert table(pl.Series(["a"])).to_pydict() == {"text": ["a"]}


def test_chunks_with_dictionaries_of_their_own_go_into_one_stream():
    parts = [pa.array(["a", "b"]).dictionary_encode(), pa.array(["c", "a"]).dictionary_encode()]
    source = pa.table({"text": pa.chunked_array(parts)})
    assert pa.ipc.open_stream(stream_of(source)).read_all().column(0).to_pylist() == ["a", "b", "c", "a"]


@pytest.mark.parametrize(
    ("args", "columns", "message"),
    [
        ((), {}, "no rows were given"),
        ((["a"],), {"text": ["a"]}, "by position or by column name, not both"),
        (("abc",), {}, "column 'text' is 'abc'; it takes one value for each row, as a list"),
        ((["a"], ["b"]), {}, "2 columns were given by position; the function takes 1: text"),
        (({"text": ["a"], "n": [1, 2]},), {}, "the columns have different lengths: text 1, n 2"),
        (({},), {}, "the dict of columns is empty"),
        (([1],), {}, "column 'text' cannot be sent as string"),
    ],
)
def test_wrong_rows_say_what_is_taken(args, columns, message):
    with pytest.raises((TypeError, ValueError), match=message):
        table(*args, **columns)


def test_a_function_of_any_columns_needs_their_names():
    with pytest.raises(TypeError, match="takes a whole table of any columns"):
        table(["a"], fields=None)


def test_whole_numbers_become_the_numbers_that_the_inputs_have_where_they_stay_the_same():
    fields = [{"name": "a", "type": "float64"}, {"name": "b", "type": "int32"}, {"name": "c", "type": "any"}]
    made = refitted(pa.table({"b": [1, None], "a": [2, 2**53], "c": [1, 2]}), fields)
    assert made.equals(pa.table({"b": pa.array([1, None], pa.int32()), "a": [2.0, 2.0**53], "c": [1, 2]}))
    for same in ({"a": [1.0]}, {"a": ["x"]}, {"a": [True]}, {"z": [1]}, {"a": [2**53 + 1]}, {"b": [2**31]}):
        assert refitted(pa.table(same), fields) is None
    assert refitted(pa.table({"a": [1]}), [{"name": "a", "type": "float16"}]) is None
    assert refitted(pa.table({"a": [1]}), None) is None


LOSSES = [
    ([1, 1.5], "int64", "row 1 has 1.5"),
    ([Decimal("1.25")], "int8", "row 0 has Decimal('1.25')"),
    ([np.float32(2), np.float32(2.5)], "int64", "row 1 has 2.5"),
    (np.array([2.0, 2.5]), "int64", "Float value 2.5"),
    ([0.1, float("inf"), 1e300], "float32", "row 2 has 1e+300"),
    (np.array([1.0, 1e300]), "float32", "row 1 has 1e+300"),
    ([70_000], "float16", "row 0 has 70000"),
    ([date(2026, 1, 1), datetime(2026, 1, 1, 12)], "date32", "row 1 has datetime"),
    (np.array(["2026-01-01T12"], "M8[s]"), "date32", "row 0 has 2026-01-01T12:00:00"),
    ([datetime(2026, 1, 1, 0, 0, 0, 5)], {"timestamp": "s", "tz": None}, "row 0 has datetime"),
    ([time(1, 2, 3, 5)], {"time": "ms"}, "row 0 has datetime.time"),
    ([timedelta(microseconds=5)], {"duration": "ms"}, "row 0 has datetime.timedelta"),
    ([None, [1, None], [2, 1.5]], {"list": item("int64")}, "row 2 has 1.5"),
    ([np.array([1.5])], {"list": item("int64")}, "row 0 has 1.5"),
    ([np.array([1.0]), np.array([1e300])], {"list": item("float32")}, "row 1 has 1e+300"),
    ([{"a": 1}, {"a": 1.5}], {"struct": [{**item("int64"), "name": "a"}]}, "row 1 has 1.5"),
    ([{"a": 1, "b": 2}], {"struct": [{**item("int64"), "name": "a"}]}, "row 0 has {'a': 1, 'b': 2}"),
    ([{"a": 1}, {"b": 1.5}], {"map": [item("utf8", False), item("int64")]}, "row 1 has 1.5"),
    (["a", "b\ud800"], "utf8", r"row 1 has 'b\ud800', where '\ud800' has no UTF-8"),
    ([{"a": "\ud800"}], "json", r"""row 0 has '{"a":"\ud800"}', where '\ud800' has no UTF-8"""),
]


@pytest.mark.parametrize(("values", "kind", "message"), LOSSES)
def test_a_value_that_would_become_another_one_is_an_error(values, kind, message):
    with pytest.raises(ValueError, match="column 'x' cannot be sent as") as caught:
        table(x=values, fields=[{"name": "x", "type": kind, "nullable": True}])
    assert f": {message}" in str(caught.value)


@pytest.mark.parametrize(
    ("values", "kind", "sent"),
    [
        ([1, 2.0, Decimal(3), None], "int64", [1, 2, 3, None]),
        ([0.1, float("inf"), None, 2], "float32", [np.float32(0.1).item(), float("inf"), None, 2]),
        ([datetime(2026, 1, 1), date(2026, 1, 2)], "date32", [date(2026, 1, 1), date(2026, 1, 2)]),
        ([datetime(2026, 1, 1, 1)], {"timestamp": "s", "tz": None}, [datetime(2026, 1, 1, 1)]),
        ([[1.0], None, np.array([2])], {"list": item("int64")}, [[1], None, [2]]),
        ([{"a": 1.0}, None, {}], {"struct": [{**item("int64"), "name": "a"}]}, [{"a": 1}, None, {"a": None}]),
        (np.ma.masked_array([[1, 2], [3, 4]], [[0, 1], [0, 0]]), {"list": item("int64")}, [[1, None], [3, 4]]),
        (np.zeros((2, 0)), {"list": item("float32")}, [[], []]),
    ],
)
def test_values_that_stay_the_same_are_sent(values, kind, sent):
    assert table(x=values, fields=[{"name": "x", "type": kind, "nullable": True}]).to_pydict() == {"x": sent}


def test_a_frame_of_several_types_names_its_column_or_is_json():
    pd = pytest.importorskip("pandas")
    mixed = pd.DataFrame({"item": [1, "a"]})
    with pytest.raises(ValueError, match="column 'item' cannot be sent: .*'a' with type str.*; give it values of one type"):
        table(mixed, fields=None)
    assert table(mixed, fields=[JSON]).to_pydict() == {"item": ["1", '"a"']}
    with pytest.raises(ValueError, match=r"column 'text' cannot be sent as string: row 0 has 'a\\ud800'"):
        table(pd.DataFrame({"text": pd.Series(["a\ud800"], dtype=object)}))
