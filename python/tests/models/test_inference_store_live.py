"""The inference store of a real scaling group, as the client and SQL read it, and drift."""

import datetime

import classes
import pyarrow as pa
import pytest
import sluice
from sluice import InferenceStore

X = {"x": float}
Y = {"y": float}
ROWS = pa.table({"x": [1.0, 2.0, 3.0]})
SOON = InferenceStore(flush_ms=100)
LOOKS_MAX = 20_000
"""Each of them is a request: some tens of seconds."""


def until(look, is_there):
    """The first look that has what is waited for."""
    for _ in range(LOOKS_MAX):
        found = look()
        if is_there(found):
            return found
    raise AssertionError(f"not there after {LOOKS_MAX} looks: {found}")


def files_with(client, group, rows):
    return until(lambda: list(client.inference_files(group)), lambda files: sum(file.rows for file in files) >= rows)


def test_what_a_group_answered_is_read_called_again_and_compared(client, deploy):
    begun = datetime.datetime.now(datetime.timezone.utc)
    group = deploy(classes.Scaled(factor=2.0), X, Y, inference_store=SOON)
    assert group.document["inference_store"] == {"sample_rate": 1, "retention_ms": 7 * 86_400_000, "flush_ms": 100}
    call = client.function(group.name, is_async=True).defer_batch(ROWS)
    assert call.get().to_pylist() == [2.0, 4.0, 6.0]
    files_with(client, group.name, 3)
    table = client.inference_table(group.name, begun)
    assert table["input"].to_pylist() == [{"x": 1.0}, {"x": 2.0}, {"x": 3.0}]
    assert (table["output"].to_pylist(), table["row"].to_pylist()) == ([2.0, 4.0, 6.0], [0, 1, 2])
    assert set(table["call_id"].to_pylist()) == {call.call_id}
    constant = table.select(["model", "model_version", "status", "error_code"]).to_pylist()
    assert constant == [{"model": group.model, "model_version": 1, "status": "ok", "error_code": None}] * 3
    assert table.schema.field("time").type == pa.timestamp("ms", "UTC")
    assert client.inference_table(group.name, end=begun).num_rows == 0

    deploy(classes.Scaled(factor=3.0), X, Y)
    query = f"""
        select input.x, output, catalog_call('{group.function}', input.x) as now
        from inference_store('{group.name}', $begun) where status = 'ok' and output > 2 order by output
    """
    compared = sluice.sql(query, url=client.url, params={"begun": begun})
    assert compared.to_pylist() == [{"x": 2.0, "output": 4.0, "now": 6.0}, {"x": 3.0, "output": 6.0, "now": 9.0}]
    # The second version has no store: what was kept stays.
    assert client.scaling_group(group.name).document["inference_store"] is None
    assert client.inference_table(group.name, limit=2).num_rows == 2


def test_drift_is_set_computed_and_ended(client, deploy):
    group = deploy(classes.Scaled(factor=2.0), X, Y, inference_store={"flush_ms": 100})
    begun = datetime.datetime.now(datetime.timezone.utc)
    client.function(group.name)(ROWS)
    (file, *_) = files_with(client, group.name, 3)
    reference = {"reference_start": begun, "reference_end": file.end + datetime.timedelta(milliseconds=1)}
    drift = client.set_drift(group.name, **reference, window=3600)
    assert (drift.window, drift.reference_end) == (datetime.timedelta(hours=1), reference["reference_end"])
    found = until(lambda: client.drift(group.name), lambda drift: drift.at is not None)
    assert (found.reference_rows, found.window_rows, found.reason) == (3, 3, None)
    assert {one.column: (one.psi, one.ks) for one in found.columns} == {"input.x": (0.0, 0.0), "output": (0.0, 0.0)}
    client.end_drift(group.name)
    with pytest.raises(sluice.ServerError) as caught:
        client.drift(group.name)
    assert caught.value.code == "drift_not_found"


def test_a_group_without_a_store_is_empty_and_an_unknown_one_is_named(client, deploy):
    group = deploy(classes.Scaled(factor=2.0), X, Y)
    client.function(group.name)(ROWS)
    assert client.inference_table(group.name).schema.field("input").type == pa.struct([("x", pa.float64())])
    empty = sluice.sql(f"select avg(input.x) as x, count(*) as n from inference_store('{group.name}')", url=client.url)
    assert empty.to_pylist() == [{"x": None, "n": 0}]
    for ask in (
        lambda: client.inference_table("nowhere"),
        lambda: sluice.sql("select * from inference_store('nowhere')", url=client.url),
    ):
        with pytest.raises(sluice.ServerError, match="nowhere") as caught:
            ask()
        assert caught.value.code == "scaling_group_not_found"
    with pytest.raises(sluice.ServerError, match="no sampled rows") as refused:
        client.set_drift(group.name, reference_start="2026-01-01", reference_end="2026-01-02")
    assert refused.value.code == "invalid_drift"
