"""catalog_call over columns and in SQL: one table of cases for both, since they have the same semantics."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import sluice

DEPLOYED = "catalog.py"

ROWS = 10_000
SQFT = pa.array([None if i % 97 == 0 else float(i) for i in range(ROWS)], pa.float64())
ROOMS = pa.array([float(i % 7) for i in range(ROWS)])
PRICE = [None if s is None else s * 2 + r for s, r in zip(SQFT.to_pylist(), ROOMS.to_pylist(), strict=True)]


def over_columns(remote, function, columns, **options):
    return sluice.catalog_call(function, *columns, url=remote.url, **options)


def in_sql(remote, function, columns, **options):
    names = [f"c{i}" for i in range(len(columns))]
    table = pa.table({"row": range(len(columns[0])), **dict(zip(names, columns, strict=True))})
    query = f"select catalog_call('{function}', {', '.join(names)}) as result from t"
    return sluice.sql(query, url=remote.url, t=table, **options)["result"].combine_chunks()


both_ways = pytest.mark.parametrize("call", [over_columns, in_sql])


@both_ways
def test_many_rows_come_back_in_their_order_and_nulls_reach_the_function(remote, call):
    assert call(remote, "catalog.price", [SQFT, ROOMS]).to_pylist() == PRICE


@both_ways
@pytest.mark.parametrize(
    ("function", "columns", "expected"),
    [
        ("catalog.double", [pa.array([1, 2], pa.int16())], [2, 4]),
        ("catalog.price", [pa.array([1, 2]), pa.array([1, None])], [3.0, None]),
        ("catalog.vector", [pa.array(["a", "bcd"])], [[1.0, 0.5], [3.0, 0.5]]),
        ("catalog.vector", [pa.array([], pa.string())], []),
        ("catalog.both", [pa.array([3.0])], [{"half": 1.5, "word": "v3"}]),
        ("catalog.narrow", [pa.array([-128, 127], pa.int64())], [-128, 127]),
    ],
)
def test_arguments_and_results_of_each_kind(remote, call, function, columns, expected):
    assert call(remote, function, columns).to_pylist() == expected


@both_ways
def test_a_refused_row_is_named_with_its_arguments_and_the_cause(remote, call):
    with pytest.raises(sluice.CatalogCallError, match=r"'catalog.double'.*value = 13.*13 is refused \(row_error\)") as failed:
        call(remote, "catalog.double", [pa.array([1, 13, 2])])
    assert failed.value.values == {"value": 13}
    assert failed.value.function == "catalog.double"


@both_ways
def test_a_null_that_the_function_does_not_take_is_named(remote, call):
    with pytest.raises(sluice.CatalogCallError, match=r"'catalog.double'.*value = null.*does not take"):
        call(remote, "catalog.double", [pa.array([1, None])])


@both_ways
def test_failed_rows_are_null_when_asked_and_only_they(remote, call):
    column = pa.array([None if i % 10 == 0 else 13 if i % 10 == 1 else i for i in range(300)])
    results = call(remote, "catalog.double", [column], on_error="null").to_pylist()
    assert results == [None if i is None or i == 13 else i * 2 for i in column.to_pylist()]


@both_ways
@pytest.mark.parametrize(
    ("function", "columns", "message"),
    [
        ("catalog.price", [SQFT], r"has 1 argument; the function takes 2: sqft \(float64\), rooms \(float64\)"),
        ("catalog.nothing", [SQFT], "catalog.nothing"),
        ("catalog.table", [SQFT], "takes a table of any columns"),
        ("catalog.narrow", [pa.array([1000])], "value takes int8"),
    ],
)
def test_what_does_not_fit_is_said(remote, call, function, columns, message):
    with pytest.raises((ValueError, sluice.ServerError), match=message):
        call(remote, function, columns)


def test_columns_may_be_of_any_library(remote):
    values = [1.0, 2.0, 3.0]
    chunked = pa.chunked_array([values[:1], values[1:]])
    for kind in (pa.array(values), chunked, pd.Series(values), pl.Series(values), np.array(values), values):
        result = sluice.catalog_call("catalog.price", kind, kind, url=remote.url)
        assert result.to_pylist() == [3.0, 6.0, 9.0], type(kind)
        assert isinstance(result, pa.Array)


def test_single_values_are_repeated(remote):
    assert sluice.catalog_call("catalog.price", [1.0, 2.0], 5, url=remote.url).to_pylist() == [7.0, 9.0]
    assert sluice.catalog_call("catalog.price", pa.scalar(1.0), None, url=remote.url).to_pylist() == [None]
    assert sluice.catalog_call("catalog.vector", "abc", url=remote.url).to_pylist() == [[3.0, 0.5]]


def test_columns_of_different_lengths_are_refused(remote):
    with pytest.raises(ValueError, match="sqft 2, rooms 3"):
        sluice.catalog_call("catalog.price", [1, 2], [1, 2, 3], url=remote.url)


def test_the_row_number_of_a_failure_counts_over_all_chunks(remote):
    column = pa.array([13 if i == 9_000 else 0 for i in range(ROWS)])
    with pytest.raises(sluice.CatalogCallError) as failed:
        sluice.catalog_call("catalog.double", column, url=remote.url)
    assert failed.value.row == 9_000


def test_wrong_options_are_named(remote):
    with pytest.raises(ValueError, match="on_error is 'skip'"):
        sluice.catalog_call("catalog.double", [1], url=remote.url, on_error="skip")
    with pytest.raises(ValueError, match="concurrent_chunks is 0"):
        sluice.sql("select 1", url=remote.url, concurrent_chunks=0)
    with pytest.raises(ValueError, match="the query is empty"):
        sluice.sql(" ", url=remote.url)
