"""Archives of models on their way to a folder of their own: nothing outside of it is written, and nothing without a limit.

The standard libraries read them; every file is written here, so that no name, link or size of an archive is acted on unseen.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from sluice.errors import DeclarationError

FILES_MAX = 10_000
"""Of a model version."""
ENTRIES_MAX = 100_000
"""Folders count here as well."""
PATH_CHARACTERS_MAX = 1024
PATH_PARTS_MAX = 32
PART_BYTES_MAX = 255
"""As file systems have it."""
RATIO_MAX = 100
"""Weights hardly compress; text and zeros do, and what is below FREE_BYTES may be anything."""
FREE_BYTES = 2**30
TOTAL_BYTES_MAX = 2**40
_PIECE_BYTES = 2**20
_READ_BYTES_MAX = 16 * 2**20
"""What a header may make the reader hold in memory."""


_DAMAGES = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, NotImplementedError, ValueError, LookupError, RecursionError)
"""What the standard libraries raise of headers that lie: numbers that are none, names of nothing, headers of headers."""


class ArchiveError(DeclarationError):
    """An archive that is not unpacked; the message names the entry and what is wrong with it."""


def unpack(archive: str | os.PathLike[str], folder: Path) -> dict[str, Path]:
    """Writes the files of a zip or tar archive (plain, gzip, bzip2, xz) into an empty folder: path in the archive → file.

    Raises ArchiveError for what is no archive, leaves its folder, links, or is larger than it may be; OSError.
    """
    source = Path(archive)
    limit = min(TOTAL_BYTES_MAX, max(FREE_BYTES, RATIO_MAX * source.stat().st_size))
    target = _Target(folder, source, limit)
    try:
        with open(source, "rb") as file:
            head = file.read(6)
            file.seek(0)
            if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
                _unzip(file, target)
            else:
                _untar(file, head, target, limit)
    except (tarfile.TarError, zipfile.BadZipFile, zipfile.LargeZipFile) as error:
        raise ArchiveError(f"{source} is no whole zip or tar archive: {error}") from error
    except ArchiveError:
        raise
    except _DAMAGES as error:
        raise ArchiveError(f"{source} is damaged, or compressed in a way that is not known here: {error}") from error
    except OSError as error:
        # Readers say so of damaged streams, without a number, and of places before a file's beginning.
        if error.errno not in (None, errno.EINVAL):
            raise
        raise ArchiveError(f"{source} is damaged: {error}") from error
    if not target.files:
        raise ArchiveError(f"{source} has no files")
    return target.files


class _Target:
    """The folder, with what is in it already and what still may come."""

    def __init__(self, folder: Path, source: Path, limit: int):
        self._folder = folder
        self._source = source
        self._limit = limit
        self._written = 0
        self._entries = 0
        self.files: dict[str, Path] = {}

    def refuse(self, name: str, why: str) -> None:
        raise ArchiveError(f"{self._source} has {name[:200]!r}, {why}")

    def path_of(self, name: str) -> str:
        """The name as a relative path; '' for the archive's own folder."""
        self._entries += 1
        if self._entries > ENTRIES_MAX:
            raise ArchiveError(f"{self._source} has more than {ENTRIES_MAX} entries")
        if name.startswith("/") or "\\" in name or name[1:2] == ":":
            self.refuse(name, "which is not a relative path with /")
        if any(ord(character) < 32 or ord(character) == 127 for character in name):
            self.refuse(name, "whose name has control characters")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            self.refuse(name, "which leads out of the folder")
        path = "/".join(parts)
        if len(path) > PATH_CHARACTERS_MAX or len(parts) > PATH_PARTS_MAX:
            self.refuse(name, f"a path of more than {PATH_CHARACTERS_MAX} characters or {PATH_PARTS_MAX} parts")
        if any(len(part.encode(errors="surrogateescape")) > PART_BYTES_MAX for part in parts):
            self.refuse(name, f"with a name of more than {PART_BYTES_MAX} bytes")
        return path

    def write(self, name: str, content: IO[bytes]) -> None:
        path = self.path_of(name)
        if not path or path in self.files:
            self.refuse(name, "a name that another entry has as well" if path else "a file without a name")
        if len(self.files) >= FILES_MAX:
            raise ArchiveError(f"{self._source} has more than {FILES_MAX} files, the most of a model version")
        place = self._folder / path
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with open(place, "xb") as file:
                while piece := content.read(_PIECE_BYTES):
                    self._written += len(piece)
                    if self._written > self._limit:
                        raise ArchiveError(
                            f"{self._source} unpacks to more than {self._limit} bytes ({RATIO_MAX} times its own size, and at "
                            f"least {FREE_BYTES}); unpack it yourself and give folder="
                        )
                    file.write(piece)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            self.refuse(name, "a file where another entry has a folder")
        self.files[path] = place


def _unzip(file: IO[bytes], target: _Target) -> None:
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if entry.is_dir():
                target.path_of(entry.filename)
                continue
            if kind not in (0, stat.S_IFREG):
                target.refuse(entry.filename, "which is a link or a device; archives hold files and folders")
            if entry.flag_bits & 1:
                target.refuse(entry.filename, "which is encrypted")
            with archive.open(entry) as content:
                target.write(entry.filename, content)


def _untar(file: IO[bytes], head: bytes, target: _Target, limit: int) -> None:
    with _decompressed(file, head) as plain, tarfile.open(fileobj=_Bounded(plain, limit), mode="r:") as archive:
        for entry in archive:
            if entry.isdir():
                target.path_of(entry.name)
                continue
            if not entry.isreg() or entry.issparse():
                target.refuse(entry.name, "which is a link or a device; archives hold files and folders")
            content = archive.extractfile(entry)
            assert content is not None
            target.write(entry.name, content)


@contextmanager
def _decompressed(file: IO[bytes], head: bytes) -> Iterator[Any]:
    if head[:2] == b"\x1f\x8b":
        with gzip.GzipFile(fileobj=file) as plain:
            yield plain
    elif head[:3] == b"BZh":
        with bz2.BZ2File(file) as plain:
            yield plain
    elif head == b"\xfd7zXZ\x00":
        with lzma.LZMAFile(file) as plain:
            yield plain
    else:
        yield file


class _Bounded(io.RawIOBase):
    """The bytes of a tar, with an end: a header's length is nothing that memory or time is spent on unasked."""

    def __init__(self, file: IO[bytes], limit: int):
        super().__init__()
        self._file = file
        # Headers and padding, a kilobyte an entry at most, come on top of the files.
        self._end = limit + 2048 * ENTRIES_MAX

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _READ_BYTES_MAX:
            raise ArchiveError(f"the archive has a header of {size} bytes; at most {_READ_BYTES_MAX} are read")
        self._check(self._file.tell() + size)
        return self._file.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_SET:
            self._check(offset)
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def _check(self, end: int) -> None:
        if end > self._end:
            raise ArchiveError(f"the archive unpacks to more than {self._end} bytes; unpack it yourself and give folder=")
