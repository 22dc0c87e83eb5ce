"""The client over a server that dies by SIGKILL and starts again at its address: nothing is lost, nothing comes twice."""

from __future__ import annotations

import threading
from urllib.parse import urlsplit

import pyarrow as pa
import pytest
import sluice
from server_process import HANDLERS, Server


@pytest.fixture
def mortal(home, tmp_path):
    """Starts the server again after a SIGKILL, on the same port and data."""
    flags = home(tmp_path)
    servers = [Server(flags)]
    port = urlsplit(servers[0].url).port

    def rise() -> None:
        servers[-1].kill()
        servers.append(Server(flags, port))

    yield servers[0].url, rise
    servers[-1].stop()


def test_a_chunked_call_goes_on_over_a_kill(mortal):
    url, rise = mortal
    remote = sluice.Remote(url)
    sluice.deploy(HANDLERS / "restarted.py", url=url)
    rows = {"n": list(range(3000))}
    found: list[pa.Table] = []
    caller = threading.Thread(
        target=lambda: found.append(
            remote.function("half").chunked_call(rows, chunk_size=5, concurrent_chunks=4, on_error="null")
        )
    )
    caller.start()
    for _ in range(2):
        before = remote.function("half").show()["created_at"]
        while remote._transport.request("GET", "/v1/calls?function=half&status=failed&limit=1").json()["calls"] == []:
            pass
        rise()
        assert remote.function("half").show()["created_at"] == before
    caller.join()
    assert found[0].column("result").to_pylist() == [n / 2 if n % 2 == 0 else None for n in range(3000)]
    assert [error is None for error in found[0].column("error").to_pylist()] == [n % 2 == 0 for n in range(3000)]


def test_a_handle_lives_through_a_kill(mortal):
    url, rise = mortal
    remote = sluice.Remote(url)
    sluice.deploy(HANDLERS / "restarted.py", url=url)
    upper = remote.function("upper", is_async=True)
    remote._transport.request("POST", "/v1/functions/upper/pause")
    handles = [upper.defer_batch([f"row {at}"]) for at in range(20)]
    again = upper.defer_batch(["key"], idempotency_key="one")
    rise()
    assert upper.defer_batch(["key"], idempotency_key="one").call_id == again.call_id
    remote._transport.request("POST", "/v1/functions/upper/resume")
    assert [handle.get(timeout=60).to_pylist() for handle in handles] == [[f"ROW {at}"] for at in range(20)]
    assert again.get(timeout=60).to_pylist() == ["KEY"]
