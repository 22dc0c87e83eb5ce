"""Archives of models: what is unpacked, and everything that an archive must not do."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from sluice.models import archives, importing
from sluice.models.archives import ArchiveError, unpack

FILES = {"model.onnx": b"weights" * 1000, "labels/names.txt": b"cat\ndog\n", "labels/empty": b"", "naïve/ü.txt": b"\xff"}


def tar_of(files: dict[str, bytes], prefix: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(prefix + name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def zip_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def same(data: bytes) -> bytes:
    return data


@pytest.fixture
def place(tmp_path: Path) -> Callable[[bytes], dict[str, Path]]:
    """Unpacks bytes; what is beside the folder afterwards would be an escape."""

    def unpacked(data: bytes) -> dict[str, Path]:
        source, folder = tmp_path / "archive", tmp_path / "folder"
        source.write_bytes(data)
        folder.mkdir(exist_ok=True)
        try:
            return unpack(source, folder)
        finally:
            assert sorted(os.listdir(tmp_path)) == ["archive", "folder"]
            assert not [inner for inner in folder.rglob("*") if inner.is_symlink()]

    return unpacked


@pytest.mark.parametrize(
    ("make", "pack"),
    [(zip_of, same), (tar_of, same), (tar_of, gzip.compress), (tar_of, bz2.compress), (tar_of, lzma.compress)],
    ids=["zip", "tar", "gzip", "bzip2", "xz"],
)
def test_files_come_as_they_are(place, make, pack):
    found = place(pack(make(FILES)))
    assert {name: path.read_bytes() for name, path in found.items()} == FILES


def test_a_tar_of_a_folder_is_that_folder(place, tmp_path):
    made = tmp_path / "archive"
    inner = tmp_path / "folder"
    inner.mkdir()
    (inner / "a").write_bytes(b"1")
    (inner / "sub").mkdir()
    (inner / "sub" / "b").write_bytes(b"2")
    with tarfile.open(made, "w:gz") as archive:
        archive.add(inner, arcname=".")
    data = made.read_bytes()
    for path in (inner / "a", inner / "sub" / "b"):
        path.unlink()
    assert sorted(place(data)) == ["a", "sub/b"]


NAMES = [
    "/etc/passwd",
    "../escape",
    "a/../../escape",
    "a/..",
    "C:/escape",
    "a\\..\\..\\escape",
    "a\x07b",
    "a\nb",
    "/".join("a" * 33),
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("make", [tar_of, zip_of], ids=["tar", "zip"])
def test_a_name_that_leads_elsewhere_is_refused(place, make, name):
    with pytest.raises(ArchiveError, match="relative path|leads out|control characters|parts"):
        place(make({"good": b"1", name: b"2"}))


KINDS = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE, b"Z"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_tar_has_files_and_folders_only(place, kind):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("link")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
        target = tarfile.TarInfo("link/inside")
        target.size = 1
        archive.addfile(target, io.BytesIO(b"x"))
    with pytest.raises(ArchiveError, match="link or a device|no whole zip or tar"):
        place(buffer.getvalue())


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_a_zip_has_files_and_folders_only(place, kind):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        entry = zipfile.ZipInfo("link")
        entry.create_system, entry.external_attr = 3, (kind | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(ArchiveError, match="link or a device"):
        place(buffer.getvalue())


def test_an_encrypted_zip_is_refused(place):
    data = bytearray(zip_of({"a": b"secret"}))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    with pytest.raises(ArchiveError, match="encrypted"):
        place(bytes(data))


@pytest.mark.parametrize("make", [tar_of, zip_of], ids=["tar", "zip"])
def test_a_bomb_stops_at_its_limit(place, monkeypatch, make):
    monkeypatch.setattr(archives, "FREE_BYTES", 2**20)
    pack = gzip.compress if make is tar_of else same
    with pytest.raises(ArchiveError, match="unpacks to more than"):
        place(pack(make({"zeros": bytes(8 * 2**20)})))
    # What does not compress is not cut.
    assert place(make({"weights": os.urandom(3 * 2**20)})).keys() == {"weights"}


def test_a_header_of_gigabytes_is_not_read(place):
    member = tarfile.TarInfo("header")
    member.type, member.size = tarfile.XHDTYPE, 4 * 2**30
    with pytest.raises(ArchiveError, match="header of 4294967296 bytes"):
        place(gzip.compress(member.tobuf(tarfile.GNU_FORMAT) + bytes(2**20)))


def test_a_file_that_says_that_it_is_endless_is_refused(place):
    member = tarfile.TarInfo("endless")
    member.size = 2**60
    with pytest.raises(ArchiveError, match="unpacks to more than|unexpected end"):
        place(gzip.compress(member.tobuf(tarfile.GNU_FORMAT) + bytes(2**20)))


@pytest.mark.parametrize("make", [tar_of, zip_of], ids=["tar", "zip"])
def test_there_is_a_limit_of_files_and_of_entries(place, monkeypatch, make):
    monkeypatch.setattr(archives, "FILES_MAX", 10)
    with pytest.raises(ArchiveError, match="more than 10 files"):
        place(make({f"f{i}": b"" for i in range(11)}))
    monkeypatch.setattr(archives, "ENTRIES_MAX", 5)
    with pytest.raises(ArchiveError, match="more than 5 entries"):
        place(make({f"g{i}": b"" for i in range(6)}))


@pytest.mark.parametrize("pair", [("a", "a"), ("a", "./a"), ("a", "a/b"), ("a/b", "a")])
def test_one_name_is_one_file(place, pair):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in pair:
            member = tarfile.TarInfo(name)
            member.size = 1
            archive.addfile(member, io.BytesIO(b"x"))
    with pytest.raises(ArchiveError, match="another entry"):
        place(buffer.getvalue())


@pytest.mark.parametrize(
    ("make", "pack"),
    [(tar_of, same), (tar_of, gzip.compress), (tar_of, lzma.compress), (zip_of, same)],
    ids=["tar", "gzip", "xz", "zip"],
)
def test_an_archive_that_is_cut_off_anywhere_is_never_half_a_model(place, tmp_path, make, pack):
    data = pack(make({name: os.urandom(4000) for name in ("a", "b", "c")}))
    whole = 3
    for end in range(0, len(data), 997):
        for path in (tmp_path / "folder").glob("*"):
            path.unlink()
        try:
            found = place(data[:end])
        except ArchiveError:
            continue
        # A plain tar that ends between two files has no sign of it but that it is shorter.
        assert pack is same and make is tar_of and len(found) <= whole
        assert all(path.stat().st_size == 4000 for path in found.values())


@pytest.mark.parametrize("data", [b"", b"hello", b"PK\x03\x04", b"\x1f\x8b", b"BZh9", b"\xfd7zXZ\x00", bytes(2048)])
def test_what_is_no_archive_is_refused(place, data):
    with pytest.raises(ArchiveError):
        place(data)


def headers(count: int, kind: bytes) -> bytes:
    """Headers of headers, and no file behind them."""
    member = tarfile.TarInfo("more")
    member.type, member.size = kind, 8
    return (member.tobuf(tarfile.GNU_FORMAT) + b"7 a=bb\n\0".ljust(512, b"\0")) * count


def sparse(**numbers: str) -> bytes:
    member = tarfile.TarInfo("a")
    member.size, member.pax_headers = 1, {name.replace("_", "."): value for name, value in numbers.items()}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(member, io.BytesIO(b"x"))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        headers(3000, tarfile.GNUTYPE_LONGNAME),
        headers(3000, tarfile.XHDTYPE),
        headers(3000, tarfile.XGLTYPE),
        sparse(GNU_sparse_major="0", GNU_sparse_minor="1", GNU_sparse_map="x,y"),
        sparse(GNU_sparse_major="1", GNU_sparse_minor="0", GNU_sparse_name="b", GNU_sparse_realsize="9"),
        zip_of({"a": b"x"}).replace(b"a", b"\0"),
        tar_of({"a" * 256: b"x"}),
        zip_of({"ü" * 128: b"x"}),
    ],
    ids=["names", "extensions", "defaults", "map", "blocks", "nameless", "long", "wide"],
)
def test_a_header_that_lies_is_an_error_of_the_archive(place, data):
    with pytest.raises(ArchiveError):
        place(data)


@pytest.mark.parametrize("at", range(4, 10))
def test_a_block_whose_beginning_is_changed_is_an_error_of_the_archive(place, at):
    packed = bytearray(bz2.compress(tar_of(FILES)))
    packed[at] ^= 255
    with pytest.raises(ArchiveError):
        place(bytes(packed))


def test_a_folder_is_taken_with_the_files_of_links_to_folders(tmp_path):
    (tmp_path / "model" / "v1").mkdir(parents=True)
    (tmp_path / "model" / "v1" / "weights").write_bytes(b"w")
    (tmp_path / "model" / "current").symlink_to("v1")
    with importing.imported_files(None, tmp_path / "model") as files:
        assert sorted(files) == ["current/weights", "v1/weights"]
    (tmp_path / "model" / "v1" / "up").symlink_to("..")
    with pytest.raises(importing.DeclarationError, match="which it lies in"), importing.imported_files(None, tmp_path / "model"):
        pass


def test_a_folder_is_taken_without_links_that_leave_it(tmp_path):
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "weights").write_bytes(b"w")
    (folder / "sub" / "names").write_bytes(b"n")
    (folder / "again").symlink_to("weights")
    with importing.imported_files(None, folder) as files:
        assert {name: path.read_bytes() for name, path in files.items()} == {
            "weights": b"w",
            "sub/names": b"n",
            "again": b"w",
        }
    (tmp_path / "secret").write_bytes(b"s")
    (folder / "out").symlink_to(tmp_path / "secret")
    with pytest.raises(importing.DeclarationError, match="outside"), importing.imported_files(None, folder):
        pass
    (folder / "out").unlink()
    os.mkfifo(folder / "pipe")
    with pytest.raises(importing.DeclarationError, match="neither"), importing.imported_files(None, folder):
        pass


def test_an_archive_or_a_folder_and_not_both(tmp_path):
    for given in ((None, None), (tmp_path, tmp_path), (tmp_path, None), (None, tmp_path / "nowhere"), (None, tmp_path)):
        with pytest.raises(importing.DeclarationError), importing.imported_files(*given):
            pass


def test_labels_are_a_list_or_a_mapping():
    assert importing.label_indices(["cat", "dog"]) == {"cat": 0, "dog": 1}
    assert importing.label_indices({"dog": 5}) == {"dog": 5}
    assert importing.label_indices(None) == {}
    for labels in (["a", "a"], {"a": -1}, {"a": True}, {1: 1}, "cat", {"a": 1.0}):
        with pytest.raises(importing.DeclarationError, match="class_labels"):
            importing.label_indices(labels)
