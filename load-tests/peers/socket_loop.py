"""The reference of the bulk scenario: the handler in a bare loop on a Unix socket. socket_loop.py PATH

A frame is a u32 (little-endian) length, a u32 width, and an Arrow stream with a column `text`; its answer is a u32
length and an Arrow stream with a column `result`.
"""

import socket
import struct
import sys

import pyarrow as pa
from handlers import vectors_table


def read(peer: socket.socket, size: int) -> memoryview:
    buffer = memoryview(bytearray(size))
    filled = 0
    while filled < size:
        got = peer.recv_into(buffer[filled:])
        if got == 0:
            raise SystemExit(0)
        filled += got
    return buffer


def main() -> None:
    server = socket.socket(socket.AF_UNIX)
    server.bind(sys.argv[1])
    server.listen(1)
    print("ready", flush=True)
    peer, _ = server.accept()
    while True:
        size, width = struct.unpack("<II", read(peer, 8))
        table = pa.ipc.open_stream(read(peer, size)).read_all()
        answer = vectors_table(table, width)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, answer.schema) as writer:
            writer.write_table(answer)
        body = sink.getvalue()
        peer.sendall(struct.pack("<I", body.size))
        peer.sendall(body)


if __name__ == "__main__":
    main()
