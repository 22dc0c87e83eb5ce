"""The real server of this checkout on each store, started once for all live tests, and handler processes by themselves."""

import os
import re
import shutil
import signal
import socket
import subprocess
import uuid
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from worker_host import WorkerHost

ROOT = Path(__file__).resolve().parents[2]
HANDLERS = Path(__file__).parent / "handlers"
DEPLOYED = ("catalog.py", "interop.py", "live.py")
"""What the live tests call; the others are handlers of containers."""
START_S_MAX = 60


class Server:
    """A server in a process group of its own; its output is read all along, so that it never blocks on a full pipe."""

    def __init__(self, home: list[str], port: int = 0):
        command = [ROOT / "node_modules/.bin/node", ROOT / "cli/bin/sluice.mjs", *home, "--port", port]
        env = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
        self.process = subprocess.Popen(
            list(map(str, command)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            env=env,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self.url = ""
        self._said = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()
        if not self._said.wait(START_S_MAX) or not self.url:
            self.stop()
            raise RuntimeError("the server did not start:\n" + "".join(self.lines))

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.append(line)
            found = re.search(r"listens on (http://\S+)", line)
            if found:
                self.url = found[1]
                self._said.set()
        self._said.set()

    def kill(self) -> None:
        """SIGKILL of the server alone: its handler processes notice the closed socket by themselves."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def embedded():
    yield lambda directory: ["dev", "--data", str(directory / "data")]


def redis():
    """A Redis of its own on a free port; each home is a prefix in it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
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


@pytest.fixture(scope="session")
def remote(server):
    import sluice

    client = sluice.Remote(server.url)
    for file in DEPLOYED:
        sluice.deploy(HANDLERS / file, url=server.url)
    return client


@pytest.fixture
def begin(tmp_path):
    """Starts a handler process on a file with the given code, without waiting for it; all are ended with the test."""
    with ExitStack() as stack:
        yield lambda code, attribute="f", **more: stack.enter_context(WorkerHost(tmp_path, code, attribute, **more))


@pytest.fixture
def start(begin):
    """As ``begin``, and waits until the process is ready."""
    return lambda *args, **more: begin(*args, **more).ready()
