"""The frame that predict gets: columns, and the ways out of Arrow."""

import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sluice import DataFrame

TABLE = pa.table({"sqft": [50.0, 80.5, None], "rooms": [2, 3, 4], "kind": ["a", "b", "a"]})


def test_it_is_made_of_every_arrow_form():
    forms = (TABLE, TABLE.to_batches()[0], TABLE.to_pydict(), TABLE.to_reader(), pl.from_arrow(TABLE), DataFrame(TABLE))
    for form in forms:
        assert DataFrame.from_arrow(form).to_pydict() == TABLE.to_pydict()
    with pytest.raises(TypeError, match="a DataFrame cannot be made of list"):
        DataFrame.from_arrow([1, 2])
    with pytest.raises(TypeError, match="cannot be made of Int64Array"):
        DataFrame.from_arrow(pa.array([1]))


def test_columns_are_arrays_and_lists_of_names_are_frames():
    frame = DataFrame(pa.concat_tables([TABLE, TABLE]))
    assert (len(frame), frame.shape, frame.num_rows, list(frame), frame.columns) == (
        6,
        (6, 3),
        6,
        *[["sqft", "rooms", "kind"]] * 2,
    )
    assert frame["rooms"].to_pylist() == [2, 3, 4, 2, 3, 4]
    np.testing.assert_array_equal(frame["sqft"].to_numpy(), [50.0, 80.5, np.nan] * 2)
    assert frame[["kind", "rooms"]].columns == ["kind", "rooms"]
    assert "rooms" in frame and "price" not in frame
    with pytest.raises(KeyError, match="there is no column 'price'; the columns are sqft, rooms, kind"):
        frame["price"]
    assert DataFrame(TABLE.slice(0, 0))["kind"].type == pa.string()
    assert repr(frame) == "<sluice.DataFrame of 6 rows; sqft: double, rooms: int64, kind: string>"


def test_it_becomes_pandas_polars_and_numpy():
    frame = DataFrame(TABLE)
    assert frame.to_pandas().equals(TABLE.to_pandas())
    assert frame.to_polars().equals(pl.from_arrow(TABLE))
    assert pa.table(frame).equals(TABLE)
    numbers = frame[["sqft", "rooms"]].to_numpy()
    assert numbers.dtype == np.float64
    np.testing.assert_array_equal(numbers, [[50.0, 2], [80.5, 3], [np.nan, 4]])
    assert frame.to_numpy().dtype == object
    assert DataFrame({"x": pa.array([1.5], pa.float32()), "n": pa.array([1], pa.int8())}).to_numpy().dtype == np.float32


def test_one_column_of_lists_is_a_matrix():
    for kind in (pa.list_(pa.float32()), pa.large_list(pa.float32()), pa.list_(pa.float32(), 2)):
        vectors = DataFrame({"v": pa.array([[1, 2], [3, 4], [5, 6]], kind)})
        np.testing.assert_array_equal(vectors.to_numpy(), [[1, 2], [3, 4], [5, 6]])
    for wrong in ([[1, 2], [3]], [[1, 2], None], [[1], [2, 3, 4]]):
        with pytest.raises(ValueError, match="column 'v' has lists of different lengths, or nulls"):
            DataFrame({"v": pa.array(wrong, pa.list_(pa.float32()))}).to_numpy()


def test_pandas_and_polars_and_numpy_are_imported_only_when_asked_for():
    code = (
        "import sys, sluice, pyarrow as pa; f = sluice.DataFrame.from_arrow(pa.table({'a': pa.nulls(1)})); f['a']; f.to_arrow();"
        "print([m for m in ('pandas', 'polars') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
    assert isinstance(DataFrame(TABLE).to_pandas(), pd.DataFrame)


def test_an_array_is_asked_for_by_name():
    with pytest.raises(TypeError, match=r"hand over df.to_pandas\(\), or df.to_numpy\(\)"):
        np.asarray(DataFrame.from_arrow({"x": [1.0]}))
