"""The handler of the floor (floor.ts) in a bare loop on a Unix socket. rows_loop.py PATH

A line is a JSON array of texts; its answer is a line with a JSON array of their lengths.
"""

import json
import socket
import sys

from handlers import lengths


def main() -> None:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(sys.argv[1])
        for line in peer.makefile("rb"):
            peer.sendall(json.dumps(lengths(json.loads(line))).encode() + b"\n")


if __name__ == "__main__":
    main()
