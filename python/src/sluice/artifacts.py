"""Large files on a server, by the SHA-256 of their bytes: sent in pieces that go on where they broke off, and read back."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from sluice.errors import ServerError, SluiceError
from sluice.transport import RETRIES, Transport, back_off_s

PIECE_BYTES = 16 * 2**20
"""Of one request: the most that is in memory, and that a cut connection sends again."""
_READ_BYTES = 2**20
_CHECKED_BYTES_PER_S = 100e6
"""The slowest that a server which was restarted in the middle reads a file again to check it."""
_RESTARTS = 2

Progress = Callable[[int, int], object]
"""Called with the bytes that are done and the bytes of the file."""


class FileChangedError(SluiceError):
    """The file was written to while it was read; nothing of it counts. Upload it again when it is at rest."""

    code = "artifact_digest_mismatch"

    def __init__(self, path: object):
        self.path = str(path)
        super().__init__(f"{self.path} was changed while it was uploaded; upload it again once nothing writes to it.")

    def __reduce__(self) -> Any:
        return type(self), (self.path,)


class DownloadError(SluiceError):
    """What the server gave has another digest than was asked for; nothing was written."""

    code = "artifact_digest_mismatch"


class Artifact(NamedTuple):
    """A file that is on the server: ``sha256:`` and 64 hex digits, and its length."""

    digest: str
    bytes: int


class State(NamedTuple):
    """How far an upload is; ``bytes`` is of the whole file, None while nothing came."""

    is_complete: bool
    offset: int
    bytes: int | None


class Artifacts:
    """The artifacts of one server. Threads may share it."""

    def __init__(self, transport: Transport):
        self._transport = transport

    def state(self, digest: str) -> State:
        """How far the server is with an artifact."""
        headers = self._transport.request("HEAD", _path(digest)).headers
        length = headers.get("upload-length")
        is_complete = headers.get("upload-complete") == "?1"
        return State(is_complete, int(headers["upload-offset"]), None if length is None else int(length))

    def upload(self, source: str | os.PathLike[str] | bytes, *, progress: Progress | None = None) -> Artifact:
        """Puts a file, or bytes, on the server. What is there already is not sent; what came before is not sent again.

        Raises FileChangedError, ServerError, ConnectionError, OSError for a file that cannot be read.
        """
        with _opened(source) as file:
            upload = _Upload(self, file, progress or (lambda done, total: None))
            for _ in range(_RESTARTS):
                try:
                    return upload.run()
                except ServerError as error:
                    if error.code != "artifact_digest_mismatch":
                        raise
                    # Either the file is another by now, or somebody else sent other bytes under its digest.
                    file.check_digest()
            return upload.run()

    def download(self, digest: str, path: str | os.PathLike[str], *, progress: Progress | None = None) -> Path:
        """Writes an artifact to ``path``, which is there whole and checked, or as it was before.

        Raises DownloadError, ServerError (``artifact_not_found``), ConnectionError, OSError.
        """
        target = Path(path)
        state = self.state(digest)
        if not state.is_complete:
            self._transport.request("GET", _path(digest))
        total = state.offset
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with open(descriptor, "wb") as file:
                found = self._read_into(file, digest, total, progress)
            if found != digest:
                raise DownloadError(f"The {total} bytes that came as {digest} have the digest {found}.")
            os.chmod(name, 0o666 & ~_umask())
            os.replace(name, target)
        except BaseException:
            os.unlink(name)
            raise
        return target

    def _read_into(self, file: IO[bytes], digest: str, total: int, progress: Progress | None) -> str:
        hashed = hashlib.sha256()
        for at in range(0, total, PIECE_BYTES):
            last = min(at + PIECE_BYTES, total) - 1
            piece = self._transport.request("GET", _path(digest), headers={"range": f"bytes={at}-{last}"}).data
            hashed.update(piece)
            file.write(piece)
            if progress is not None:
                progress(last + 1, total)
        return f"sha256:{hashed.hexdigest()}"

    def append(self, digest: str, offset: int, total: int, piece: bytes) -> State:
        """Sends one piece. Raises ServerError ``artifact_offset_conflict`` where the server is at another offset."""
        headers = {
            "content-type": "application/octet-stream",
            "upload-offset": str(offset),
            "upload-length": str(total),
        }
        # Sent twice after a lost answer, the second is told the offset that the first one reached.
        wait_s = total / _CHECKED_BYTES_PER_S if offset + len(piece) == total else 0.0
        answer = self._transport.request("PATCH", _path(digest), headers=headers, body=piece, wait_s=wait_s)
        return State(answer.headers.get("upload-complete") == "?1", int(answer.headers["upload-offset"]), total)


class _File:
    """What is uploaded, with its digest as it was read first."""

    def __init__(self, file: IO[bytes], name: object):
        self._file = file
        self._name = name
        self._facts = self._look()
        self.total = file.seek(0, os.SEEK_END)
        self.digest = self._hash()
        self.check()

    def piece(self, offset: int) -> bytes:
        self._file.seek(offset)
        piece = self._file.read(min(PIECE_BYTES, self.total - offset))
        if len(piece) != min(PIECE_BYTES, self.total - offset):
            raise FileChangedError(self._name)
        self.check()
        return piece

    def check(self) -> None:
        """Raises FileChangedError when the file was written to since it was opened, as far as its times tell."""
        if self._look() != self._facts:
            raise FileChangedError(self._name)

    def check_digest(self) -> None:
        """Raises FileChangedError when the file has other bytes now."""
        if self._hash() != self.digest:
            raise FileChangedError(self._name)

    def _look(self) -> tuple[int, int] | None:
        if isinstance(self._file, io.BytesIO):
            return None
        facts = os.fstat(self._file.fileno())
        return facts.st_size, facts.st_mtime_ns

    def _hash(self) -> str:
        hashed = hashlib.sha256()
        buffer = memoryview(bytearray(_READ_BYTES))
        self._file.seek(0)
        while count := self._file.readinto(buffer):  # type: ignore[attr-defined]
            hashed.update(buffer[:count])
        return f"sha256:{hashed.hexdigest()}"


class _Upload:
    """One file on its way. The server says where it is; what others sent of the same file counts as well."""

    def __init__(self, artifacts: Artifacts, file: _File, progress: Progress):
        self._artifacts = artifacts
        self._file = file
        self._progress = progress

    def run(self) -> Artifact:
        digest, total = self._file.digest, self._file.total
        state = self._artifacts.state(digest)
        refusals = 0
        while not state.is_complete:
            # Whoever told another length was wrong: a digest has one file.
            offset = state.offset if state.bytes in (None, total) else 0
            self._progress(offset, total)
            piece = self._file.piece(offset)
            try:
                state, refusals = self._artifacts.append(digest, offset, total, piece), 0
            except ServerError as error:
                if error.status != 409 or refusals >= RETRIES:
                    raise
                time.sleep(back_off_s(refusals))
                refusals += 1
                state = self._artifacts.state(digest)
        self._progress(total, total)
        return Artifact(digest, total)


def digest_of(source: str | os.PathLike[str] | bytes) -> str:
    """``sha256:`` and 64 hex digits of a file or of bytes, as the server names it."""
    with _opened(source) as file:
        return file.digest


@contextmanager
def _opened(source: str | os.PathLike[str] | bytes) -> Iterator[_File]:
    if isinstance(source, bytes):
        yield _File(io.BytesIO(source), f"{len(source)} bytes")
        return
    with open(source, "rb") as file:
        yield _File(file, os.fspath(source))


def _path(digest: str) -> str:
    if not isinstance(digest, str) or len(digest) != 71 or not digest.startswith("sha256:"):
        raise ValueError(f'digest is {digest!r}; it takes "sha256:" and 64 hex digits')
    return f"/v1/artifacts/{digest}"


def _umask() -> int:
    """Threads that make files meanwhile see the strictest mask, for a moment."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
