"""Answers of plain numbers, read back by pyarrow."""

import math

import pyarrow as pa
import pytest
from sluice.worker.flat import CODES, FlatWriter
from sluice.worker.outputs import OutputWriter


def read(parts: list) -> pa.Array:
    table = pa.ipc.open_stream(b"".join(map(bytes, parts))).read_all()
    table.validate(full=True)
    return table.column("result").combine_chunks()


@pytest.mark.parametrize("kind", list(CODES), ids=str)
@pytest.mark.parametrize("rows", [1, 7, 8, 9, 63, 64, 65, 1000])
def test_flat_streams_are_what_pyarrow_reads(kind, rows):
    schema = pa.schema([pa.field("result", kind, True)])
    is_float = pa.types.is_floating(kind)
    values = [row * 0.5 for row in range(rows)] if is_float else [row % 128 for row in range(rows)]
    stream = FlatWriter.of(kind, schema).stream(values)
    assert stream is not None
    table = pa.ipc.open_stream(stream).read_all()
    table.validate(full=True)
    assert table.schema == schema
    assert table.column("result").to_pylist() == values
    reference = pa.BufferOutputStream()
    with pa.ipc.new_stream(reference, schema) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays([pa.array(values, kind)], schema=schema))
    assert stream == reference.getvalue().to_pybytes()


@pytest.mark.parametrize("kind", ["int64", "uint8", "float32", "float64"])
def test_other_values_go_the_long_way(kind):
    writer = OutputWriter({"type": kind, "nullable": True})
    rows, errors, parts = writer.encode([1, None, 3], 3)
    assert (rows, errors, read(parts).to_pylist()) == (3, [], [1, None, 3])


def test_numbers_that_do_not_fit_name_their_row():
    writer = OutputWriter({"type": "int8", "nullable": True})
    with pytest.raises(Exception, match="row 1 of the answer is 1000"):
        writer.encode([1, 1000], 2)
    with pytest.raises(Exception, match="row 0 of the answer is 1.5"):
        writer.encode([1.5], 1)


def test_floats_that_are_too_large_become_infinite_as_everywhere():
    _, _, parts = OutputWriter({"type": "float32", "nullable": True}).encode([1e300, math.nan], 2)
    first, second = read(parts).to_pylist()
    assert math.isinf(first)
    assert math.isnan(second)


def test_a_wrong_length_names_both():
    with pytest.raises(Exception, match="got 3 rows and returned 2"):
        OutputWriter({"type": "int64", "nullable": True}).encode([1, 2], 3)
