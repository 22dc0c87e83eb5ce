"""inference_store in SQL and Client.inference_table on real Parquet files: what is listed, fetched, filtered and told."""

import datetime
import os
import re
import subprocess
import sys
import tempfile

import pyarrow as pa
import pytest
import sluice
from inference_server import DAY, rows, serving
from sluice.inferences import FOLDER_PREFIX, FileGoneError, MixedColumnsError
from sluice.query import Query

PRICED = [{"sqft": float(i), "rooms": float(i % 3)} for i in range(60)]
MINUTE = datetime.timedelta(minutes=1)
AT_30 = "2026-11-01T00:30:00Z"


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """What is fetched lies here, so that a test sees what is left of it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return lambda: [one.name for one in tmp_path.iterdir() if one.name.startswith(FOLDER_PREFIX)]


@pytest.fixture(scope="module")
def hour():
    """Six files of ten minutes."""
    parts = [rows(range(i, i + 10), PRICED[i : i + 10], [2.0 * k for k in range(i, i + 10)]) for i in range(0, 60, 10)]
    with serving(*parts) as server:
        yield server


@pytest.fixture
def client(hour):
    return sluice.Client(hour.url, retries=0)


def run(query, server, **options):
    return sluice.sql(query, url=server.url, **options)


@pytest.mark.parametrize(
    ("query", "params", "expected"),
    [
        ("select count(*), sum(output) from inference_store('demand')", {}, [60, 3540.0]),
        ("select min(input.sqft), max(input.sqft) from INFERENCE_STORE('demand', '2026-11-01T00:30:00Z')", {}, [30, 59]),
        ("select count(*) from inference_store('demand', '2026-11-01', '2026-11-01 00:05')", {}, [5]),
        ("select count(*) from inference_store('demand', null, timestamp '2026-11-01 00:00:30')", {}, [1]),
        ("select count(*) from inference_store($g, $t - interval 3 minute, $t)", {"g": "demand", "t": DAY + 9 * MINUTE}, [3]),
        ("select $n + count(*) from inference_store('demand', $t) where row < $n", {"n": 1, "t": AT_30}, [31]),
        ("select count(*) from inference_store('demand', '2026-11-01T01:00:00+01:00', '2026-11-01T00:01:00Z')", {}, [1]),
        ("select count(*) from inference_store('demand', 'infinity'::timestamptz - interval 1 day)", {}, [60]),
        ("select count(s.output) from inference_store('demand', date '2026-11-01') s where s.input.sqft >= 50", {}, [10]),
        ("select sum(o) from inference_store('demand') as t(time, c, r, m, mv, fv, a, b, h, s, ec, em, i, o)", {}, [3540.0]),
        ("select count(*) from inference_store('demand') where time >= '2026-11-01 00:59'", {}, [1]),
        ("with s as (select * from inference_store('demand')) select count(*) from s a join s b using (call_id)", {}, [60]),
        ("select (select count(*) from inference_store('demand', '2026-11-01 00:50')), 1", {}, [10, 1]),
        ("select count(*) from inference_store('demand') using sample 0 rows", {}, [0]),
    ],
)
def test_a_group_is_a_table_of_what_it_was_asked(hour, query, params, expected):
    assert list(run(query, hour, params=params).to_pylist()[0].values()) == expected


def test_rows_come_with_their_columns_and_in_utc(hour, temporary):
    found = run("select * from inference_store('demand', '2026-11-01 00:59')", hour)
    (row,) = found.to_pylist()
    assert (row["time"], row["input"], row["output"]) == (DAY + 59 * MINUTE, {"sqft": 59.0, "rooms": 2.0}, 118.0)
    assert (row["call_id"], row["model_version"], row["status"], row["error_code"]) == ("c59", 1, "ok", None)
    assert str(found.schema.field("time").type.tz) in ("UTC", "Etc/UTC")
    assert temporary() == []


def test_files_are_fetched_once_and_gone_when_the_query_is_closed(hour, temporary):
    told = []
    hour.asked.clear()
    text = "select * from inference_store('demand', $t) a join inference_store('demand', $t) b using (call_id)"
    with Query(text, url=hour.url, params={"t": AT_30}, progress=told.append) as query:
        assert len([path for path in hour.asked if "artifacts" in path]) == 3
        assert len(temporary()) == 1
        assert query.table().num_rows == 30
    assert temporary() == []
    assert [(one.group, one.files, one.files_total) for one in told] == [("demand", i, 3) for i in range(4)]
    assert (told[0].bytes, told[-1].bytes) == (0, told[-1].bytes_total)


def test_without_files_the_table_is_empty_and_has_the_columns_of_the_group():
    with serving() as server:
        found = run("select *, input.sqft + output as both from inference_store('demand')", server)
        assert (found.num_rows, found.schema.field("both").type) == (0, pa.float64())
        assert found.schema.field("input").type == pa.struct([("sqft", pa.float64()), ("rooms", pa.float64())])
        table = sluice.Client(server.url).inference_table("demand")
        assert (table.num_rows, table.schema.field("output").type) == (0, pa.float64())
        assert table.column_names == found.column_names[:-1]
        server.group = {"inputs": [], "outputs": []}
        unknown = run("select count(input.any.thing), avg(output) from inference_store('demand', '2026-11-01')", server)
        assert list(unknown.to_pylist()[0].values()) == [0, None]
        with Query("select input, output from inference_store('demand')", url=server.url) as query:
            assert query.batches("flat")[0].types == [pa.string(), pa.string()]
        assert sluice.Client(server.url).inference_table("demand").schema.field("output").type == pa.null()


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("select * from inference_store()", r"takes a scaling group and two times"),
        ("select * from inference_store('demand', null, null, 1)", r"takes a scaling group and two times"),
        ("select * from inference_store('demand', until := now())", r"takes a scaling group and two times"),
        ("select * from inference_store('demand') with ordinality", r"takes a scaling group and two times"),
        ("select * from inference_store(null)", r"takes the name of a scaling group, .* not null"),
        ("select 1,\n2 from inference_store('demand', 'monday')", r"takes a time, as .*\(line 2\): .*\"monday\""),
        ("select * from inference_store('demand', 5)", "takes a time, as"),
        ("select * from inference_store('demand', '2026-11-02', '2026-11-01')", "which is not after 2026-11-02T00:00:00"),
        ("select * from inference_store('demand', $since)", "since"),
        ("select * from inference_store('demand', call_id)", "takes a time.*call_id"),
        ("select nothing from inference_store('demand')", '"nothing" not found'),
        ("select input.nothing from inference_store('demand')", "nothing"),
        ("select * from inference_store('elsewhere')", "There is no /v1/scaling-groups/elsewhere"),
    ],
)
def test_what_is_wrong_is_said_in_the_words_of_the_query(hour, temporary, query, message):
    with pytest.raises(sluice.SluiceError, match=message) as failed:
        run(query, hour)
    assert "__sluice" not in str(failed.value) and "LINE" not in str(failed.value)
    assert temporary() == []


def test_more_than_the_disk_holds_is_refused_before_it_is_fetched(monkeypatch, temporary):
    with serving(rows([0], [{"sqft": 1.0}], [1.0])) as server:
        server.files[0]["bytes"] = 2**60
        with pytest.raises(sluice.QueryError, match="1 files of 1073741824.0 GiB.* set TMPDIR"):
            run("select * from inference_store('demand')", server)
        assert not any("artifacts" in path for path in server.asked)
    assert temporary() == []


def test_a_terminal_is_shown_what_is_fetched_and_nothing_else_is(hour):
    command = [sys.executable, "-m", "sluice.query_command", "--", "select count(*) as n from inference_store('demand')"]
    env = {**os.environ, "SLUICE_URL": hour.url}
    terminal, stderr = os.openpty()
    ran = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=stderr, check=True)
    shown = os.read(terminal, 10_000).decode()
    os.close(terminal)
    os.close(stderr)
    lines = [line for line in re.split(r"\r\x1b\[K|\r\n", shown) if line]
    assert [re.sub(r", .*", "", line) for line in lines] == [f"inference_store('demand'): {i} of 6 files" for i in range(6)] + [
        "inference_store('demand'): 6 files"
    ]
    assert ran.stdout == b'"n"\n60\n'
    assert subprocess.run(command, env=env, capture_output=True, check=True).stderr == b""


def test_a_file_whose_retention_ended_meanwhile_is_named(hour, temporary):
    with serving(rows([0], [{"sqft": 1.0}], [1.0]), rows([5], [{"sqft": 1.0}], [1.0], 2)) as server:
        server.artifacts.pop(server.files[1]["digest"])
        said = r"the file of 1 rows from 2026-11-01T00:05:00.000Z .* of price 2, of group demand is gone"
        with pytest.raises(FileGoneError, match=said):
            run("select * from inference_store('demand')", server)
        with pytest.raises(FileGoneError, match=said):
            sluice.Client(server.url, retries=0).inference_table("demand")
    assert temporary() == []


def test_versions_with_more_columns_make_one_table_and_those_that_do_not_go_together_are_named():
    first = rows([0, 1], [{"sqft": 1.0}] * 2, [1.0, 2.0])
    second = rows([2], [{"sqft": 3.0, "city": "Delft"}], [3.0], 2)
    third = rows([3], [{"sqft": 4.0}], [{"price": 4.0}], 3)
    with serving(first, second, third) as server:
        until = "'2026-11-01T00:03:00Z'"
        cities = run(f"select input.city from inference_store('demand', null, {until}) order by time", server)
        assert cities.column(0).to_pylist() == [None, None, "Delft"]
        client = sluice.Client(server.url)
        table = client.inference_table("demand", end="2026-11-01T00:03")
        assert table["input"].to_pylist()[1:] == [{"sqft": 1.0, "city": None}, {"sqft": 3.0, "city": "Delft"}]
        with pytest.raises(sluice.QueryError, match=r"the file of \d rows.*of price \d.*give inference_store times") as failed:
            run("select output from inference_store('demand')", server)
        assert "/" not in str(failed.value)
        with pytest.raises(MixedColumnsError, match="output.*double vs struct.*inference_batches"):
            client.inference_table("demand")
        assert [batch["output"].to_pylist() for batch in client.inference_batches("demand")] == [
            [1.0, 2.0],
            [3.0],
            [{"price": 4.0}],
        ]


def test_the_client_reads_tables_and_batches(client, hour, temporary):
    table = client.inference_table("demand")
    assert table["output"].to_pylist() == [2.0 * i for i in range(60)]
    assert client.inference_table("demand", DAY + 5 * MINUTE, DAY + 25 * MINUTE).num_rows == 20
    assert client.inference_table("demand", datetime.date(2026, 11, 1), "2026-11-01T00:07")["call_id"].to_pylist()[-1] == "c6"
    assert client.inference_table("demand", datetime.datetime(2026, 11, 1, 0, 58), limit=5).num_rows == 2
    assert client.inference_table("demand", limit=13).num_rows == 13
    files = list(client.inference_files("demand", AT_30))
    assert [(one.rows, one.start) for one in files] == [(10, DAY + i * MINUTE) for i in (30, 40, 50)]
    hour.asked.clear()
    batches = client.inference_batches("demand")
    assert hour.asked == []
    assert next(batches)["call_id"][0].as_py() == "c0"
    assert len(temporary()) == 1
    batches.close()
    assert temporary() == []


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda client: client.inference_table("demand", "monday"), "start is 'monday'; it takes a datetime"),
        (lambda client: client.inference_table("demand", 5), "start is 5; it takes a datetime"),
        (lambda client: client.inference_table("demand", "2026-11-02", "2026-11-01"), "end is 2026-11-01T00:00:00.000Z"),
        (lambda client: client.inference_table("demand", limit=0), "limit is 0"),
        (lambda client: client.inference_batches("", limit=1), "group is ''"),
        (lambda client: client.set_drift("demand", reference_start=None, reference_end=AT_30), "reference_start is None"),
        (lambda client: client.set_drift("demand", reference_start=AT_30, reference_end="2026-12-01", window=0), "window is 0"),
        (lambda client: sluice.InferenceStore(sample_rate=0), "inference_store.sample_rate is 0"),
        (lambda client: sluice.InferenceStore(retention_ms=1), "inference_store.retention_ms is 1"),
        (lambda client: sluice.InferenceStore(flush_ms=0.5), "inference_store.flush_ms is 0.5"),
        (
            lambda client: client.deploy_model_version_to_scaling_group("g", model_name="m", inference_store={"rate": 1}),
            "inference_store is {'rate': 1}; it takes a sluice.InferenceStore",
        ),
    ],
)
def test_wrong_options_are_named_before_anything_is_asked(client, ask, said):
    with pytest.raises(sluice.DeclarationError, match=said):
        ask(client)
