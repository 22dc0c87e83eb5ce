"""The real server of this checkout on each store, started once for all live tests, and handler processes by themselves."""

import os
import shutil
import subprocess
import uuid
from contextlib import ExitStack

import pytest
from server_process import HANDLERS, Server, free_port
from worker_host import WorkerHost


def embedded():
    yield lambda directory: ["dev", "--data", str(directory / "data")]


def redis():
    """A Redis of its own on a free port; each home is a prefix in it."""
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert any("Ready to accept connections" in line for line in process.stdout), "redis-server did not start"
        url = f"redis://127.0.0.1:{port}"
        yield lambda directory: [
            *("serve", "--store", url, "--redis-prefix", f"test-{uuid.uuid4().hex[:8]}"),
            *("--artifacts", str(directory / "artifacts")),
        ]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


MISSING = pytest.mark.skipif(
    shutil.which("redis-server") is None and os.environ.get("CI") != "true",
    reason="redis-server is not installed (apt-get install redis-server)",
)


@pytest.fixture(scope="session", params=[embedded, pytest.param(redis, marks=MISSING)], ids=lambda store: store.__name__)
def home(request):
    """What servers come and go on: called with a directory, it gives the command and the flags."""
    yield from request.param()


@pytest.fixture(scope="session")
def server(home, tmp_path_factory):
    running = Server(home(tmp_path_factory.mktemp("server")))
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def remote(server, request):
    """A client, once the functions of the module's DEPLOYED are there: each is a process, so that no other file's are started."""
    import sluice

    sluice.deploy(HANDLERS / request.module.DEPLOYED, url=server.url)
    return sluice.Remote(server.url)


@pytest.fixture
def begin(tmp_path):
    """Starts a handler process on a file with the given code, without waiting for it; all are ended with the test."""
    with ExitStack() as stack:
        yield lambda code, attribute="f", **more: stack.enter_context(WorkerHost(tmp_path, code, attribute, **more))


@pytest.fixture
def start(begin):
    """As ``begin``, and waits until the process is ready."""
    return lambda *args, **more: begin(*args, **more).ready()
