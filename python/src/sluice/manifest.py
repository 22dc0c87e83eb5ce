"""``python -m sluice.manifest FILE``: the functions of a file as one JSON document on standard output.

``{"functions": [SPEC, …]}``, or ``{"error": {"kind", "message", "traceback", "mro"}}`` and exit code 1 with the traceback
on standard error. What the file prints while it is imported goes to standard error, also from native code.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from sluice.errors import DeclarationError
from sluice.failure import failure_json


def _private_output() -> int:
    """Standard output for us alone: descriptor 1 becomes standard error for all others."""
    own = os.dup(1)
    sys.stdout.flush()
    os.dup2(2, 1)
    return own


def _write(descriptor: int, document: dict[str, Any]) -> None:
    left = memoryview(json.dumps(document).encode("ascii"))
    while left:
        left = left[os.write(descriptor, left) :]


def _list(file: str) -> dict[str, Any]:
    from sluice.specs import specs_of_file

    return {"functions": specs_of_file(file)}


def main(arguments: list[str]) -> int:
    output = _private_output()
    try:
        if len(arguments) != 1:
            raise DeclarationError("python -m sluice.manifest takes one FILE")
        document, code = _list(arguments[0]), 0
    except BaseException as error:  # also a SystemExit of the user's file
        told = failure_json(error)
        print(told["traceback"].rstrip(), file=sys.stderr)
        if isinstance(error, DeclarationError):
            print(told["message"], file=sys.stderr)
        document, code = {"error": told}, 1
    sys.stdout.flush()
    sys.stderr.flush()
    _write(output, document)
    return code


if __name__ == "__main__":
    # A thread that the file has started must not keep a finished listing from ending.
    os._exit(main(sys.argv[1:]))
