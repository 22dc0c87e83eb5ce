"""Batches that are read and decoded while the body runs."""

from __future__ import annotations

import json
import os
import queue
import socket
import struct
import threading

import pyarrow as pa
import pytest
from sluice.worker.batches import Batches
from sluice.worker.channel import Channel

LONG = """
import threading, sluice

@sluice.function()
def f(x: list[int]) -> list[bool]:
    print("runs", x[0], flush=True)
    threading.Event().wait(0.006)
    # These answer when the thread has done its part: the batch behind is decoded, or its cancel is read.
    while x[0] == 9 and batches()._ahead.qsize() == 0: threading.Event().wait(0.001)
    while x[0] == 8 and not batches()._cancelled: threading.Event().wait(0.001)
    return [any(thread.name == "sluice-read-ahead" for thread in threading.enumerate())] * len(x)

def batches():
    import gc
    from sluice.worker.batches import Batches
    return next(one for one in gc.get_objects() if isinstance(one, Batches))
"""


@pytest.fixture
def worker(start):
    """After three long runs."""
    worker = start(LONG)
    assert [worker.rows(x=[n]) for n in range(4)] == [[False], [False], [False], [True]]
    return worker


def test_a_short_body_needs_no_thread(start):
    worker = start(LONG.replace("0.006", "0"))
    assert [worker.rows(x=[1]) for _ in range(5)] == [[False]] * 5


def test_the_next_batch_is_decoded_while_the_body_runs(worker):
    table = pa.table({"x": [9]})
    worker.start(table)
    worker.start(pa.table({"x": [1, 2]}))
    assert [worker.receive()[0]["rows"] for _ in range(2)] == [1, 2]


def test_a_batch_that_is_cancelled_while_it_waits_does_not_start(worker):
    worker.start(pa.table({"x": [8]}))
    waiting = worker.start(pa.table({"x": [6]}))
    worker.send({"type": "cancel", "id": waiting})
    worker.start(pa.table({"x": [7]}))
    assert [worker.receive()[0]["type"] for _ in range(3)] == ["result", "error", "result"]
    worker.send({"type": "stop"})
    out, _ = worker.process.communicate(timeout=60)
    assert out.decode().splitlines()[-2:] == ["runs 8", "runs 7"]
    assert worker.process.returncode == 0


def test_batches_that_are_taken_back_while_they_wait_do_not_start(start, tmp_path):
    """Wherever they wait: decoded, in the thread's hands, or in the socket, in front of whatever is sent now."""
    os.mkfifo(tmp_path / "gate")
    worker = start(LONG.replace("    # These", '    if x[0] == 3: open("gate").read()\n    # These'))
    for n in (0, 1, 2, 9):  # the last ends when the thread has decoded the one behind it
        worker.start(pa.table({"x": [n]}))
    running = worker.start(pa.table({"x": [3]}))
    assert [worker.receive()[0]["id"] for _ in range(4)] == [1, 2, 3, 4]
    while worker.process.stdout.readline() != b"runs 3\n":
        pass
    waiting = [worker.start(pa.table({"x": [6]})) for _ in range(5)]
    assert worker.withdraw(waiting[0], waiting[-2]) == running
    (tmp_path / "gate").write_text("x")
    assert [worker.receive()[0]["id"] for _ in range(2)] == [running, waiting[-1]]
    assert worker.withdraw(running, waiting[-1]) == waiting[-1]
    assert worker.rows(x=[7]) == [True]
    worker.send({"type": "stop"})
    out, _ = worker.process.communicate(timeout=60)
    assert out.decode().splitlines()[-2:] == ["runs 6", "runs 7"]


def send(ours, batch):
    text = json.dumps({"type": "call", "id": batch, "rows": 1, "parts": []}).encode()
    ours.sendall(struct.pack("<II", 4 + len(text), len(text)) + text)


def readers():
    return [thread for thread in threading.enumerate() if thread.name == "sluice-read-ahead"]


def test_the_thread_goes_when_bodies_are_short_again_and_comes_back():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        batches = Batches(Channel(theirs), lambda header, _: {})
        before = len(readers())
        taken = 0

        def run(times, seconds):
            nonlocal taken
            for _ in range(times):
                taken += 1
                send(ours, taken)
                assert batches.next().header["id"] == taken
                batches.ran(seconds)

        run(3, 1)
        (reader,) = readers()[before:]
        run(29, 0)
        run(1, 1)
        run(30, 0)
        assert reader.is_alive()
        run(1, 0)
        reader.join(timeout=60)
        assert not reader.is_alive()
        run(2, 1)
        assert len(readers()) == before
        run(1, 1)
        assert len(readers()) == before + 1
        ours.shutdown(socket.SHUT_WR)
        with pytest.raises(EOFError):
            batches.next()


def test_a_system_without_another_thread_reads_between_the_bodies(monkeypatch):
    def start(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        batches = Batches(Channel(theirs), lambda header, _: {})
        for batch in range(1, 6):
            send(ours, batch)
            assert batches.next().header["id"] == batch
            batches.ran(1)


def test_only_a_few_batches_are_decoded_ahead():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for batch in range(1, 41):
            send(ours, batch)
        decoded = queue.SimpleQueue()
        batches = Batches(Channel(theirs), lambda header, _: decoded.put(header["id"]) or {})
        for _ in range(3):
            batches.next()
            batches.ran(1)
        assert [decoded.get(timeout=60) for _ in range(3)] == [4, 5, 6]
        for batch in range(4, 41):
            # The thread waits with a third; each that is taken lets it go on by one.
            assert decoded.qsize() <= 1
            assert batches.next().header["id"] == batch
            if batch + 3 <= 40:
                assert decoded.get(timeout=60) == batch + 3


def test_what_does_not_decode_fails_its_batch_alone(worker):
    worker.start(pa.table({"x": [5]}))
    worker.start(pa.table({"x": ["no number"]}))
    worker.start(pa.table({"x": [7]}))
    first, second, third = (worker.receive()[0] for _ in range(3))
    assert [first["type"], second["type"], third["type"]] == ["result", "error", "result"]
    assert "does not cast from string to int64" in second["error"]["message"]


def test_batches_keep_their_order(worker):
    sizes = [1, 3, 0, 40_000, 2, 7]
    for size in sizes:
        worker.start(pa.table({"x": pa.array([5] * size, pa.int64())}))
    answers = [worker.receive()[0] for _ in sizes]
    assert [one["rows"] for one in answers] == sizes
    assert [one["id"] for one in answers] == list(range(5, 5 + len(sizes)))


def test_a_host_that_is_gone_ends_it(worker):
    worker.socket.close()
    worker.process.communicate(timeout=60)
    assert worker.process.returncode == 0
