"""Chunks with rows that are too large for the server, on a server of small bodies."""

import json

import pyarrow as pa
import pytest
import sluice
from server_process import HANDLERS, Server

LARGE, NULL = 7, 5
TEXTS = [f"text {i}" for i in range(20)]
TEXTS[LARGE] = "x" * 100_000
TEXTS[NULL] = None
TABLE = pa.table({"text": TEXTS})


@pytest.fixture(scope="module")
def upper(home, tmp_path_factory):
    running = Server([*home(tmp_path_factory.mktemp("limits")), "--body-bytes-max", "64KiB"])
    try:
        sluice.deploy(HANDLERS / "restarted.py", url=running.url)
        yield sluice.Remote(running.url).function("upper")
    finally:
        running.stop()


@pytest.mark.parametrize("chunk_size", [1, 5, 20])
def test_null_for_the_row_that_is_too_large_and_only_for_it(upper, chunk_size):
    got = upper.chunked_call(TABLE, chunk_size=chunk_size, on_error="null")
    expected = [None if row in (LARGE, NULL) else text.upper() for row, text in enumerate(TEXTS)]
    assert got.column("result").to_pylist() == expected
    errors = {row: json.loads(error) for row, error in enumerate(got.column("error").to_pylist()) if error is not None}
    assert {row: error["code"] for row, error in errors.items()} == {LARGE: "payload_too_large", NULL: "schema_mismatch"}
    assert errors[NULL]["message"] == f'column "text" is not nullable, but row {NULL} is null'


@pytest.mark.parametrize(
    ("chunk_size", "named", "way_on"),
    [
        (4, "Chunk 1 (rows 4 to 7) failed: ", "lower chunk_size or raise num_chunks, or give on_error"),
        (1, "Chunk 7 (rows 7 to 7) failed: ", '; give on_error="null" to go on without a row that is too large'),
    ],
)
def test_the_error_of_a_chunk_that_is_too_large_names_it_and_the_way_on(upper, chunk_size, named, way_on):
    with pytest.raises(sluice.ChunkFailedError) as caught:
        upper.chunked_call({"text": [text or "" for text in TEXTS]}, chunk_size=chunk_size, concurrent_chunks=1)
    assert str(caught.value).startswith(f"{named}The body is larger than 65536 bytes")
    assert way_on in str(caught.value)
    assert caught.value.code == "payload_too_large"
