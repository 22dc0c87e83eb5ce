"""The real server of this checkout, started once for all live tests, and handler processes by themselves."""

import os
import re
import signal
import subprocess
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from worker_host import WorkerHost

ROOT = Path(__file__).resolve().parents[2]
HANDLERS = Path(__file__).parent / "handlers"
START_S_MAX = 60


class Server:
    """``sluice dev`` in a process group of its own; its output is read all along, so that it never blocks on a full pipe."""

    def __init__(self, data: Path, port: int = 0):
        command = [ROOT / "node_modules/.bin/node", ROOT / "cli/bin/sluice.mjs", "dev", "--port", port, "--data", data]
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


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    running = Server(tmp_path_factory.mktemp("server") / "data")
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="session")
def remote(server):
    import sluice

    client = sluice.Remote(server.url)
    for file in sorted(HANDLERS.glob("*.py")):
        sluice.deploy(file, url=server.url)
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
