"""Frames over the host's socket: ``u32 n``, ``u32 h``, h bytes of JSON, n − 4 − h bytes of body.

Small frames are cut out of one reused buffer, several to a system call; a large body is received into memory of its
own, which Arrow reads in place and which lives as long as an array refers to it.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pyarrow as pa

FRAME_BYTES_MAX = 2**31
HEADER_BYTES_MAX = 64 * 2**20
_BUFFER_BYTES = 2**20
"""Frames wait here while a body runs: the kernel keeps 200 KiB of a Unix socket. Larger bodies go past it."""
_SOCKET_BYTES = 4 * 2**20
_PARTS_MAX = 64
"""Buffers in one sendmsg; the kernel takes 1,024."""
LENGTHS = struct.Struct("<II")

Buffer = Any
"""Bytes, a memoryview or a pyarrow Buffer."""


class FrameError(Exception):
    """The stream is out of step; nothing that follows can be read."""


class Channel:
    """Blocking frames on one socket. The end of the stream is ``EOFError`` while reading or writing."""

    def __init__(self, sock: socket.socket):
        self._socket = sock
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, _SOCKET_BYTES)
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._from = 0
        self._to = 0

    def receive(self) -> tuple[dict[str, Any], pa.Buffer | None]:
        """The next header, and its body in memory that nobody else writes."""
        self._fill(8)
        frame_bytes, header_bytes = LENGTHS.unpack_from(self._buffer, self._from)
        if frame_bytes > FRAME_BYTES_MAX or header_bytes > HEADER_BYTES_MAX or header_bytes + 4 > frame_bytes:
            raise FrameError(f"frame lengths {frame_bytes} and {header_bytes} are out of range")
        self._from += 8
        header = json.loads(self._take(header_bytes))
        body_bytes = frame_bytes - 4 - header_bytes
        return header, self._body(body_bytes) if body_bytes else None

    def pending(self) -> memoryview:
        """What has arrived and was not read yet, without waiting; it holds until the next read."""
        if self._from == self._to:
            self._from = self._to = 0
        if self._to < _BUFFER_BYTES:
            with suppress(BlockingIOError, InterruptedError):
                self._to += self._socket.recv_into(self._buffer[self._to :], 0, socket.MSG_DONTWAIT)
        return self._buffer[self._from : self._to]

    def send(self, header: dict[str, Any], parts: Sequence[Buffer] = ()) -> None:
        """Writes a frame whose body is the parts, one after another, without joining them."""
        text = json.dumps(header, separators=(",", ":")).encode("ascii")
        frame_bytes = 4 + len(text) + sum(map(_size, parts))
        if frame_bytes > FRAME_BYTES_MAX or len(text) > HEADER_BYTES_MAX:
            raise FrameError(f"an answer of {frame_bytes} bytes does not fit in a frame of {FRAME_BYTES_MAX}")
        self._write([LENGTHS.pack(frame_bytes, len(text)) + text, *parts])

    def _write(self, parts: list[Buffer]) -> None:
        left = [view for view in map(_bytes_view, parts) if view.nbytes]
        while left:
            try:
                sent = self._socket.sendmsg(left[:_PARTS_MAX])
            except (BrokenPipeError, ConnectionResetError):
                raise EOFError from None
            done = 0
            while done < len(left) and sent >= left[done].nbytes:
                sent -= left[done].nbytes
                done += 1
            del left[:done]
            if sent:
                left[0] = left[0][sent:]

    def _take(self, count: int) -> bytes:
        """Bytes of a header: from the buffer when they fit in it, else collected."""
        if count <= _BUFFER_BYTES:
            self._fill(count)
            taken = bytes(self._buffer[self._from : self._from + count])
            self._from += count
            return taken
        target = bytearray(count)
        self._read_into(memoryview(target))
        return bytes(target)

    def _body(self, count: int) -> pa.Buffer:
        if count <= self._to - self._from:
            taken = bytes(self._buffer[self._from : self._from + count])
            self._from += count
            return pa.py_buffer(taken)
        target = pa.allocate_buffer(count)
        self._read_into(memoryview(target).cast("B"))
        return target

    def _read_into(self, target: memoryview) -> None:
        have = min(self._to - self._from, len(target))
        target[:have] = self._buffer[self._from : self._from + have]
        self._from += have
        while have < len(target):
            have += self._receive(target[have:])

    def _fill(self, count: int) -> None:
        """Makes sure that the buffer holds ``count`` bytes to read."""
        if self._to - self._from >= count:
            return
        if self._from == self._to:
            self._from = self._to = 0
        elif self._from + count > _BUFFER_BYTES:
            rest = bytes(self._buffer[self._from : self._to])
            self._buffer[: len(rest)] = rest
            self._from, self._to = 0, len(rest)
        while self._to - self._from < count:
            self._to += self._receive(self._buffer[self._to :])

    def _receive(self, target: memoryview) -> int:
        try:
            got = self._socket.recv_into(target)
        except ConnectionResetError:
            got = 0
        if got == 0:
            raise EOFError
        return got


def _size(part: Buffer) -> int:
    return part.size if isinstance(part, pa.Buffer) else len(part)


def _bytes_view(part: Buffer) -> memoryview:
    view = memoryview(part)
    return view if view.format == "B" else view.cast("B")


def host_socket(descriptor: int) -> socket.socket:
    """A socket of the host, moved away from the descriptor under which anyone could hit it, closed in every child.

    Raises OSError when the descriptor is not an open socket.
    """
    import fcntl

    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 64)
    try:
        sock = socket.socket(fileno=moved)
        if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
            raise OSError(f"file descriptor {descriptor} is no Unix stream socket")
    except OSError:
        os.close(moved)
        raise
    os.close(descriptor)
    sock.setblocking(True)
    # A forked child (multiprocessing) gets all descriptors; with this one open the host would not see our end.
    os.register_at_fork(after_in_child=sock.close)
    return sock


def private_streams() -> None:
    """Standard input is nobody's; what the handler prints arrives line by line."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)
