"""SQL on DuckDB in which ``catalog_call('function', …)`` calls functions of the server, many rows and many calls at once, and
``inference_store('group', …)`` is a table of what a scaling group was asked and answered."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Literal

import pyarrow as pa
from pyarrow import types as pt

from sluice.catalog import CatalogCallError, CatalogCalls, CatalogFunction
from sluice.query_inferences import Progress, StoredInferences
from sluice.query_rewrite import CALL, STORE, ParsedQuery, QueryError, StoreCall, parquet_file, value_of
from sluice.remote import Remote
from sluice.requirements import requirement
from sluice.rows import table_of

VECTOR_ROWS = 2048
"""DuckDB calls a function with at most this many rows, each time in a thread that waits for the answer."""
THREADS_MAX = 256
RESULT_ROWS = 16_384
"""Rows of a result batch at most."""


Shape = Literal["json", "flat"] | None


def duckdb_module() -> Any:
    try:
        import duckdb
    except ImportError:
        raise QueryError(
            f"SQL needs DuckDB, which is not installed here; run: python -m pip install {requirement('sql')}"
        ) from None
    return duckdb


class Query:
    """One query, parsed and bound; a context manager. :meth:`batches` runs it once.

    The connection and what it refers to are let go in :meth:`close`, which also cancels the calls in flight.
    """

    def __init__(
        self,
        text: str,
        *,
        url: str | None = None,
        api_key: str | None = None,
        params: Mapping[str, Any] | None = None,
        on_error: str = "raise",
        concurrent_chunks: int = 16,
        tables: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ):
        threads = concurrent_chunks
        if not isinstance(threads, int) or isinstance(threads, bool) or not 1 <= threads <= THREADS_MAX:
            raise ValueError(f"concurrent_chunks is {threads!r}; it takes a whole number from 1 to {THREADS_MAX}")
        if not isinstance(text, str) or not text.strip():
            raise ValueError("the query is empty; give one SELECT")
        self._duckdb = duckdb_module()
        self.calls = CatalogCalls(on_error)
        self._remote: Callable[[], Remote] = lambda: Remote(url, api_key)
        self._functions: dict[str, CatalogFunction] = {}
        self._registered: dict[str, str] = {}
        self._reader: Any = None
        # DuckDB also calls functions in the thread that waits for it. An interrupt comes to the main thread, where it would
        # cut off a submission whose call nobody could cancel any more.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sluice-query")
        self._params = dict(params or {})
        self._names: dict[str, str] = {}
        self._progress = progress
        self._stored: StoredInferences | None = None
        self._threads = threads
        # Variables of the caller are no tables: a query says what it reads.
        self._connection = self._duckdb.connect(config={"threads": threads, "python_enable_replacements": False})
        try:
            self._tables(tables or {})
            self._text = self._rewritten(text, set(tables or {}))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Query:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.calls.stop()
        self.calls.join()
        self._connection.interrupt()
        self._thread.shutdown(wait=True)
        if self._reader is not None:
            self._reader.close()
        for name in self._registered:
            self._connection.remove_function(name)
        self._registered = {}
        self._connection.close()
        if self._stored is not None:
            self._stored.close()

    def batches(self, shape: Shape = None) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """The result's schema, and its rows as they come. ``shape``: ``"json"`` for one column of a JSON text a row,
        ``"flat"`` for texts in place of lists and structs."""

        def begun() -> Any:
            return self._connection.sql(self._shaped(shape), params=self._params).to_arrow_reader(RESULT_ROWS)

        reader = self._reader = self._guarded(begun)

        def rows() -> Iterator[pa.RecordBatch]:
            while True:
                batch = self._guarded(lambda: next(reader, None))
                if batch is None:
                    return
                yield batch

        return reader.schema, rows()

    def _shaped(self, shape: Shape) -> str:
        if shape == "json":
            return f"SELECT to_json(result)::VARCHAR FROM ({self._text}) result"
        if shape == "flat":
            return f"SELECT {self._flat_columns()} FROM ({self._text})"
        return self._text

    def _flat_columns(self) -> str:
        # Of the query as a table, whose columns all have names of their own.
        result = self._connection.sql(f"SELECT * FROM ({self._text})", params=self._params)
        quoted = ['"' + name.replace('"', '""') + '"' for name in result.columns]
        nested = [kind.id in ("list", "array", "struct", "map", "union", "variant") for kind in result.types]
        pairs = zip(quoted, nested, strict=True)
        return ", ".join(f"{name}::VARCHAR AS {name}" if is_nested else name for name, is_nested in pairs)

    def table(self) -> pa.Table:
        schema, rows = self.batches()
        return pa.Table.from_batches(list(rows), schema)

    def _guarded(self, run: Callable[[], Any]) -> Any:
        """DuckDB wraps what a function raises; the cause is raised in its place."""
        try:
            return self._thread.submit(run).result()
        except (self._duckdb.Error, pa.ArrowException, OSError) as error:
            if self.calls.failure is not None:
                raise self.calls.failure from None
            raise QueryError(self._plain(str(error))) from None

    def _plain(self, message: str) -> str:
        """A message of DuckDB in the names of the query. It quotes a line of what the query was made into."""
        if self._stored is not None:
            message = self._stored.plain(message)
        if self._registered or self._stored is not None:
            message = message.split("\n\nLINE ", 1)[0]
        for registered, function in self._registered.items():
            message = message.replace(f"{registered}(", f"{CALL}('{function}', ").replace(registered, f"{CALL}('{function}')")
        for name, source in self._names.items():
            message = message.replace(name, source)
        return message

    def _tables(self, tables: Mapping[str, Any]) -> None:
        for name, value in tables.items():
            table = table_of((value,), {}, lambda: None)
            # Threads take a table's batches one by one: large ones would leave most of them without work.
            batches = table.to_batches(max_chunksize=VECTOR_ROWS)
            self._connection.register(name, pa.Table.from_batches(batches, table.schema))

    def _rewritten(self, text: str, tables: set[str]) -> str:
        parsed = ParsedQuery(self._connection, text)
        stores = parsed.stores()
        for registered, name in parsed.rewrite_calls(self._checked).items():
            self._register(registered, self._functions[name])
        known = tables | self._store(stores, parsed)
        if self._registered:
            for source in parsed.take_sources(known, self._is_streamed):
                read = parsed.source_text(source.node)
                self._names[source.name] = _shown_source(read)
                self._stream(source.name, read, parsed)
        return parsed.text()

    def _store(self, calls: list[StoreCall], parsed: ParsedQuery) -> set[str]:
        """Lets each ``inference_store`` be a table; their names."""
        if not calls:
            return set()
        self._stored = StoredInferences(self._duckdb, self._connection, self._remote()._transport, self._params, self._progress)
        rows = [self._stored.rows(call, self._type_text) for call in calls]
        names = [f"__sluice_inferences_{i}" for i in range(len(calls))]
        for name, call in zip(names, calls, strict=True):
            self._names[name] = STORE
            parsed.read_from(call.node, name)
        for name, stored in zip(names, rows, strict=True):
            view = f"CREATE TEMP VIEW {name} AS {stored.text}"
            if self._registered and 0 < stored.row_groups < self._threads:
                self._stream(name, stored.text, parsed)
            else:
                self._guarded(partial(self._connection.execute, view))
        taken = {name for call in calls for argument in call.arguments for name in argument.parameters}
        left = parsed.parameters()
        # DuckDB refuses values that a query does not name.
        self._params = {name: value for name, value in self._params.items() if name not in taken or name in left}
        return set(names)

    def _checked(self, name: str, count: int) -> None:
        if name not in self._functions:
            self._functions[name] = CatalogFunction(self._remote(), name)
        self._functions[name].check_count(count)

    def _register(self, registered: str, function: CatalogFunction) -> None:
        if function.output_type is None:
            raise QueryError(f"{CALL}('{function.name}') has results of any type; SQL needs a function that declares one")
        target = _plain_result(function.output_type)

        def call(*columns: pa.Array) -> pa.Array:
            values = self.calls.run(function, [_plain_column(column) for column in columns])
            return values if values.type == target else values.cast(target)

        # DuckDB counts the parameters of what it is given.
        places = [inspect.Parameter(f"c{i}", inspect.Parameter.POSITIONAL_ONLY) for i in range(len(function.inputs))]
        call.__signature__ = inspect.Signature(places)  # type: ignore[attr-defined]
        self._connection.create_function(
            registered,
            call,
            [self._parameter(one.type) for one in function.inputs],
            self._type_text(function.output_type),
            type="arrow",
            null_handling="special",
            # Each row is one row of a call: nothing is folded, and no answer is used for another row.
            side_effects=True,
        )
        self._registered[registered] = function.name

    def _parameter(self, kind: pa.DataType | None) -> str:
        return "ANY" if kind is None else self._type_text(_widened(kind))

    def _type_text(self, kind: pa.DataType) -> str:
        """The DuckDB type of an Arrow type."""
        self._connection.register("__sluice_type", pa.table({"x": pa.array([], _plain_result(kind))}))
        try:
            return str(self._connection.sql("SELECT x FROM __sluice_type").types[0])
        except self._duckdb.Error as error:
            raise QueryError(f"DuckDB has no type for {kind}: {error}") from None
        finally:
            self._connection.unregister("__sluice_type")

    def _is_streamed(self, node: dict[str, Any]) -> bool:
        """DuckDB reads a Parquet file with one thread for each row group, which is enough where there are many."""
        file = parquet_file(node)
        if file is None:
            return True
        try:
            groups = value_of(self._connection, "SELECT sum(num_row_groups) FROM parquet_file_metadata(?)", file)
        except self._duckdb.Error:
            return False  # the query itself says what is wrong with the file
        return groups < self._threads

    def _stream(self, name: str, text: str, parsed: ParsedQuery) -> None:
        used = parsed.used_columns()
        reader = self._duckdb.connect()
        try:
            columns = reader.sql(text).columns
        except self._duckdb.Error as error:
            raise QueryError(self._plain(str(error))) from None
        finally:
            reader.close()
        wanted = columns if used is None else [one for one in columns if one.lower() in used] or columns[:1]
        quoted = ", ".join('"' + one.replace('"', '""') + '"' for one in wanted)
        self._connection.register(name, _Stream(self._duckdb, f"SELECT {quoted} FROM ({text})"))


class _Stream:
    """Rows of a query of DuckDB, from the beginning each time that they are asked for.

    They come from a DuckDB of their own: the threads of the other one are waiting for answers when they ask for rows.
    """

    def __init__(self, duckdb: Any, text: str):
        self._duckdb = duckdb
        self._text = text

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        connection = self._duckdb.connect(config={"python_enable_replacements": False, "arrow_lossless_conversion": True})
        # Handed on without a step in Python, which the waiting threads would have to take turns for.
        return connection.sql(self._text).to_arrow_reader(VECTOR_ROWS).__arrow_c_stream__(requested_schema)


def _shown_source(text: str) -> str:
    return text.removeprefix("SELECT * FROM ")


def _plain_column(column: Any) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _widened(kind: pa.DataType) -> pa.DataType:
    """What arguments may be given as: DuckDB widens numbers by itself, and the call narrows them with a check."""
    if pt.is_floating(kind):
        return pa.float64()
    if pt.is_integer(kind):
        return pa.uint64() if kind == pa.uint64() else pa.int64()
    if pt.is_fixed_size_list(kind):
        return pa.list_(_widened(kind.value_type), kind.list_size)
    if pt.is_list(kind) or pt.is_large_list(kind):
        return pa.list_(_widened(kind.value_type))
    if pt.is_struct(kind):
        return pa.struct([pa.field(field.name, _widened(field.type)) for field in kind])
    return kind


def _plain_result(kind: pa.DataType) -> pa.DataType:
    """The nearest type that DuckDB has."""
    if pt.is_float16(kind):
        return pa.float32()
    if pt.is_null(kind):
        return pa.int32()
    if pt.is_dictionary(kind):
        return _plain_result(kind.value_type)
    if pt.is_fixed_size_list(kind):
        return pa.list_(_plain_result(kind.value_type), kind.list_size)
    if pt.is_list(kind) or pt.is_large_list(kind):
        return pa.list_(_plain_result(kind.value_type))
    if pt.is_struct(kind):
        return pa.struct([pa.field(field.name, _plain_result(field.type)) for field in kind])
    return kind


def sql(
    query: str,
    *,
    url: str | None = None,
    api_key: str | None = None,
    params: Mapping[str, Any] | None = None,
    on_error: str = "raise",
    concurrent_chunks: int = 16,
    **tables: Any,
) -> pa.Table:
    """Runs a query of DuckDB's SQL in this process. ``catalog_call('function', …)`` in it calls any deployed function::

        sluice.sql("select id, catalog_call('model.house-price-sg', sqft, rooms) as price from houses", houses=df)

    and ``inference_store('group', '2026-11-01', '2026-11-02')`` is a table of what a scaling group with an
    inference store was asked and answered in that time (UTC; both may be left out), with ``input`` and ``output`` as columns::

        sluice.sql("select input.sqft, output from inference_store('house-price-sg', now() - interval 1 day) where status = 'ok'")

    Its files are fetched before the query runs and removed when it has ended; ``time`` is shown in UTC.

    Arguments go in the order of the function's inputs. Rows go to the server in calls of up to 2,048, ``concurrent_chunks`` of
    them at once, and each row that DuckDB evaluates is one row of a call: nothing is cached.

    Args:
        params: values of ``$name`` in the query.
        on_error: ``"raise"``, or ``"null"``: null for the rows that failed, and for those with a null that the function
            does not take.
        tables: pyarrow tables, pandas or polars frames, dicts of columns, by the names that the query gives them. Files are
            read by their names in quotes: ``from 'houses.parquet'``.

    Raises:
        QueryError: the query cannot run; CatalogCallError: a row of a call is not ok; it carries function, arguments and cause.
    """
    with Query(
        query,
        url=url,
        api_key=api_key,
        params=params,
        on_error=on_error,
        concurrent_chunks=concurrent_chunks,
        tables=tables,
    ) as running:
        return running.table()


__all__ = ["CatalogCallError", "Query", "QueryError", "sql"]
