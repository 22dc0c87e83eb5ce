"""The real server of this checkout as a process, for live tests."""

import os
import random
import re
import signal
import socket
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HANDLERS = Path(__file__).parent / "handlers"
START_S_MAX = 60


def free_port() -> int:
    """Below the ports that outgoing connections take, since a server is started on it a moment later."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Server:
    """A server in a process group of its own; its output is read all along, so that it never blocks on a full pipe."""

    def __init__(self, home: list[str], port: int = 0):
        command = [ROOT / "node_modules/.bin/node", ROOT / "cli/bin/sluice.mjs", *home, "--port", port]
        env = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
        # A second HTTP thread would cost each start most of a second of processor time.
        env["SLUICE_INGRESS_THREADS"] = "1"
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
