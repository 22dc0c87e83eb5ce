"""Whatever callers hand over becomes one table."""

import numpy as np
import pyarrow as pa
import pytest
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
