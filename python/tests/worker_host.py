"""The host's side of a real handler process, for tests: a socket pair, frames, and the process's output."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa


def stream(table: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write(table)
    return sink.getvalue().to_pybytes()


def give(frames: socket.socket, control: socket.socket) -> None:
    """In the child: hands the sockets on as descriptors 3 and 4, whichever they were."""
    moved = [fcntl.fcntl(one.fileno(), fcntl.F_DUPFD, 64) for one in (frames, control)]
    for to, descriptor in zip((3, 4), moved, strict=True):
        os.dup2(descriptor, to)
        os.close(descriptor)


class WorkerHost:
    """Starts ``python -m sluice.worker`` on a file of handlers."""

    def __init__(self, directory: Path, code: str, attribute: str = "f", file: str = "handlers.py"):
        path = directory / file
        path.write_text(code)
        self.directory = directory
        listed = subprocess.run([sys.executable, "-m", "sluice.manifest", str(path)], capture_output=True, text=True)
        manifest = json.loads(listed.stdout)
        assert "functions" in manifest, manifest
        self.spec = next(one for one in manifest["functions"] if one["handler"]["attribute"] == attribute)
        self.spec.pop("source")
        self.launch(directory)
        self.send({"type": "init", "function": self.spec, "version": "v1", "directory": str(directory), "replica": 0})

    def launch(self, directory: Path) -> None:
        self.socket, theirs = socket.socketpair()
        self.control, control = socket.socketpair()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sluice.worker"],
            close_fds=False,  # all other descriptors of this process are closed by exec
            preexec_fn=lambda: give(theirs, control),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=directory,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        theirs.close()
        control.close()
        self.ids = 0

    def __enter__(self) -> WorkerHost:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
        self.control.close()
        try:
            self.process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()

    def ready(self) -> WorkerHost:
        header, _ = self.receive()
        assert header["type"] == "ready", header
        return self

    def send(self, header: dict[str, Any], *parts: bytes) -> None:
        text = json.dumps(header).encode()
        body = b"".join(parts)
        self.socket.sendall(struct.pack("<II", 4 + len(text) + len(body), len(text)) + text + body)

    def _read(self, count: int) -> bytes:
        found = bytearray()
        while len(found) < count:
            got = self.socket.recv(min(count - len(found), 1 << 20))
            if not got:
                raise EOFError
            found += got
        return bytes(found)

    def receive(self) -> tuple[dict[str, Any], bytes]:
        frame, head = struct.unpack("<II", self._read(8))
        header = json.loads(self._read(head))
        return header, self._read(frame - 4 - head)

    def withdraw(self, first: int, last: int) -> int:
        """Asks for batches back; answers the one that the process has begun last."""
        self.control.sendall(struct.pack("<QQ", first, last))
        return struct.unpack("<Q", self.control.recv(8, socket.MSG_WAITALL))[0]

    def start(self, *tables: Any, **more: Any) -> int:
        self.ids += 1
        parts = [stream(table) for table in tables]
        rows = more.pop("rows", sum(table.num_rows for table in tables))
        head = {"type": "call", "id": self.ids, "batch": 12, "attempt": 1, "rows": rows, "parts": list(map(len, parts))}
        self.send({**head, "calls": [], "deadline_ms": None, "traceparent": None, **more}, *parts)
        return self.ids

    def call(self, *tables: Any, **more: Any) -> tuple[dict[str, Any], pa.Array | None]:
        """One batch to its last frame; answers its header and, of a result, the column."""
        self.start(*tables, **more)
        header, body = self.receive()
        return header, column(body)

    def rows(self, **columns: Any) -> list[Any]:
        header, found = self.call(pa.table(columns))
        assert header["type"] == "result", header
        assert header["rows"] == len(found)
        return found.to_pylist()

    def error(self, **columns: Any) -> dict[str, Any]:
        header, _ = self.call(pa.table(columns))
        assert header["type"] == "error", header
        return header["error"]


def column(body: bytes) -> pa.Array | None:
    if not body:
        return None
    table = pa.ipc.open_stream(body).read_all()
    table.validate(full=True)
    assert table.column_names == ["result"]
    return table.column(0).combine_chunks()
