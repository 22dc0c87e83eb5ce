"""Retries against a server that answers from a script, over a real socket."""

import json
import os
import pickle
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow as pa
import pytest
import sluice
from sluice import transport

SILENCE = "silence"


class Script(ThreadingHTTPServer):
    """Answers requests in order with (status, headers, document); None cuts the connection without an answer, and SILENCE keeps
    it without one until the server is closed."""

    daemon_threads = True

    def __init__(self, *answers):
        super().__init__(("127.0.0.1", 0), Answer)
        self.answers = list(answers)
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.callers: list[tuple[str, int]] = []
        self.cancelled = threading.Event()
        self.closed = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def server_close(self) -> None:
        self.closed.set()
        super().server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.seen.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
        self.server.callers.append(self.client_address)
        answer = self.server.answers.pop(0)
        if answer == SILENCE:
            self.server.closed.wait()
        if answer in (None, SILENCE):
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        status, headers, document = answer
        body = json.dumps(document).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", "content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        if self.command == "DELETE":
            self.server.cancelled.set()

    do_GET = do_POST = do_DELETE = _answer

    def log_message(self, *args):
        pass


@pytest.fixture
def scripted(monkeypatch):
    """Makes servers, and gathers the waits between tries instead of waiting."""
    waits: list[float] = []
    monkeypatch.setattr(transport.time, "sleep", waits.append)
    servers = []

    def make(*answers):
        servers.append(Script(*answers))
        servers[-1].waits = waits
        return servers[-1]

    yield make
    for server in servers:
        server.shutdown()
        server.server_close()


ACCEPTED = (202, {}, {"call_id": "c1"})
TABLE = {"text": ["a"]}
SHOWN = (200, {}, {"spec": {"inputs": [{"name": "text", "type": "utf8", "nullable": False}]}})


def problem(status, code, retryable, headers=None):
    return status, headers or {}, {"code": code, "detail": f"It is {code}.", "retryable": retryable, "fix": "Wait."}


def test_a_submission_is_sent_again_with_the_same_key(scripted):
    server = scripted(
        SHOWN,
        problem(429, "queue_full", True, {"retry-after": "3"}),
        None,
        problem(503, "shutting_down", True),
        (502, {}, "a proxy's page"),
        problem(500, "internal", True),
        ACCEPTED,
    )
    handle = sluice.Remote(server.url).function("f").defer_batch(TABLE)
    assert handle.call_id == "c1"
    posts = [headers for method, _, headers in server.seen if method == "POST"]
    assert len(posts) == 6
    assert len({headers["idempotency-key"] for headers in posts}) == 1
    assert len(server.waits) == 5
    assert server.waits[0] == 3
    assert all(0.05 * 2**attempt <= wait <= 0.1 * 2**attempt for attempt, wait in enumerate(server.waits) if attempt)


def test_two_submissions_have_two_keys(scripted):
    server = scripted(SHOWN, ACCEPTED, ACCEPTED)
    function = sluice.Remote(server.url).function("f")
    function.defer_batch(TABLE)
    function.defer_batch(TABLE)
    keys = [headers["idempotency-key"] for method, _, headers in server.seen if method == "POST"]
    assert len(set(keys)) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 413, 422])
def test_what_is_wrong_is_not_sent_again(scripted, status):
    server = scripted(problem(status, "invalid_request", False))
    with pytest.raises(sluice.ServerError) as caught:
        sluice.Remote(server.url).call("c1").show()
    assert (caught.value.status, caught.value.code, caught.value.retryable) == (status, "invalid_request", False)
    assert str(caught.value) == "It is invalid_request. (invalid_request) Wait."
    assert len(server.seen) == 1


def test_retries_have_an_end(scripted):
    server = scripted(*[problem(429, "queue_full", True)] * 4)
    with pytest.raises(sluice.ServerError, match="It is queue_full"):
        sluice.Remote(server.url, retries=3).call("c1").show()
    assert len(server.seen) == 4


def test_waits_stay_inside_the_timeout(scripted):
    server = scripted(problem(429, "queue_full", True, {"retry-after": "50"}))
    with pytest.raises(sluice.ServerError, match="queue_full"):
        sluice.Remote(server.url).call("c1").get(timeout=1)
    assert server.waits == []


@pytest.fixture
def silent():
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_a_silent_server_is_waited_for_as_long_as_the_timeout_says(silent):
    with pytest.raises(sluice.TimeoutError) as caught:
        sluice.Remote(silent).call("c1").get(timeout=0.1)
    assert (caught.value.call_id, caught.value.seconds) == ("c1", 0.1)
    assert isinstance(caught.value.__cause__, sluice.ConnectionError)


@pytest.mark.parametrize("rows", [["a"], pa.table(TABLE)])  # with and without asking for the inputs
def test_a_call_that_nobody_answered_says_how_to_find_it(silent, rows):
    with pytest.raises(sluice.TimeoutError) as caught:
        sluice.Remote(silent).function("f").call(rows, timeout=0.1)
    assert caught.value.call_id is None
    assert f'defer_batch(rows, idempotency_key="{caught.value.idempotency_key}") attaches to it' in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize("rows", [TABLE, pa.table(TABLE)])  # with and without asking for the inputs
def test_a_submission_that_nobody_answers_is_over_with_its_timeout(silent, rows):
    with pytest.raises(sluice.TimeoutError) as caught:
        sluice.Remote(silent).function("f").defer_batch(rows, timeout=0.1, idempotency_key="mine")
    assert (caught.value.call_id, caught.value.idempotency_key) == (None, "mine")


def test_chunks_that_nobody_answers_are_over_with_their_timeout(silent):
    two = pa.table({"text": ["a", "b"]})
    function = sluice.Remote(silent).function("f")
    with pytest.raises(sluice.ChunkFailedError) as caught:
        function.chunked_call(two, chunk_size=1, timeout=0.1)
    assert isinstance(caught.value.cause, sluice.TimeoutError)
    assert "failed: the server had not answered after 0.1 s" in str(caught.value)
    with pytest.raises(sluice.TimeoutError, match="not answered after 0.1 s; nothing was sent"):
        function.chunked_call(TABLE, chunk_size=1, timeout=0.1)
    got = function.chunked_call(two, chunk_size=1, timeout=0.1, on_error="null")
    assert got.column("result").to_pylist() == [None, None]
    assert all("not finished after 0.1 s" in error for error in got.column("error").to_pylist())


CANCELLED = (200, {}, {"status": "cancelled"})


@pytest.mark.parametrize(
    ("answers", "call_id"),
    [
        pytest.param([SILENCE, ACCEPTED, CANCELLED], None, id="before it said that it took it"),
        pytest.param([ACCEPTED, SILENCE, CANCELLED], "c1", id="before it was finished"),
    ],
)
def test_a_chunk_that_a_silent_server_took_is_cancelled(answers, call_id):
    server = Script(*answers)
    with pytest.raises(sluice.ChunkFailedError) as caught:
        sluice.Remote(server.url).function("f").chunked_call(pa.table(TABLE), chunk_size=1, timeout=0.1)
    assert caught.value.cause.call_id == call_id
    assert server.cancelled.wait(60)
    assert server.seen[-1][:2] == ("DELETE", "/v1/calls/c1")
    assert len({headers["idempotency-key"] for method, _, headers in server.seen if method == "POST"}) == 1
    server.shutdown()
    server.server_close()


def test_a_chunk_that_a_silent_server_took_is_null_where_that_is_asked_for():
    server = Script(ACCEPTED, SILENCE, SILENCE, CANCELLED)
    asked = {"chunk_size": 1, "timeout": 0.1, "on_error": "null"}
    got = sluice.Remote(server.url).function("f", output_type=pa.int32()).chunked_call(pa.table(TABLE), **asked)
    assert got.column("result").equals(pa.chunked_array([pa.nulls(1, pa.int32())]))
    assert server.cancelled.wait(60)
    server.shutdown()
    server.server_close()


def test_the_key_of_a_call_that_nobody_answered_is_the_one_that_was_sent():
    server = Script(SHOWN, *[None] * 50)
    with pytest.raises(sluice.TimeoutError) as caught:
        sluice.Remote(server.url).function("f").call(TABLE, timeout=0.1)
    assert {seen.get("idempotency-key") for _, _, seen in server.seen} == {None, caught.value.idempotency_key}
    server.shutdown()
    server.server_close()


def test_tries_end_with_the_timeout_where_a_server_went_away():
    server = Script(SHOWN, *[None] * 50)
    remote = sluice.Remote(server.url)
    remote.function("f").show()
    with pytest.raises(sluice.TimeoutError, match="Call c1 is not finished after 0.1 s"):
        remote.call("c1").get(timeout=0.1)
    server.shutdown()
    server.server_close()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_takes_a_connection_of_its_own_and_leaves_the_parent_its(scripted):
    server = scripted(SHOWN, SHOWN, SHOWN)
    function = sluice.Remote(server.url).function("f")
    function.show()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            function.show()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    function.show()
    first, second, third = server.callers
    assert first == third != second


def test_the_key_travels_as_a_bearer(scripted, monkeypatch):
    server = scripted(SHOWN, SHOWN, SHOWN)
    monkeypatch.setenv("SLUICE_URL", f"{server.url}/")
    monkeypatch.setenv("SLUICE_API_KEY", "from-environment")
    sluice.Remote().function("f").show()
    sluice.Remote(api_key="given").function("a/b").show()
    monkeypatch.delenv("SLUICE_API_KEY")
    sluice.Remote().function("f").show()
    assert [headers.get("authorization") for _, _, headers in server.seen] == [
        "Bearer from-environment",
        "Bearer given",
        None,
    ]
    assert server.seen[1][1] == "/v1/functions/a%2Fb"


def test_no_server_is_said_in_one_sentence(scripted):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(sluice.ConnectionError) as caught:
        sluice.Remote(url).function("f")(["a"])
    assert str(caught.value) == (
        f"No Sluice server answers at {url} (Connection refused). "
        "Start one with `sluice dev`, or name another with url= or SLUICE_URL."
    )
    assert isinstance(caught.value, ConnectionError)


@pytest.mark.parametrize("url", ["7700", "ftp://host", "http://", 7700])
def test_a_wrong_address_is_refused(url):
    with pytest.raises(ValueError, match="it takes an address as http://127.0.0.1:7700"):
        sluice.Remote(url)


def test_a_body_may_take_longer_to_send_than_a_connection_to_make(monkeypatch):
    monkeypatch.setattr("sluice.transport.CONNECT_TIMEOUT_S", 0.5)
    body = os.urandom(2**24)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        received = bytearray()
        ended = threading.Event()

        def read_slowly():
            connection, _ = listener.accept()
            with connection:
                while not received.endswith(body[-2048:]) and (read := connection.recv(2**18)):
                    received.extend(read)
                    ended.wait(0.03)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

        reader = threading.Thread(target=read_slowly, daemon=True)
        reader.start()
        slow = transport.Transport(f"http://127.0.0.1:{listener.getsockname()[1]}", None, retries=0)
        assert slow.request("POST", "/", body=memoryview(body)).json() == {}
        ended.set()
        reader.join()
    head, _, sent = bytes(received).partition(b"\r\n\r\n")
    assert b"content-length: 16777216" in head.lower() and b"chunked" not in head.lower()
    assert sent == body
