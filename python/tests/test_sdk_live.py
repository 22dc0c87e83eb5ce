"""The client against the real server: calls, handles, chunks, failures, timeouts."""

import asyncio
import datetime
import json
import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import sluice

DEPLOYED = "live.py"

TEXTS = [f"text {i}" for i in range(23)]
TABLE = pa.table({"text": TEXTS})
UPPER = [text.upper() for text in TEXTS]


@pytest.fixture(scope="module", autouse=True)
def paused(remote):
    remote._transport.request("POST", "/v1/functions/paused_one/pause")


@pytest.fixture
def gate(tmp_path):
    """A FIFO at which a handler waits until :func:`release` opens its other end."""
    path = tmp_path / "gate"
    os.mkfifo(path)
    return str(path)


def release(gate: str) -> None:
    # Opening blocks until the handler has opened its end, so that it also says that the handler runs.
    opener = threading.Thread(target=lambda: open(gate, "w").close(), daemon=True)
    opener.start()
    opener.join(60)
    assert not opener.is_alive(), "no handler came to the gate"


def status_of(fn):
    with pytest.raises(sluice.ServerError) as caught:
        fn()
    return caught.value.code


# Plain calls


def test_a_function_takes_rows_in_every_form(remote):
    upper = remote.function("upper")
    for rows in (TABLE, TABLE.to_batches()[0], TABLE.to_reader(), {"text": TEXTS}, TEXTS, [{"text": t} for t in TEXTS]):
        assert upper(rows).to_pylist() == UPPER
    assert upper(text=TEXTS).to_pylist() == UPPER
    assert remote.function("add")([1, 2], [10, 20]).to_pylist() == [11, 22]
    assert remote.function("add")(right=[1, 2], left=[10, 20]).to_pylist() == [11, 22]
    assert remote.function("describe")([{"b": 1, "a": [None]}]).to_pylist() == ['{"keys":["a","b"]}']
    assert remote.function("measure")(pa.table({"x": [1], "y": [True]})).to_pylist() == [2]


def test_an_error_tells_a_caller_of_python_what_to_do(remote):
    with pytest.raises(sluice.ServerError) as caught:
        remote.function("upper")(pa.table({"txt": ["a"]}))
    assert str(caught.value) == (
        'column "txt" is no input of the function; its inputs are "text" utf8 not null (schema_mismatch)'
    )
    handle = remote.function("upper").defer_batch(["a"], idempotency_key="one")
    handle.get()
    with pytest.raises(sluice.ServerError) as caught:
        remote.function("upper").defer_batch(["b"], idempotency_key="one")
    assert str(caught.value).count("use a new key") + str(caught.value).count("Use a new key") == 1


def test_a_frame_of_whole_numbers_calls_a_function_of_floats(remote):
    numbers = pd.DataFrame({"left": np.array([1, 2], np.int32), "right": [3, 2**40]})
    assert remote.function("add")(numbers).to_pylist() == [4, 2 + 2**40]
    assert remote.function("halve")(pd.DataFrame({"x": [1, 2]})).to_pylist() == [0.5, 1.0]
    result = remote.function("halve", is_async=True).chunked_call(pd.DataFrame({"x": range(9)}), chunk_size=2)
    assert result["result"].to_pylist() == [n / 2 for n in range(9)]
    with pytest.raises(sluice.ServerError, match='column "x" is int64, which does not cast to float64 without loss'):
        remote.function("halve")(pd.DataFrame({"x": [2**53 + 1]}))


def test_results_come_in_the_type_that_was_asked_for(remote):
    assert remote.function("widen")(["ab"]).type == pa.list_(pa.float64())
    asked = pa.large_list(pa.float32())
    got = remote.function("widen", output_type=asked)(["ab"])
    assert (got.type, got.to_pylist()) == (asked, [[2.0, 0.5]])
    keys = remote.function("describe", output_type=pa.struct([("keys", pa.list_(pa.string()))]))
    assert keys([{"a": 1}]).to_pylist() == [{"keys": ["a"]}]


def test_a_call_with_failed_rows_carries_errors_and_partial_results(remote):
    with pytest.raises(sluice.CallFailedError) as caught:
        remote.function("half")([2, 3, 4])
    error = caught.value
    assert error.partial.to_pylist() == [1.0, None, 2.0]
    assert error.errors == {1: {"code": "row_error", "kind": "RowError", "message": "3 is odd"}}
    assert error.code == "row_error"
    assert f"1 of 3 rows of call {error.call_id} failed; row 1: RowError: 3 is odd (row_error)" == str(error)
    assert pickle.loads(pickle.dumps(error)).errors == error.errors


def test_only_the_guilty_row_fails_when_a_handler_raises(remote):
    with pytest.raises(sluice.CallFailedError) as caught:
        remote.function("picky")(list(range(20)))
    assert list(caught.value.errors) == [13]
    assert caught.value.errors[13]["kind"] == "ValueError"
    assert "live.py" in caught.value.errors[13]["traceback"]
    assert [n for n in caught.value.partial.to_pylist() if n is not None] == [n for n in range(20) if n != 13]


def test_a_handler_that_hangs_is_a_failed_row(remote, gate):
    with pytest.raises(sluice.CallFailedError) as caught:
        remote.function("hang")([gate])
    assert caught.value.errors[0]["code"] == "call_timeout"


def test_wrong_calls_say_why(remote):
    assert status_of(lambda: remote.function("nowhere")(TABLE)) == "function_not_found"
    assert status_of(lambda: remote.function("upper")(pa.table({"txt": ["a"]}))) == "schema_mismatch"
    assert status_of(lambda: remote.function("upper")(pa.table({"text": [1]}))) == "schema_mismatch"
    assert status_of(lambda: remote.call("nocall").status()) == "call_not_found"
    assert status_of(lambda: remote.function("upper").defer_batch(TABLE, priority=1000)) == "invalid_request"
    with pytest.raises(TypeError, match="upper was made with is_async=True"):
        remote.function("upper", is_async=True)(TABLE)
    with pytest.raises(ValueError, match="output_type is 'string'"):
        remote.function("upper", output_type="string")


# Handles


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"deadline": -1}, "deadline is -1; it takes seconds from now"),
        ({"deadline": float("inf")}, "deadline is inf; it takes seconds from now"),
        ({"metadata": "abc"}, "metadata is 'abc'; it takes a dict"),
        ({"lane": "a\r\nx: y"}, "it takes a text without control characters"),
    ],
)
def test_wrong_options_are_named(remote, options, message):
    with pytest.raises(ValueError, match=message):
        remote.function("upper").defer_batch(["a"], **options)


def test_lanes_have_any_letters(remote):
    lanes = ["l\u00e9", "l\u00e0", "\u4e2d\u6587"]
    calls = [remote.function("upper").defer_batch(["a"], lane=lane) for lane in lanes]
    assert [call.show()["lane"] for call in calls] == lanes


def test_a_handle_gives_the_results_again_and_again(remote):
    handle = remote.function("upper", is_async=True).defer_batch(TABLE)
    got = handle.get(timeout=30)
    assert isinstance(got, pa.Array)
    assert got.to_pylist() == UPPER
    assert handle.get().to_pylist() == UPPER
    assert handle.status() == "completed"
    assert handle.done()
    assert handle.show()["counts"]["ok"] == len(TEXTS)


def test_a_handle_lives_on_after_a_timeout(remote, gate):
    handle = remote.function("wait_at", is_async=True).defer_batch([gate])
    with pytest.raises(sluice.TimeoutError) as caught:
        handle.get(timeout=0)
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.call_id == handle.call_id
    assert handle.status() in ("pending", "running")
    release(gate)
    assert handle.get(timeout=30).to_pylist() == [gate]


def test_a_plain_call_with_a_timeout_leaves_the_call_alive(remote, gate):
    with pytest.raises(sluice.TimeoutError) as caught:
        remote.function("wait_at").call([gate], timeout=0)
    release(gate)
    assert remote.call(caught.value.call_id).get(timeout=30).to_pylist() == [gate]


def test_a_handle_is_rebuilt_in_another_process(remote, server, gate):
    handle = remote.function("wait_at", is_async=True).defer_batch([gate])
    program = "import sys, sluice; print(sluice.Remote().call(sys.argv[1]).get(timeout=30).to_pylist())"
    other = subprocess.Popen(
        [sys.executable, "-c", program, handle.call_id],
        env={**os.environ, "SLUICE_URL": server.url},
        stdout=subprocess.PIPE,
        text=True,
    )
    release(gate)
    assert other.communicate(timeout=60)[0].strip() == str([gate])
    assert pickle.loads(pickle.dumps(remote.function("upper")))(["a"]).to_pylist() == ["A"]


def test_handles_can_be_awaited(remote):
    upper = remote.function("upper", is_async=True)

    async def all_of_them():
        handles = [upper.defer_batch([str(i), f"{i}x"]) for i in range(30)]
        return await asyncio.gather(*handles)

    assert [got.to_pylist() for got in asyncio.run(all_of_them())] == [[str(i), f"{i}X"] for i in range(30)]

    async def failing():
        await remote.function("half").defer_batch([1])

    with pytest.raises(sluice.CallFailedError):
        asyncio.run(failing())


FORKED = """
import asyncio, multiprocessing, sluice

upper = sluice.Remote().function("upper")

async def awaited(text):
    return (await upper.defer_batch([text])).to_pylist()

def asked(text):
    return upper([text]).to_pylist() + asyncio.run(awaited(text))

asked("warm")
texts = [f"text {i}" for i in range(100)]
with multiprocessing.get_context("fork").Pool(4) as pool:
    got = pool.map(asked, texts, chunksize=1)
print(got == [[text.upper()] * 2 for text in texts], asked("after"))
"""


def test_processes_that_fork_get_their_own_results(server, remote):
    env = {**os.environ, "SLUICE_URL": server.url}
    ran = subprocess.run([sys.executable, "-c", FORKED], env=env, stdout=subprocess.PIPE, text=True, timeout=60)
    assert ran.stdout == "True ['AFTER', 'AFTER']\n"


def test_cancelled_calls_say_so(remote):
    paused = remote.function("paused_one", is_async=True)
    handle = paused.defer_batch(["a", "b"])
    assert handle.status() == "pending"
    assert handle.cancel() == "cancelled"
    assert handle.cancel() == "cancelled"
    assert handle.status() == "cancelled"
    with pytest.raises(sluice.CallFailedError) as caught:
        handle.get(timeout=30)
    assert {row: error["code"] for row, error in caught.value.errors.items()} == {0: "row_cancelled", 1: "row_cancelled"}
    assert caught.value.partial.null_count == 2


def test_a_deadline_expires_rows_that_have_not_started(remote):
    handle = remote.function("paused_one").defer_batch(["a"], deadline=0.05)
    with pytest.raises(sluice.CallFailedError) as caught:
        handle.get(timeout=30)
    assert caught.value.errors[0]["code"] == "row_expired"
    assert handle.status() == "expired"


def test_the_same_idempotency_key_is_the_same_call(remote):
    upper = remote.function("upper")
    first = upper.defer_batch(TABLE, idempotency_key="key-1")
    assert upper.defer_batch(TABLE, idempotency_key="key-1").call_id == first.call_id
    assert upper.defer_batch(TABLE).call_id != first.call_id
    assert status_of(lambda: upper.defer_batch(["other"], idempotency_key="key-1")) == "idempotency_mismatch"


def test_metadata_reaches_the_handler(remote):
    function = remote.function("context_of")
    assert function.call(["a", "b"], metadata={"who": "Zoë"}).to_pylist() == ["Zoë", "Zoë"]


def test_partial_results_of_an_unfinished_call(remote):
    handle = remote.function("paused_one").defer_batch(["a"])
    assert handle.partial().errors[0]["code"] == "row_unfinished"
    handle.cancel()


# Chunks


@pytest.mark.parametrize("cut", [{"chunk_size": 5}, {"chunk_size": 100}, {"num_chunks": 7}, {"num_chunks": 100}])
def test_chunks_are_joined_in_row_order(remote, cut):
    got = remote.function("upper", is_async=True).chunked_call(TABLE, **cut, concurrent_chunks=3, timeout=30)
    assert got.column_names == ["result"]
    assert got.column("result").to_pylist() == UPPER


def test_chunks_take_what_a_call_takes(remote):
    assert remote.function("upper").chunked_call({"text": TEXTS}, chunk_size=4).column("result").to_pylist() == UPPER


def test_exactly_as_many_chunks_as_asked_for(remote):
    before = calls_of(remote, "widen")
    remote.function("widen").chunked_call(TABLE, num_chunks=4)
    new = [call for call in calls_of(remote, "widen") if call["call_id"] not in {c["call_id"] for c in before}]
    assert sorted(call["rows"] for call in new) == [5, 6, 6, 6]


def calls_of(remote, name):
    return remote._transport.request("GET", f"/v1/calls?function={name}&limit=100").json()["calls"]


def test_what_chunks_have_read_is_kept_for_minutes_only(remote):
    def kept(call):
        times = [datetime.datetime.fromisoformat(call[name].replace("Z", "+00:00")) for name in ("finished_at", "expires_at")]
        return times[1] - times[0]

    handle = remote.function("widen").defer_batch(TABLE)
    handle.get()
    before = {call["call_id"] for call in calls_of(remote, "widen")}
    remote.function("widen").chunked_call(TABLE, num_chunks=3)
    new = [call for call in calls_of(remote, "widen") if call["call_id"] not in before]
    assert len(new) == 3
    assert all(kept(call) < datetime.timedelta(hours=1) for call in new)
    assert kept(handle.show()) > datetime.timedelta(hours=1)


@pytest.mark.parametrize("on_error", ["raise", "null"])
def test_empty_tables_work(remote, on_error):
    asked = pa.large_list(pa.float32())
    empty = pa.table({"text": pa.array([], pa.string())})
    got = remote.function("widen", output_type=asked).chunked_call(empty, num_chunks=3, on_error=on_error)
    columns = ["result"] if on_error == "raise" else ["result", "error"]
    assert (got.num_rows, got.column_names, got.schema.field("result").type) == (0, columns, asked)
    assert remote.function("upper")([]).to_pylist() == []


def test_a_failed_chunk_names_itself_its_rows_and_the_cause(remote):
    with pytest.raises(sluice.ChunkFailedError) as caught:
        remote.function("picky").chunked_call({"n": list(range(20))}, chunk_size=5, concurrent_chunks=1)
    error = caught.value
    assert (error.chunk, error.from_row, error.to_row) == (2, 10, 15)
    assert isinstance(error.cause, sluice.CallFailedError)
    assert error.cause.errors[3]["message"] == "13 is not allowed"
    text = f"1 of 5 rows of call {error.cause.call_id} failed; row 13: ValueError: 13 is not allowed (handler_error)"
    assert str(error) == f"Chunk 2 (rows 10 to 14) failed: {text}"


def test_a_failed_chunk_cancels_what_is_in_flight(remote, gate, tmp_path):
    running = str(tmp_path / "running")
    os.mkfifo(running)
    while remote.function("relay").show()["replicas"][0]["ready"] < 2:  # one for each chunk
        pass
    # The second chunk says that it runs, which lets the first fail, and then waits at the gate.
    rows = {"step": [f"fail {running}", f"wait {running} {gate}", "never sent"]}
    with pytest.raises(sluice.ChunkFailedError) as caught:
        remote.function("relay").chunked_call(rows, chunk_size=1, concurrent_chunks=2, timeout=60)
    assert (caught.value.chunk, caught.value.cause.errors[0]["message"]) == (0, "as told")
    assert sorted(call["status"] for call in calls_of(remote, "relay")) == ["cancelled", "failed"]
    release(gate)


def test_null_for_the_rows_that_failed_and_only_for_them(remote):
    rows = {"n": list(range(40))}
    got = remote.function("picky").chunked_call(rows, chunk_size=8, on_error="null")
    assert got.column_names == ["result", "error"]
    assert got.column("result").to_pylist() == [None if n == 13 else n for n in range(40)]
    errors = got.column("error").to_pylist()
    assert [row for row, error in enumerate(errors) if error is not None] == [13]
    assert "13 is not allowed" in errors[13]


def test_a_refused_row_is_named_or_null(remote):
    ints = pa.table({"n": [1, 2, 3, None, 5, 6, None]})
    with pytest.raises(sluice.ChunkFailedError) as caught:
        remote.function("picky").chunked_call(ints, chunk_size=2, concurrent_chunks=1)
    assert str(caught.value).startswith('Chunk 1 (rows 2 to 3) failed: column "n" is not nullable, but row 3 is null')
    got = remote.function("picky").chunked_call(ints, chunk_size=6, on_error="null")
    assert got.column("result").to_pylist() == [1, 2, 3, None, 5, 6, None]
    errors = got.column("error").to_pylist()
    assert [row for row, error in enumerate(errors) if error is not None] == [3, 6]
    assert json.loads(errors[6]) == {
        "code": "schema_mismatch",
        "message": 'column "n" is not nullable, but row 6 is null',
    }


def test_null_for_a_chunk_that_is_too_late(remote):
    got = remote.function("paused_one").chunked_call({"text": ["a", "b"]}, chunk_size=1, timeout=0.05, on_error="null")
    assert got.column("result").to_pylist() == [None, None]
    assert all("not finished after 0.05 s" in error for error in got.column("error").to_pylist())


def test_a_chunk_that_is_too_late_raises(remote):
    with pytest.raises(sluice.ChunkFailedError) as caught:
        remote.function("paused_one").chunked_call({"text": ["a", "b"]}, chunk_size=1, timeout=0.05)
    assert isinstance(caught.value.cause, sluice.TimeoutError)
    call_id = caught.value.cause.call_id
    assert str(caught.value).endswith(f"failed: its call {call_id} was not finished after 0.05 s and was cancelled")
    assert remote.call(call_id).status() == "cancelled"


def test_no_more_than_concurrent_chunks_are_in_flight(remote, tmp_path):
    gates = [str(tmp_path / f"gate-{i}") for i in range(6)]
    in_flight = []

    def count_and_open(gate):
        with open(gate, "w"):  # the handler waits at it, so its call is in flight
            in_flight.append(len([c for c in calls_of(remote, "wait_at") if c["status"] in ("pending", "running")]))

    for gate in gates:
        os.mkfifo(gate)
        threading.Thread(target=count_and_open, args=(gate,), daemon=True).start()
    got = remote.function("wait_at").chunked_call({"gate": gates}, chunk_size=1, concurrent_chunks=2, timeout=60)
    assert got.column("result").to_pylist() == gates
    assert len(in_flight) == 6
    assert max(in_flight) <= 2


def test_progress_shows_a_bar_only_when_asked_for(remote, capsys):
    remote.function("upper").chunked_call(TABLE, chunk_size=5)
    assert capsys.readouterr().err == ""
    remote.function("upper").chunked_call(TABLE, chunk_size=5, progress=True)
    assert "23.0/23.0" in capsys.readouterr().err


# Deploys


def test_deploying_again_changes_nothing(remote, server):
    from pathlib import Path

    file = Path(__file__).parent / "handlers" / "live.py"
    before = remote.function("upper").show()["version"]
    names = [function["name"] for function in sluice.deploy(file, url=server.url)]
    assert "upper" in names
    assert remote.function("upper").show()["version"] == before
    assert "upper" in [function["name"] for function in remote.functions()]


def test_a_file_that_cannot_be_imported_says_why(server, tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("import sluice\n\nprint('noise')\nraise RuntimeError('no luck')\n")
    with pytest.raises(sluice.DeclarationError, match="RuntimeError: no luck"):
        sluice.deploy(broken, url=server.url)
    wrong = tmp_path / "wrong.py"
    wrong.write_text("import sluice\n\n@sluice.function(cpu='two')\ndef f(x: list[int]) -> list[int]:\n    return x\n")
    with pytest.raises(sluice.DeclarationError, match="function f: cpu is 'two'; it takes a number"):
        sluice.deploy(wrong, url=server.url)
