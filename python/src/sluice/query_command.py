"""``python -m sluice.query_command``: what ``sluice sql`` runs. The server and the key are $SLUICE_URL and $SLUICE_API_KEY."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from sluice.catalog import CatalogCallError
from sluice.errors import SluiceError
from sluice.query import Query, Shape, duckdb_module
from sluice.query_inferences import Fetching

FORMATS = ("table", "csv", "json", "ndjson")
TABLE_ROWS_MAX = 200
"""Rows that a table on a terminal shows; the query stops behind them, and so do its calls."""
EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130

Batches = Iterator[pa.RecordBatch]
Write = Callable[[pa.Schema, Batches, Any], None]


class UsageError(ValueError):
    """The command line is wrong; the message says what to write instead."""


def parameter(text: str) -> tuple[str, Any]:
    """``name=value``; a value that is JSON (3, true, null, "3", [1, 2]) is taken as that, anything else as text."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f'"{text}" is not name=value')
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="sluice sql")
    parser.add_argument("query")
    parser.add_argument("--format", choices=FORMATS)
    parser.add_argument("--output")
    parser.add_argument("--on-error", choices=("fail", "null"), default="fail")
    parser.add_argument("--param", action="append", type=parameter, default=[])
    parser.add_argument("--concurrent-chunks", type=int, default=16)
    return parser.parse_args(given)


def write_csv(schema: pa.Schema, batches: Batches, sink: Any) -> None:
    import pyarrow.csv as csv

    with csv.CSVWriter(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def write_ndjson(_: pa.Schema, batches: Batches, sink: Any) -> None:
    for line in _lines(batches):
        sink.write(line + b"\n")


def write_json(_: pa.Schema, batches: Batches, sink: Any) -> None:
    before = b"[\n"
    for line in _lines(batches):
        sink.write(before + line)
        before = b",\n"
    sink.write(b"[]\n" if before == b"[\n" else b"\n]\n")


def _lines(batches: Batches) -> Iterator[bytes]:
    for batch in batches:
        for line in batch.column(0).to_pylist():
            yield line.encode()


def write_table(schema: pa.Schema, batches: Batches, _: Any) -> None:
    kept: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        kept.append(batch)
        rows += batch.num_rows
        if rows > TABLE_ROWS_MAX:
            break
    table = pa.Table.from_batches(kept, schema)
    width = shutil.get_terminal_size((120, 40)).columns
    shown = duckdb_module().connect().from_arrow(table.slice(0, TABLE_ROWS_MAX))
    shown.show(max_rows=TABLE_ROWS_MAX, max_width=width)
    if rows > TABLE_ROWS_MAX:
        sys.stderr.write(
            f"These are the first {TABLE_ROWS_MAX} rows, and the query stopped there; "
            "all of them go to --output FILE, or with --format csv, json or ndjson.\n"
        )


def write_parquet(schema: pa.Schema, batches: Batches, sink: Any) -> None:
    import pyarrow.parquet as pq

    with pq.ParquetWriter(sink, schema) as writer:
        for batch in _joined(schema, batches):
            writer.write_table(batch)


ROW_GROUP_ROWS = 122_880
"""Of DuckDB, which reads a file with one thread for each."""
ROW_GROUP_BYTES = 64 * 1024 * 1024


def _joined(schema: pa.Schema, batches: Batches) -> Iterator[pa.Table]:
    waiting: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        waiting.append(batch)
        rows, size = rows + batch.num_rows, size + batch.nbytes
        if rows >= ROW_GROUP_ROWS or size >= ROW_GROUP_BYTES:
            yield pa.Table.from_batches(waiting, schema)
            waiting, rows, size = [], 0, 0
    if waiting:
        yield pa.Table.from_batches(waiting, schema)


def write_arrow(schema: pa.Schema, batches: Batches, sink: Any) -> None:
    with pa.ipc.new_file(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def write_arrow_stream(schema: pa.Schema, batches: Batches, sink: Any) -> None:
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


BY_FORMAT: dict[str, Write] = {"table": write_table, "csv": write_csv, "json": write_json, "ndjson": write_ndjson}
BY_SUFFIX: dict[str, Write] = {
    ".parquet": write_parquet,
    ".csv": write_csv,
    ".arrow": write_arrow,
    ".arrows": write_arrow_stream,
}


SHAPES: dict[Write, Shape] = {write_csv: "flat", write_json: "json", write_ndjson: "json"}


def show_fetching(fetching: Fetching) -> None:
    """One line of a terminal, written over until all files are there."""
    of = fetching.files_total
    files = f"{of:,} file{'' if of == 1 else 's'}"
    done = f"{fetching.files:,} of " if fetching.files < of else ""
    line = f"inference_store('{fetching.group}'): {done}{files}, {fetching.bytes / 2**20:.1f} MiB fetched"
    sys.stderr.write(f"\r\x1b[K{line}{'' if done else chr(10)}")
    sys.stderr.flush()


class Counted:
    """Batches as they pass, counted."""

    def __init__(self, batches: Batches):
        self._batches = batches
        self.rows = 0

    def __iter__(self) -> Batches:
        for batch in self._batches:
            self.rows += batch.num_rows
            yield batch


def to_file(query: Query, output: str) -> None:
    """The file is there under its name only when it is whole."""
    path = Path(output)
    write = BY_SUFFIX[path.suffix.lower()]
    schema, batches = query.batches(SHAPES.get(write))
    counted = Counted(batches)
    partial = path.with_name(f"{path.name}.partial")
    try:
        with open(partial, "wb") as sink:
            write(schema, iter(counted), sink)
            sink.flush()
            os.fsync(sink.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    print(f"{output}: {counted.rows:,} rows")


def run(options: argparse.Namespace) -> None:
    if options.output is not None and Path(options.output).suffix.lower() not in BY_SUFFIX:
        raise UsageError(f"--output is {options.output}; its name must end in one of {', '.join(BY_SUFFIX)}.")
    if options.output is not None and options.format is not None:
        raise UsageError("Give either --output, whose name says the format, or --format.")
    text = sys.stdin.read() if options.query == "-" else options.query
    on_error = "null" if options.on_error == "null" else "raise"
    chunks, progress = options.concurrent_chunks, show_fetching if sys.stderr.isatty() else None
    with Query(text, params=dict(options.param), on_error=on_error, concurrent_chunks=chunks, progress=progress) as query:
        if options.output is not None:
            to_file(query, options.output)
        else:
            chosen = options.format or ("table" if sys.stdout.isatty() else "csv")
            write = BY_FORMAT[chosen]
            write(*query.batches(SHAPES.get(write)), sys.stdout.buffer)
        sys.stdout.flush()
        if query.calls.rows_failed > 0:
            said = f"{query.calls.rows_failed:,} rows of calls failed and are null; the first: {query.calls.first_failed}"
            sys.stderr.write(f"sluice: {said}\n")


def _ended(message: object, code: int) -> int:
    text = str(message)
    if isinstance(message, CatalogCallError):
        text += ". Correct the row, or let such results be null with --on-error null."
    sys.stderr.write(f"sluice: {text}\n")
    return code


def main() -> int:
    try:
        run(arguments())
    except UsageError as error:
        return _ended(error, EXIT_USAGE)
    except KeyboardInterrupt:
        return _ended("Interrupted.", EXIT_INTERRUPTED)
    except BrokenPipeError:
        # A reader that closes early, such as `head`, ends the command quietly.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (SluiceError, ValueError, OSError) as error:
        return _ended(error, EXIT_FAILED)
    return 0


if __name__ == "__main__":
    sys.exit(main())
