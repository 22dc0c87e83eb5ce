"""Clients of the Open Inference Protocol that others wrote, from PyPI, in an environment of their own: ``python oip_packages.py``
prints where it is. They want other versions of protobuf and pandas than ours do.
"""

import sys
from pathlib import Path

import real_packages

PACKAGES = ("tritonclient[http,grpc]==2.73.0", "kserve==0.21.0")
PLACE = real_packages.ROOT / ".venv" / "oip-packages"


def environment() -> Path:
    """Its directory. Raises NotToBeHad."""
    return real_packages.environment(PLACE, PACKAGES)


def why_not() -> str | None:
    """A reason to skip; in CI there is none, so that the test fails instead."""
    return real_packages.why_not(environment)


if __name__ == "__main__":
    try:
        print(environment())
    except real_packages.NotToBeHad as error:
        sys.exit(str(error))
