"""Writes the rows that the load tests send: 60 characters each, different from row to row. rows.py --help"""

import argparse
import struct
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CHARACTERS = 60
SCHEMA = pa.schema([pa.field("text", pa.string(), nullable=False)])
ALPHABET = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz ABCDE", np.uint8)


def batches(rows: int, batch_rows: int) -> Iterator[pa.RecordBatch]:
    random = np.random.default_rng(7)
    for first in range(0, rows, batch_rows):
        count = min(batch_rows, rows - first)
        letters = ALPHABET[random.integers(0, len(ALPHABET), count * CHARACTERS, np.uint8)]
        offsets = pa.py_buffer(np.arange(0, (count + 1) * CHARACTERS, CHARACTERS, dtype=np.int32))
        text = pa.StringArray.from_buffers(count, offsets, pa.py_buffer(letters))
        yield pa.record_batch([text], schema=SCHEMA)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--batch-rows", type=int, default=1000)
    parser.add_argument("--frames", help="write Arrow streams of one batch each, a u32 length before each")
    parser.add_argument("--parquet", help="write one Parquet file")
    options = parser.parse_args()
    if options.frames:
        with open(options.frames, "wb") as out:
            for batch in batches(options.rows, options.batch_rows):
                sink = pa.BufferOutputStream()
                with pa.ipc.new_stream(sink, SCHEMA) as writer:
                    writer.write_batch(batch)
                out.write(struct.pack("<I", sink.getvalue().size))
                out.write(sink.getvalue())
    if options.parquet:
        with pq.ParquetWriter(options.parquet, SCHEMA) as writer:
            for batch in batches(options.rows, 100_000):
                writer.write_batch(batch)


if __name__ == "__main__":
    main()
