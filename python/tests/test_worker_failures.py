"""Handlers that fail, through a real handler process: each failure is its batch's answer, and the next batch runs."""

from __future__ import annotations

import pyarrow as pa
import pytest

FAILING = """
import sys, sluice
class Odd(ValueError):
    def __str__(self): raise RuntimeError("no text")
class Unpicklable(Exception):
    def __init__(self, a, b): super().__init__("two"); self.lock = __import__("threading").Lock()
def deep(n): return deep(n + 1)
@sluice.function()
def f(x: list[str]) -> list[int]:
    match x[0]:
        case "value": raise ValueError("bad \\ud800 value")
        case "exit": sys.exit(3)
        case "interrupt": raise KeyboardInterrupt
        case "memory": raise MemoryError
        case "odd": raise Odd("x")
        case "two": raise Unpicklable(1, 2)
        case "deep": deep(0)
        case "end": raise EOFError("mine")
        case "long": raise ValueError("y" * 100_000)
        case "cause":
            try: 1 / 0
            except ZeroDivisionError as error: raise OSError("outer") from error
    return [len(v) for v in x]
"""


@pytest.fixture(scope="module")
def failing(tmp_path_factory):
    from worker_host import WorkerHost

    with WorkerHost(tmp_path_factory.mktemp("failing"), FAILING) as worker:
        yield worker.ready()


@pytest.mark.parametrize(
    ("way", "kind", "message", "parent"),
    [
        ("value", "ValueError", "bad \\ud800 value", "Exception"),
        ("exit", "SystemExit", "3", "BaseException"),
        ("interrupt", "KeyboardInterrupt", "", "BaseException"),
        ("memory", "MemoryError", "", "Exception"),
        ("two", "Unpicklable", "two", "Exception"),
        ("deep", "RecursionError", "maximum recursion depth exceeded", "RuntimeError"),
        ("end", "EOFError", "mine", "Exception"),
        ("cause", "OSError", "outer", "Exception"),
    ],
)
def test_every_exception_is_the_batchs_error(failing, way, kind, message, parent):
    told = failing.error(x=[way])
    assert (told["kind"], told["code"]) == (kind, "handler_error")
    assert message in told["message"]
    assert told["mro"][0] == kind and parent in told["mro"] and "object" not in told["mro"]
    assert "in f\n" in told["traceback"]
    assert "sluice/worker" not in told["traceback"]
    assert failing.rows(x=["abc"]) == [3]


def test_messages_that_cannot_be_printed(failing):
    told = failing.error(x=["odd"])
    assert told["kind"] == "Odd"
    assert "RuntimeError" in told["message"]


def test_errors_are_limited(failing):
    told = failing.error(x=["long"])
    assert len(told["message"]) < 5000
    assert len(told["traceback"]) < 17_000


def test_a_cause_is_in_the_traceback(failing):
    assert "ZeroDivisionError" in failing.error(x=["cause"])["traceback"]


WRONG = """
import numpy as np, pyarrow as pa, sluice
WAYS = {
    "short": lambda x: [1],
    "long": lambda x: [1] * 5,
    "none": lambda x: None,
    "text": lambda x: "abc",
    "dict": lambda x: {"a": 1},
    "number": lambda x: 5,
    "array": lambda x: np.zeros(2),
    "matrix": lambda x: np.zeros((3, 2)),
    "fraction": lambda x: [1, 2, 2.5],
    "string": lambda x: [1, "two", 3],
    "list": lambda x: [1, 2, [3]],
    "object": lambda x: [1, 2, object()],
    "huge": lambda x: [1, 2, 2**70],
    "fractions": lambda x: np.array([1, 2, 2.5]),
    "arrow": lambda x: pa.array(["a", "b", "c"]),
    "table": lambda x: pa.table({"a": [1, 2, 3], "b": [1, 2, 3]}),
}
@sluice.function()
def f(x: list[str]) -> list[int]:
    return WAYS.get(x[0], lambda x: [len(v) for v in x])(x)
"""


@pytest.fixture(scope="module")
def wrong(tmp_path_factory):
    from worker_host import WorkerHost

    with WorkerHost(tmp_path_factory.mktemp("wrong"), WRONG) as worker:
        yield worker.ready()


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("short", ["got 3 rows", "returned 1;"]),
        ("long", ["got 3 rows", "returned 5;"]),
        ("array", ["got 3 rows", "returned 2;"]),
        ("none", ["got 3 rows", "NoneType", "a list"]),
        ("text", ["returned str", "a list"]),
        ("dict", ["returned dict"]),
        ("number", ["returned int"]),
        ("matrix", ["(3, 2)", "int64", "1 dimension"]),
        ("fraction", ["row 2", "2.5", "int64"]),
        ("string", ["row 1", "'two'", "int64"]),
        ("list", ["row 2", "[3]", "int64"]),
        ("object", ["row 2", "object object"]),
        ("huge", ["row 2", "1180591620717411303424"]),
        ("fractions", ["float64", "int64"]),
        ("arrow", ["string", "int64"]),
        ("table", ["a, b", "result"]),
    ],
)
def test_wrong_answers_say_what_is_wrong(wrong, way, words):
    told = wrong.error(x=[way, "", ""])
    assert told["code"] == "handler_output_invalid"
    assert all(word in told["message"] for word in words), told["message"]
    assert wrong.rows(x=["abc"]) == [3]


def test_refused_rows(start):
    worker = start("""
import sluice
class Dirty(sluice.RowError): pass
@sluice.function()
def f(x: list[float]) -> list[list[float]]:
    return [Dirty(f"no {v}") if v < 0 else [v] * 20 for v in x]
""")
    header, found = worker.call(pa.table({"x": [1.0, -1.0, 2.0, -2.0]}))
    assert header["errors"] == [[1, {"kind": "Dirty", "message": "no -1.0"}], [3, {"kind": "Dirty", "message": "no -2.0"}]]
    assert [row is None for row in found.to_pylist()] == [False, True, False, True]
    header, found = worker.call(pa.table({"x": [-1.0]}))
    assert found.to_pylist() == [None]


def test_a_row_that_raises_fails_its_batch(start):
    worker = start("""
import sluice
@sluice.function()
async def f(x: int) -> int:
    if x == 1: raise sluice.RowError("one")
    if x == 2: raise KeyError("two")
    return x
""")
    assert worker.error(x=[0, 1, 2])["kind"] == "KeyError"
    header, found = worker.call(pa.table({"x": [0, 1, 3]}))
    assert found.to_pylist() == [0, None, 3]
    assert header["errors"] == [[1, {"kind": "RowError", "message": "one"}]]


LEAVING = """
import asyncio, sluice, sys
async def one(x: int) -> int:
    if x == 6: sys.exit(2)
    if x == 7: raise KeyboardInterrupt
    if x == 8: await asyncio.sleep(3600)
    return x
@sluice.function()
async def row(x: int) -> int:
    try: return await one(x)
    finally: print("ended", x)
@sluice.function()
async def batch(x: list[int]) -> list[int]:
    return list(await asyncio.gather(*(one(v) for v in x)))
"""


@pytest.mark.parametrize("attribute", ["row", "batch"])
def test_a_task_that_leaves_fails_its_own_batch_alone(start, attribute):
    worker = start(LEAVING, attribute)
    for rows in ([1, 2, 6, 3], [6, 6], [8, 6, 8]):
        told = worker.error(x=rows)
        assert (told["kind"], told["message"]) == ("SystemExit", "2")
        assert worker.rows(x=[1, 2]) == [1, 2]
    assert worker.error(x=[7])["kind"] == "KeyboardInterrupt"
    assert worker.rows(x=[1, 2]) == [1, 2]


def test_rows_are_ended_with_their_batch(start):
    worker = start(LEAVING, "row")
    assert worker.error(x=[8, 6])["kind"] == "SystemExit"
    worker.socket.close()
    output, errors = worker.process.communicate(timeout=10)
    assert output.split(b"\n")[:-1] == [b"ended 6", b"ended 8"]
    assert errors == b""


STREAM = """
import sluice
@sluice.function()
KIND f(x: list[int]) -> AsyncIterator[list[int]]:
    for v in x:
        if v == -1: raise ValueError("minus one")
        if v == -3: yield ["three"]
        yield [v * 2] * (1 if v != -2 else 9)
    yield []
"""


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_generators_answer_in_parts(start, kind):
    worker = start("from collections.abc import AsyncIterator" + STREAM.replace("KIND", kind))
    worker.start(pa.table({"x": [1, 2, 3]}))
    from worker_host import column

    for at in range(3):
        header, body = worker.receive()
        assert (header["type"], header["from"], header["rows"]) == ("partial", at, 1)
        assert column(body).to_pylist() == [(at + 1) * 2]
    header, body = worker.receive()
    assert (header["type"], header["rows"], body) == ("result", 0, b"")

    def last(*values):
        worker.start(pa.table({"x": list(values)}))
        while True:
            header, _ = worker.receive()
            if header["type"] != "partial":
                return header["error"]

    assert last(1, -1)["kind"] == "ValueError"
    assert "got 3 rows and returned 11" in last(1, 2, -2)["message"]
    assert "row 2" in last(1, 2, -3)["message"]


def test_generators_that_end_early(start):
    worker = start("""
import sluice
from collections.abc import Iterator
@sluice.function()
def f(x: list[int]) -> Iterator[list[int]]:
    yield x[:1]
""")
    worker.start(pa.table({"x": [1, 2, 3]}))
    assert worker.receive()[0]["type"] == "partial"
    header, _ = worker.receive()
    assert header["error"]["message"].startswith("the handler got 3 rows and returned 1;")
