"""Files of megabytes to the real server and back, over kills, cut connections and changes under the reader's hands."""

from __future__ import annotations

import os
import threading
from urllib.parse import urlsplit

import pytest
from server_process import Server
from sluice import ConnectionError, ServerError
from sluice.artifacts import PIECE_BYTES, Artifacts, DownloadError, FileChangedError, digest_of
from sluice.transport import Response, Transport

PIECES = 3
LENGTH = PIECES * PIECE_BYTES + 12345


class Sending(Transport):
    """Keeps the offsets of what was sent, and calls ``before`` ahead of each piece with its number."""

    def __init__(self, url, before=lambda number: None, **more):
        super().__init__(url, None, **more)
        self.offsets: list[int] = []
        self.before = before

    def request(self, method, path, **more) -> Response:
        if method == "PATCH":
            self.before(len(self.offsets))
            self.offsets.append(int(more["headers"]["upload-offset"]))
        return super().request(method, path, **more)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "weights.bin"
    path.write_bytes(os.urandom(LENGTH))
    return path


def test_a_file_goes_up_in_pieces_and_comes_back(server, file, tmp_path):
    transport = Sending(server.url)
    artifacts = Artifacts(transport)
    seen: list[tuple[int, int]] = []
    artifact = artifacts.upload(file, progress=lambda done, total: seen.append((done, total)))
    assert artifact == (digest_of(file), LENGTH)
    assert transport.offsets == [at * PIECE_BYTES for at in range(PIECES + 1)]
    assert seen == [(at * PIECE_BYTES, LENGTH) for at in range(PIECES + 1)] + [(LENGTH, LENGTH)]
    assert artifacts.state(artifact.digest) == (True, LENGTH, LENGTH)
    back: list[tuple[int, int]] = []
    target = tmp_path / "back.bin"
    assert artifacts.download(artifact.digest, target, progress=lambda *at: back.append(at)) == target
    assert target.read_bytes() == file.read_bytes()
    assert back == [((at + 1) * PIECE_BYTES, LENGTH) for at in range(PIECES)] + [(LENGTH, LENGTH)]
    assert artifacts.upload(file) == artifact
    assert len(transport.offsets) == PIECES + 1


@pytest.mark.parametrize("length", [0, 1, PIECE_BYTES])
def test_bytes_go_up_as_well(server, tmp_path, length):
    artifacts = Artifacts(Transport(server.url, None))
    data = os.urandom(length)
    artifact = artifacts.upload(data)
    assert artifacts.download(artifact.digest, tmp_path / "x").read_bytes() == data


def test_an_upload_goes_on_where_another_broke_off(server, file):
    def leave(number):
        if number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Artifacts(Sending(server.url, leave)).upload(file)
    transport = Sending(server.url)
    Artifacts(transport).upload(file)
    assert transport.offsets == [2 * PIECE_BYTES, 3 * PIECE_BYTES]


def test_an_upload_goes_on_after_a_kill(home, file, tmp_path):
    flags = home(tmp_path)
    servers = [Server(flags)]
    port = urlsplit(servers[0].url).port

    def kill(number):
        if number == 2:
            servers[-1].kill()
            servers.append(Server(flags, port))

    transport = Sending(servers[0].url, kill)
    artifact = Artifacts(transport).upload(file)
    assert transport.offsets == [at * PIECE_BYTES for at in range(PIECES + 1)]
    assert Artifacts(transport).download(artifact.digest, tmp_path / "back").read_bytes() == file.read_bytes()
    servers[-1].stop()


def test_an_upload_goes_on_after_a_kill_in_the_middle_of_a_piece(home, file, tmp_path):
    flags = home(tmp_path)
    servers = [Server(flags)]
    port = urlsplit(servers[0].url).port
    transport = Sending(servers[0].url)
    artifacts = Artifacts(transport)
    digest = digest_of(file)

    def rise():
        while artifacts.state(digest).offset < PIECE_BYTES + 2**20:
            pass
        servers[-1].kill()
        servers.append(Server(flags, port))

    def slowly(data):
        """Half of the piece, and the rest once the server is another."""
        yield data[: PIECE_BYTES // 2]
        killer.join()
        yield data[PIECE_BYTES // 2 :]

    killer = threading.Thread(target=rise)
    content = file.read_bytes()
    artifacts.append(digest, 0, LENGTH, content[:PIECE_BYTES])
    killer.start()
    with pytest.raises((ConnectionError, ServerError)):
        once = Artifacts(Transport(servers[0].url, None, retries=0))
        once.append(digest, PIECE_BYTES, LENGTH, _Sized(slowly(content[PIECE_BYTES : 2 * PIECE_BYTES])))
    killer.join()
    kept = artifacts.state(digest).offset
    assert PIECE_BYTES + 2**20 <= kept < 2 * PIECE_BYTES
    assert artifacts.upload(file).digest == digest
    assert transport.offsets[1] == kept
    assert artifacts.download(digest, tmp_path / "back").read_bytes() == content
    servers[-1].stop()


class _Sized:
    """A body that comes bit by bit, as long as a piece."""

    def __init__(self, parts):
        self._parts = parts

    def __iter__(self):
        return iter(self._parts)

    def __len__(self):
        return PIECE_BYTES


def test_two_senders_of_one_file_share_the_work(server, file):
    digest = digest_of(file)
    found = []
    senders = [
        threading.Thread(target=lambda: found.append(Artifacts(Transport(server.url, None)).upload(file))) for _ in range(4)
    ]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert found == [(digest, LENGTH)] * 4


def test_a_file_that_changes_under_way_is_refused(server, file):
    def grow(number):
        if number == 1:
            with open(file, "ab") as more:
                more.write(b"more")

    with pytest.raises(FileChangedError, match="weights.bin was changed while it was uploaded"):
        Artifacts(Sending(server.url, grow)).upload(file)


def test_a_change_that_no_time_tells_is_refused_as_well(server, file):
    digest = digest_of(file)

    def spoil(number):
        if number == 1:
            facts = os.stat(file)
            with open(file, "r+b") as some:
                some.seek(2 * PIECE_BYTES)
                some.write(b"spoiled")
            os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns))

    artifacts = Artifacts(Sending(server.url, spoil))
    with pytest.raises(FileChangedError):
        artifacts.upload(file)
    assert artifacts.state(digest) == (False, 0, None)


def test_what_somebody_else_sent_wrong_is_sent_again(server, file):
    digest = digest_of(file)
    artifacts = Artifacts(Transport(server.url, None))
    artifacts.append(digest, 0, LENGTH, os.urandom(PIECE_BYTES))
    assert artifacts.upload(file) == (digest, LENGTH)


def test_a_wrong_length_that_somebody_told_is_corrected(server, file):
    digest = digest_of(file)
    artifacts = Artifacts(Transport(server.url, None))
    artifacts.append(digest, 0, LENGTH + 1, os.urandom(PIECE_BYTES))
    assert artifacts.upload(file) == (digest, LENGTH)


def test_what_is_not_there_is_not_written(server, tmp_path):
    artifacts = Artifacts(Transport(server.url, None))
    with pytest.raises(ServerError) as caught:
        artifacts.download("sha256:" + "0" * 64, tmp_path / "x")
    assert caught.value.code == "artifact_not_found"
    assert list(tmp_path.iterdir()) == []


def test_bytes_that_are_not_the_digests_are_not_written(server, tmp_path):
    class Spoiling(Transport):
        def request(self, method, path, **more) -> Response:
            answer = super().request(method, path, **more)
            return (
                answer
                if method != "GET"
                else Response(answer.status, answer.headers, bytes([answer.data[0] ^ 1]) + answer.data[1:])
            )

    digest = Artifacts(Transport(server.url, None)).upload(os.urandom(100)).digest
    (tmp_path / "x").write_text("as it was")
    with pytest.raises(DownloadError, match="have the digest"):
        Artifacts(Spoiling(server.url, None)).download(digest, tmp_path / "x")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_text() == "as it was"


def test_a_digest_that_is_none_is_named(server):
    with pytest.raises(ValueError, match="digest is '../x'"):
        Artifacts(Transport(server.url, None)).state("../x")
