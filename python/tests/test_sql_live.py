"""sluice.sql against the real server: where in a query calls may stand, what they read, how queries fail."""

import datetime
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sluice
from sluice.query import Query

DEPLOYED = "catalog.py"

HOUSES = pa.table({"id": range(5), "sqft": [10.0, 20.0, 30.0, 40.0, 50.0], "rooms": [1.0, 2.0, 3.0, 4.0, 5.0]})
PRICED = "select id, catalog_call('catalog.price', sqft, rooms) as price from h"
PRICES = [21.0, 42.0, 63.0, 84.0, 105.0]


@pytest.fixture
def run(remote):
    return lambda query, **options: sluice.sql(query, url=remote.url, **options)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("select catalog_call('catalog.price', sqft, rooms) from h", PRICES),
        ("select CATALOG_CALL('catalog.price', sqft + 0.5, 1) from h where id < 2", [22.0, 42.0]),
        ("select id from h where catalog_call('catalog.price', sqft, rooms) > 80", [3, 4]),
        ("select id from h where rooms > 1 and catalog_call('catalog.price', sqft, rooms) < 80 order by id desc", [2, 1]),
        ("select catalog_call('catalog.double', catalog_call('catalog.double', id)) from h", [0, 4, 8, 12, 16]),
        ("select catalog_call('catalog.double', id) + catalog_call('catalog.price', sqft, rooms) from h", [21, 44, 67, 90, 113]),
        (f"with p as ({PRICED}) select price from p where id > 2", PRICES[3:]),
        (f"with p as materialized ({PRICED}) select sum(price) from p", [315.0]),
        ("select a.id from h a join h b on catalog_call('catalog.double', a.id) = b.id order by 1", [0, 1, 2]),
        ("select h.id from h where id in (select catalog_call('catalog.double', id) from h) order by 1", [0, 2, 4]),
        ("select (select max(catalog_call('catalog.double', o.id)) from h o where o.id < h.id) from h", [None, 0, 2, 4, 6]),
        ("select sum(catalog_call('catalog.double', id)) from h", [20]),
        ("select count(*) from h group by catalog_call('catalog.double', id % 2) order by 1", [2, 3]),
        ("select id from h order by catalog_call('catalog.double', -id)", [4, 3, 2, 1, 0]),
        ("select case when id > 3 then catalog_call('catalog.double', id) end from h", [None, None, None, None, 8]),
        ("select unnest(catalog_call('catalog.vector', 'abc')) from range(1)", [3.0, 0.5]),
        ("select catalog_call('catalog.vector', 'abc')[1] from h limit 2", [3.0, 3.0]),
        ("select catalog_call('catalog.both', sqft).half from h limit 2", [5.0, 10.0]),
        ("select [catalog_call('catalog.double', x) for x in [id, 1]] from h limit 2", [[0, 2], [2, 2]]),
        ("select catalog_call('catalog.double', 13 - 1)", [24]),
        ("select catalog_call('catalog.double', 1) union all select catalog_call('catalog.double', 5)", [2, 10]),
        ("select catalog_call('catalog.double', h.id) from h positional join h g", [0, 2, 4, 6, 8]),
        ("from h select catalog_call('catalog.double', id) limit 1", [0]),
        ("select catalog_call('catalog.double', range) from range(3)", [0, 2, 4]),
        ("select catalog_call('catalog.double', t.i) from range(3) t(i)", [0, 2, 4]),
        ("select 'catalog_call' as text", ["catalog_call"]),
    ],
)
def test_a_call_may_stand_wherever_a_row_has_a_value(run, query, expected):
    result = run(query, h=HOUSES)
    assert result.column(0).to_pylist() == expected


def test_columns_have_the_names_that_the_query_shows(run):
    result = run("select catalog_call('catalog.double', id), catalog_call('catalog.double', id) + 1 AS more, * from h", h=HOUSES)
    assert result.column_names == ["catalog_call('catalog.double', id)", "more", "id", "sqft", "rooms"]


@pytest.mark.parametrize("groups", [1, 40])
def test_files_are_read_in_order_whatever_their_row_groups(run, tmp_path, groups):
    rows = 40_000
    file = tmp_path / "many houses.parquet"
    table = pa.table({"id": range(rows), "unused": [None] * rows, "value": [i % 1000 for i in range(rows)]})
    pq.write_table(table, file, row_group_size=rows // groups)
    result = run(f"select id, catalog_call('catalog.price', value, id) as price from '{file}'")
    assert result["id"].to_pylist() == list(range(rows))
    assert result["price"].to_pylist() == [i % 1000 * 2.0 + i for i in range(rows)]
    where = "m.id = 5 and catalog_call('catalog.price', m.id, 0) = 10"
    named = run(f"select \"many houses\".id, m.value from '{file}', '{file}' m where {where} limit 1")
    assert named.to_pylist() == [{"id": 0, "value": 5}]


def test_other_files_and_types_pass_as_they_are(run, tmp_path):
    csv, lines = tmp_path / "a.csv", tmp_path / "a.jsonl"
    csv.write_text("id,text\n1,abc\n2,de\n")
    lines.write_text('{"id": 7, "tags": ["x"]}\n')
    texts = run(f"select a.id, catalog_call('catalog.vector', a.text)[1] as n from '{csv}' a")
    assert texts.to_pylist() == [{"id": 1, "n": 3.0}, {"id": 2, "n": 2.0}]
    read = run(f"select read_csv.*, catalog_call('catalog.double', id) d from read_csv('{csv}', header = true) limit 1")
    assert read.to_pylist() == [{"id": 1, "text": "abc", "d": 2}]
    tags = run(f"select tags, catalog_call('catalog.double', id) as d from '{lines}'")
    assert tags.to_pylist() == [{"tags": ["x"], "d": 14}]
    kinds = "select 1::hugeint h, uuid() u, 1.5::decimal(9, 2) d, interval 1 day i, 'a'::enum('a') e"
    pq_file = tmp_path / "kinds.parquet"
    duckdb.execute(f"copy ({kinds}) to '{pq_file}'")
    query = "select typeof(u), typeof(d), typeof(i), catalog_call('catalog.double', 1) from "
    assert run(f"{query}'{pq_file}'").to_pylist()[0] == {
        "typeof(u)": "UUID",
        "typeof(d)": "DECIMAL(9,2)",
        "typeof(i)": "INTERVAL",
        "catalog_call('catalog.double', 1)": 2,
    }


def test_values_are_given_by_name(run):
    query = "select catalog_call('catalog.price', sqft, $rooms) from h where id = $id"
    assert run(query, params={"rooms": 9, "id": 1}, h=HOUSES).column(0).to_pylist() == [49.0]


def test_tables_may_be_of_any_library(run):
    values = {"value": [1, 2]}
    for table in (values, pa.table(values), pd.DataFrame(values), pl.DataFrame(values)):
        assert run("select catalog_call('catalog.double', value) as d from t", t=table)["d"].to_pylist() == [2, 4], type(table)
    day = datetime.date(2020, 1, 1)
    assert run("select $day as day", params={"day": day})["day"].to_pylist() == [day]


def test_every_row_is_called_for_even_with_the_same_arguments(run):
    same = pa.table({"value": pa.array([1] * 5000)})
    answers = run("select catalog_call('catalog.count', value) as n from same", same=same)["n"].to_pylist()
    assert len(set(answers)) == 5000


def test_a_limit_ends_the_calls(run):
    before = run("select catalog_call('catalog.count', 1) as n")["n"][0].as_py()
    assert run("select catalog_call('catalog.count', range) from range(10000000) limit 3").num_rows == 3
    after = run("select catalog_call('catalog.count', 1) as n")["n"][0].as_py()
    # What was read ahead is bounded by what is in flight.
    assert after - before < 200_000


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("selec 1, 'catalog_call'", 'syntax error at or near "selec"'),
        ("select id,\n catalog_call('catalog.double', id) frm h", r"syntax error.*\(line 2\)|syntax error"),
        ("select catalog_call(name, id) from h", "takes the function's name first, as a text in quotes"),
        ("select catalog_call()", "takes the function's name first"),
        ("select catalog_call('catalog.double', value := id) from h", "without names such as value"),
        ("select catalog_call('catalog.double', id) over () from h", "takes no OVER"),
        ("select catalog_call(distinct 'catalog.double', id) from h", "takes no OVER, FILTER, DISTINCT"),
        ("select catalog_call('catalog.double', id); select 2", "2 statements"),
        ("create table x as select catalog_call('catalog.double', 1)", "one SELECT statement"),
        ("select catalog_call('catalog.double', idd) from h", '"idd" not found'),
        ("select catalog_call('catalog.double', sqft::varchar) from h", r"catalog_call\('catalog.double', VARCHAR"),
        ("select catalog_call('catalog.double', id) from nothing", "nothing does not exist"),
        ("select catalog_call('catalog.double', id) from 'nothing.parquet'", "nothing.parquet"),
        ("select catalog_call('catalog.vector', id) from h", r"catalog_call\('catalog.vector', "),
    ],
)
def test_what_is_wrong_with_a_query_is_said_in_its_own_words(run, query, message):
    with pytest.raises(sluice.QueryError, match=message) as failed:
        run(query, h=HOUSES)
    assert "__sluice" not in str(failed.value)


def test_a_failure_ends_the_query_and_its_calls(run, remote):
    with pytest.raises(sluice.CatalogCallError, match="value = 13"):
        run("select catalog_call('catalog.double', case when range = 70000 then 13 else range * 20 end) from range(100000)")
    queue = remote.function("catalog.double").show()["queue"]
    assert queue["waiting_rows"] + queue["sealed_rows"] == 0


def test_a_query_that_is_stopped_cancels_what_is_in_flight(remote):
    path = "/v1/functions/catalog.narrow"
    remote._transport.request("POST", f"{path}/pause")
    ended: list[BaseException] = []
    try:
        with Query("select catalog_call('catalog.narrow', 1) from range(3)", url=remote.url) as query:

            def read() -> None:
                try:
                    query.table()
                except sluice.SluiceError as error:
                    ended.append(error)

            reading = threading.Thread(target=read)
            reading.start()
            while remote.function("catalog.narrow").show()["queue"]["waiting_rows"] < 3:
                assert reading.is_alive()
            query.calls.stop()
            reading.join(60)
        assert len(ended) == 1
        assert remote.function("catalog.narrow").show()["queue"]["waiting_rows"] == 0
    finally:
        remote._transport.request("POST", f"{path}/resume")


def test_without_duckdb_it_says_what_to_install(tmp_path):
    (tmp_path / "duckdb.py").write_text("raise ImportError('not here')\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import sluice; sluice.sql('select 1')"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    package = Path(sluice.__file__).resolve().parents[2]
    assert f"pip install '{package}[sql]'" in told.stderr
