"""A virtual environment with the reference packages from PyPI, made once: ``python real_packages.py`` prints where it is.

They are not dependencies of ours: only tests talk to them, over gRPC, from processes of their own.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

PACKAGES = ("chalk-remote-call-python==1.10.10", "chalkcompute==2.13.11")
ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / ".venv" / "reference-packages"


class NotToBeHad(Exception):
    """PyPI is not reachable from here, or has no wheels for this machine."""


def environment(place: Path = PLACE, packages: tuple[str, ...] = PACKAGES) -> Path:
    """Its directory. Raises NotToBeHad."""
    place.mkdir(parents=True, exist_ok=True)
    with open(place / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = place / "made"
        wanted = " ".join(packages)
        if not made.exists() or made.read_text() != wanted:
            _install(place, packages)
            made.write_text(wanted)
    return place


def _install(place: Path, packages: tuple[str, ...]) -> None:
    python = place / "bin" / "python"
    try:
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", place], check=True, capture_output=True, text=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
        subprocess.run(pip, check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["no message"])[-1]
        raise NotToBeHad(f"the reference packages could not be installed: {last}") from None


def why_not(made: Callable[[], Path] = environment) -> str | None:
    """A reason to skip; in CI there is none, so that the test fails instead."""
    try:
        made()
    except NotToBeHad as error:
        if os.environ.get("CI"):
            raise
        return str(error)
    return None


if __name__ == "__main__":
    try:
        print(environment())
    except NotToBeHad as error:
        sys.exit(str(error))
