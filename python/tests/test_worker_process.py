"""The life of a handler process: start, prefetch, cancel, stop, and the end of its host."""

from __future__ import annotations

import json
import random
import struct
import subprocess
import sys
import threading
from typing import Any

import pyarrow as pa
import pytest
from worker_host import column, stream


def ended(worker) -> tuple[int, str, str]:
    out, err = worker.process.communicate(timeout=60)
    return worker.process.returncode, out.decode(), err.decode()


BODY = """
@sluice.function()
def f(x: list[int]) -> list[int]: return x
"""


def test_ready_says_who_it_is(begin):
    worker = begin("import sluice" + BODY)
    header, _ = worker.receive()
    assert header == {"type": "ready", "pid": worker.process.pid, "wants_context": False}


def test_the_context(start, begin):
    worker = begin("""
import sluice
@sluice.function(name="named")
def f(x: list[int], context: sluice.Context) -> list[str]:
    c = context
    return [str((c.function, c.version, c.batch_id, c.attempt, c.deadline.isoformat(), c.traceparent, c.calls))] * len(x)
""")
    assert worker.receive()[0]["wants_context"] is True
    calls = [{"call_id": "a", "rows": 1, "metadata": {"k": "v"}}, {"call_id": "b", "rows": 1, "metadata": {}}]
    header, found = worker.call(
        pa.table({"x": [1, 2]}), batch=7, attempt=3, calls=calls, deadline_ms=1_000, traceparent="00-1-2-01"
    )
    assert found[0].as_py() == (
        "('named', 'v1', 7, 3, '1970-01-01T00:00:01+00:00', '00-1-2-01', "
        "(CallContext(call_id='a', rows=1, metadata={'k': 'v'}), CallContext(call_id='b', rows=1, metadata={})))"
    )


ONLY_IN_A_WORKER = "import sluice, sys\nif 'sluice.worker' in sys.modules: "
"""The manifest, which imports the file as well, does not fail."""


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (ONLY_IN_A_WORKER + "import nothing_like_this" + BODY, "ModuleNotFoundError", "nothing_like_this"),
        (ONLY_IN_A_WORKER + "sys.exit('not here')" + BODY, "SystemExit", "not here"),
        ("import sluice" + BODY.replace("()", "(on_startup=lambda: 1 / 0)", 1), "ZeroDivisionError", "division"),
    ],
    ids=["import", "exit", "startup"],
)
def test_a_start_that_fails_says_why(begin, code, kind, words):
    worker = begin(code)
    header, _ = worker.receive()
    assert header["type"] == "start_failed"
    assert header["error"]["kind"] == kind
    assert words in header["error"]["message"]
    assert "sluice/" not in header["error"]["traceback"]
    assert ended(worker)[0] == 1


def test_hooks_run_once_and_share_the_loop(begin):
    worker = begin("""
import asyncio, sluice
async def up():
    global loop
    loop = asyncio.get_running_loop()
    print("up")
async def down(): print("down")
@sluice.function(on_startup=up, on_shutdown=down)
async def f(x: list[int]) -> list[bool]:
    return [asyncio.get_running_loop() is loop] * len(x)
""")
    worker.ready()
    assert worker.rows(x=[1]) == [True]
    assert worker.rows(x=[1, 2]) == [True, True]
    worker.send({"type": "stop"})
    assert ended(worker) == (0, "up\ndown\n", "")


def test_output_arrives_line_by_line(start):
    worker = start("""
import os, subprocess, sys, sluice
@sluice.function()
def f(x: list[int]) -> list[int]:
    print("line")
    print("error", file=sys.stderr)
    subprocess.run(["echo", "child"])
    assert sys.stdin.read() == ""
    return x
""")
    assert worker.rows(x=[1]) == [1]
    assert worker.process.stdout.readline() == b"line\n"
    assert worker.process.stdout.readline() == b"child\n"
    assert worker.process.stderr.readline() == b"error\n"


def test_prefetched_batches_run_in_order(start):
    worker = start("import sluice" + BODY)
    for at in range(300):
        worker.start(pa.table({"x": list(range(at % 100))}))
    for at in range(300):
        header, body = worker.receive()
        assert (header["id"], header["rows"]) == (at + 1, at % 100)


def test_frames_arrive_in_any_pieces(start):
    """Small and large batches through one socket, cut anywhere; the seed is in the assertion."""
    seed = random.randrange(2**32)
    draw = random.Random(seed)
    worker = start("import sluice" + BODY)
    batches = [[draw.randrange(9)] * draw.choice((0, 1, 10, 40_000, 100_000)) for _ in range(40)]
    everything = b"".join(frame_of(at, batch) for at, batch in enumerate(batches))

    def write() -> None:
        at = 0
        while at < len(everything):
            count = draw.choice((1, 7, 8, 9, 1000, 262_143, 262_144, 1_000_000))
            worker.socket.sendall(everything[at : at + count])
            at += count

    writer = threading.Thread(target=write)
    writer.start()
    for at, batch in enumerate(batches):
        header, body = worker.receive()
        assert (header["id"], header["type"], header["rows"]) == (at, "result", len(batch)), seed
        assert column(body).to_pylist() == batch, seed
    writer.join()


def frame_of(batch: int, values: list[int]) -> bytes:
    part = stream(pa.table({"x": pa.array(values, pa.int64())}))
    head = {"type": "call", "id": batch, "batch": 1, "attempt": 1, "rows": len(values), "parts": [len(part)], "calls": []}
    return framed(head, part)


def framed(header: dict[str, Any], body: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<II", 4 + len(text) + len(body), len(text)) + text + body


def test_a_cancelled_batch_does_not_start(start):
    worker = start("""
import sluice
@sluice.function()
def f(x: list[int]) -> list[int]:
    print("runs", x, flush=True)
    return x
""")
    # Call and cancel in one write, so that both have arrived when the process looks.
    worker.socket.sendall(frame_of(1, [1]) + framed({"type": "cancel", "id": 1}) + frame_of(2, [1]))
    first, second = worker.receive()[0], worker.receive()[0]
    assert (first["id"], first["type"], second["id"], second["type"]) == (1, "error", 2, "result")
    worker.send({"type": "stop"})
    assert ended(worker)[1] == "runs [1]\n"


def test_a_host_that_is_gone_ends_a_busy_handler(start):
    worker = start("""
import threading, sluice
@sluice.function()
def f(x: list[int]) -> list[int]:
    print("busy", flush=True)
    threading.Event().wait()
""")
    worker.start(pa.table({"x": [1]}))
    assert worker.process.stdout.readline() == b"busy\n"
    worker.socket.close()
    assert ended(worker)[0] == 0


def test_a_host_that_is_gone_ends_an_idle_handler(start):
    worker = start("import sluice" + BODY)
    worker.socket.close()
    assert ended(worker)[0] == 0


def test_children_do_not_hold_the_socket(start):
    worker = start("""
import multiprocessing, os, subprocess, sluice
def child(queue): queue.put(subprocess.run(["ls", "-l", f"/proc/{os.getpid()}/fd"], capture_output=True, text=True).stdout)
@sluice.function()
def f(x: list[str]) -> list[str]:
    if x[0] == "exec":
        told = subprocess.run(["ls", "-l", "/proc/self/fd"], capture_output=True, text=True, close_fds=False).stdout
        return [told]
    context = multiprocessing.get_context(x[0])
    queue = context.SimpleQueue()
    process = context.Process(target=child, args=(queue,))
    process.start()
    try: return [queue.get()]
    finally: process.join()
""")
    for way in ("exec", "fork", "spawn"):
        assert "socket" not in worker.rows(x=[way])[0], way


def test_the_processs_own_modules_are_found_beside_it(start, tmp_path):
    (tmp_path / "beside.py").write_text("def g(x): return x + 1\n")
    worker = start("""
import beside, sluice
@sluice.function()
def f(x: list[int]) -> list[int]:
    import handlers
    assert handlers.f.body.__module__ == "handlers"
    return [beside.g(v) for v in x]
""")
    assert worker.rows(x=[1]) == [2]


@pytest.mark.parametrize("file", ["my-handlers.py", "2nd.py", "sluice_.py"])
def test_files_that_no_import_could_name(start, file):
    worker = start("import sluice" + BODY, file=file)
    assert worker.rows(x=[1]) == [1]


def test_frames_out_of_step_end_the_process(start):
    worker = start("import sluice" + BODY)
    worker.socket.sendall(b"\xff" * 64)
    assert ended(worker)[0] == 0


def test_by_hand_it_says_who_starts_it():
    told = subprocess.run([sys.executable, "-m", "sluice.worker"], capture_output=True, text=True, timeout=60)
    assert told.returncode == 2
    assert "started by the server" in told.stderr


def test_the_worker_loads_nothing_of_the_client():
    code = "import sys, sluice.worker.process, sluice.worker.running, sluice.declaration; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"urllib3", "tqdm", "asyncio", "ssl", "http.client", "sluice.remote"}.intersection(told)
