"""The reference client from PyPI calls the reference worker and ours with the same handlers, and finds the same answers."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pytest
import real_packages

HANDLERS = Path(__file__).parent / "handlers"
START_S_MAX = 60

why_not = real_packages.why_not()
pytestmark = pytest.mark.skipif(why_not is not None, reason=why_not or "")


class Client:
    """A process of the reference client on one server; closed with its server."""

    def __init__(self, command: list[str], port: int):
        env = {**os.environ, "PYTHONPATH": str(HANDLERS)}
        self.server = subprocess.Popen([*command, "--port", str(port), "--host", "127.0.0.1"], env=env)
        _until_open(port)
        python = real_packages.environment() / "bin" / "python"
        client = [python, str(Path(__file__).with_name("reference_client.py")), f"127.0.0.1:{port}"]
        self.process = subprocess.Popen(client, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def call(self, name: str, ipc: bytes, **metadata: str) -> dict[str, Any]:
        asked = {"name": name, "ipc": base64.b64encode(ipc).decode(), "metadata": metadata}
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.server.terminate()
        self.server.wait()


def _free_port() -> int:
    """Below those of outgoing connections, which the reference worker needs."""
    for port in range(20_000 + os.getpid() % 10_000, 32_000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise RuntimeError("no free port")


def _until_open(port: int) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        grpc.channel_ready_future(channel).result(START_S_MAX)


@pytest.fixture(scope="module")
def ours() -> Iterator[Client]:
    client = Client([sys.executable, "-m", "sluice.remote_call", "--handler", "remote_call.handler"], _free_port())
    yield client
    client.close()


@pytest.fixture(scope="module")
def reference() -> Iterator[Client]:
    program = str(real_packages.environment() / "bin" / "chalk-remote-call")
    client = Client([program, "--handler", "remote_call.handler"], _free_port())
    yield client
    client.close()


def ipc(*batches: pa.RecordBatch, schema: pa.Schema | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema or batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def tables(told: dict[str, Any]) -> list[dict[str, list[Any]]]:
    return [pa.ipc.open_stream(base64.b64decode(chunk)).read_all().to_pydict() for chunk in told["chunks"]]


THREE = pa.RecordBatch.from_pydict({"x": [1, 2, 3]})


@pytest.mark.parametrize(
    "name",
    ["doubled", "listed", "chunked", "columns", "batch", "table", "records", "names", "items", "later", "later_items"],
)
def test_answers_are_those_of_the_reference_worker(name: str, ours: Client, reference: Client) -> None:
    expected = tables(reference.call(name, ipc(THREE)))
    assert expected and tables(ours.call(name, ipc(THREE))) == expected


def test_handlers_find_the_same_context(ours: Client, reference: Client) -> None:
    one = ipc(pa.RecordBatch.from_pydict({"x": [1]}))
    expected = tables(reference.call("told", one, **{"x-test": "yes"}))
    assert expected == [{"result": ["told yes True"]}]
    assert tables(ours.call("told", one, **{"x-test": "yes"})) == expected


def test_a_call_without_arguments_reaches_the_handler_alike(ours: Client, reference: Client) -> None:
    none = ipc(pa.RecordBatch.from_pydict({"__chalk_no_args__": [True]}))
    assert tables(ours.call("names", none)) == tables(reference.call("names", none))


def test_each_batch_of_a_request_is_a_call(ours: Client, reference: Client) -> None:
    two = ipc(THREE, THREE.slice(1))
    expected = tables(reference.call("doubled", two))
    assert len(expected) == 2 and tables(ours.call("doubled", two)) == expected
    empty = ipc(schema=THREE.schema)
    assert ours.call("doubled", empty) == reference.call("doubled", empty) == {"chunks": []}


def test_exceptions_keep_the_contract(ours: Client, reference: Client) -> None:
    ours_told, reference_told = (client.call("failing", ipc(THREE)) for client in (ours, reference))
    assert ours_told["error"] == reference_told["error"] == "RemoteCallStatusError"
    (code, text), (expected_code, expected_text) = ours_told["args"], reference_told["args"]
    error, expected = json.loads(text), json.loads(expected_text)
    assert (code, error["chalk_remote_error"]) == (expected_code, expected["chalk_remote_error"]) == ("2", 1)
    assert set(error["exception"]) == set(expected["exception"])
    for member in ("kind", "message"):
        assert error["exception"][member] == expected["exception"][member]
    assert "in failing" in error["exception"]["stacktrace"]


def test_what_is_no_arrow_is_an_internal_error_in_plain_text(ours: Client, reference: Client) -> None:
    ours_told, reference_told = (client.call("doubled", b"no arrow at all") for client in (ours, reference))
    assert ours_told["args"][0] == reference_told["args"][0] == "13"


def test_large_requests_are_refused_by_both(ours: Client, reference: Client) -> None:
    large = ipc(pa.RecordBatch.from_pydict({"x": pa.nulls(1, pa.large_binary()).fill_null(b"x" * (33 * 2**20))}))
    assert all("error" in client.call("doubled", large) for client in (ours, reference))
