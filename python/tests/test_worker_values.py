"""Values through a real handler process: what bodies get, what they may return, in every declared type."""

from __future__ import annotations

import datetime
import decimal

import pyarrow as pa
import pytest

ECHO = """
import pyarrow as pa, sluice
@sluice.function(input_types={"x": TYPE}, output_type=TYPE)
def f(x: list) -> list:
    return list(x)
"""
NOW = datetime.datetime(2026, 3, 4, 5, 6, 7, 891011)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("pa.int8()", [-128, 127]),
        ("pa.uint8()", [0, 255]),
        ("pa.int64()", [-(2**63), 2**63 - 1]),
        ("pa.uint64()", [0, 2**64 - 1]),
        ("pa.float32()", [1.5, float("inf")]),
        ("pa.float64()", [1e300, -0.0]),
        ("pa.bool_()", [True, False]),
        ("pa.string()", ["", "ü😀"]),
        ("pa.large_string()", ["a", "b"]),
        ("pa.binary()", [b"\0\xff", b""]),
        ("pa.date32()", [datetime.date(1960, 1, 1), datetime.date(2026, 1, 2)]),
        ("pa.timestamp('us')", [NOW, NOW]),
        ("pa.time64('us')", [datetime.time(1, 2, 3), datetime.time(4)]),
        ("pa.duration('us')", [datetime.timedelta(days=-1), datetime.timedelta(1)]),
        ("pa.decimal128(10, 2)", [decimal.Decimal("-1.25"), decimal.Decimal("3.00")]),
        ("pa.list_(pa.float64())", [[1.0, 2.0], []]),
        ("pa.list_(pa.float32(), 2)", [[1.0, 2.0], [3.0, 4.0]]),
        ("pa.large_list(pa.int32())", [[1], [2, 3]]),
        ("pa.list_(pa.list_(pa.int16()))", [[[1], []], []]),
        ("pa.list_(pa.string())", [["a"], ["b", "c"]]),
        ("pa.struct([('a', pa.int64()), ('b', pa.string())])", [{"a": 1, "b": "x"}, {"a": 2, "b": None}]),
        ("pa.map_(pa.string(), pa.int32())", [[("a", 1)], []]),
        ("pa.dictionary(pa.int32(), pa.string())", ["a", "b"]),
    ],
    ids=str,
)
def test_values_come_back_as_they_went(start, kind, values):
    worker = start(ECHO.replace("TYPE", kind))
    arrow = eval(kind, {"pa": pa})
    header, found = worker.call(pa.table({"x": pa.array([*values, None], arrow)}))
    assert header["type"] == "result", header
    assert found.to_pylist() == [*values, None]
    assert found.type == arrow


RETURNS = """
import numpy as np, pyarrow as pa, sluice
class Tensor:
    "As torch: detach, cpu, numpy."
    def __init__(self, array): self.array = array; self.shape = array.shape
    def detach(self): return self
    def cpu(self): return self
    def numpy(self): return self.array
A = np.arange(6, dtype=np.float64).reshape(3, 2)
WAYS = {
    "array": lambda: A,
    "float32": lambda: A.astype(np.float32),
    "integers": lambda: A.astype(np.int64),
    "transposed": lambda: np.asfortranarray(A),
    "big-endian": lambda: A.astype(">f8"),
    "rows": lambda: list(A),
    "tensor": lambda: Tensor(A),
    "tensors": lambda: [Tensor(row) for row in A],
    "lists": lambda: A.tolist(),
    "wide lists": lambda: [row * 20 for row in A.tolist()],
    "tuples": lambda: tuple(map(tuple, A.tolist())),
    "mixed": lambda: [A[0], A[1].tolist(), tuple(A[2])],
    "scalars in lists": lambda: [[np.float32(v) for v in row] for row in A],
    "ragged": lambda: [A[0], A[1][:1], A[2][:0]],
    "with null": lambda: [A[0], None, A[2]],
    "objects": lambda: np.array([[0.0], [1.0, 2.0], None], dtype=object),
    "arrow": lambda: pa.array(A.tolist(), pa.large_list(pa.float32())),
    "chunks": lambda: pa.chunked_array([pa.array(A.tolist()[:1]), pa.array(A.tolist()[1:])]),
    "table": lambda: pa.table({"result": pa.array(A.tolist())}),
}
@sluice.function()
def f(x: list[str]) -> list[list[float]]:
    return WAYS[x[0]]()
"""
PLAIN = [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
OTHER = {
    "wide lists": [row * 20 for row in PLAIN],
    "ragged": [[0.0, 1.0], [2.0], []],
    "with null": [[0.0, 1.0], None, [4.0, 5.0]],
    "objects": [[0.0], [1.0, 2.0], None],
}
WAYS = [
    *("array", "float32", "integers", "transposed", "big-endian", "rows", "tensor", "tensors", "lists", "wide lists"),
    *("tuples", "mixed", "scalars in lists", "ragged", "with null", "objects", "arrow", "chunks", "table"),
]


@pytest.mark.parametrize("kind", ["list[float]", "pa.list_(pa.float32())", "pa.large_list(pa.float64())"])
def test_everything_that_vectors_come_as(start, kind):
    worker = start(RETURNS.replace("@sluice.function()", f"@sluice.function(output_type={kind})"))
    for way in WAYS:
        assert worker.rows(x=[way, "", ""]) == OTHER.get(way, PLAIN), way


def test_fixed_size_lists(start):
    worker = start(RETURNS.replace("@sluice.function()", "@sluice.function(output_type=pa.list_(pa.float32(), 2))"))
    for way in set(WAYS) - {"wide lists", "ragged", "objects"}:
        assert worker.rows(x=[way, "", ""]) == OTHER.get(way, PLAIN), way
    for way, width in (("wide lists", "40"), ("ragged", "1"), ("objects", "1")):
        told = worker.error(x=[way, "", ""])
        assert told["code"] == "handler_output_invalid"
        assert width in told["message"] and "2" in told["message"]


def test_arrays_of_three_dimensions(start):
    worker = start("""
import numpy as np, sluice
@sluice.function()
def f(x: list[int]) -> list[list[list[float]]]:
    return np.arange(len(x) * 6).reshape(len(x), 3, 2)
""")
    assert worker.rows(x=[1, 2])[1] == [[6.0, 7.0], [8.0, 9.0], [10.0, 11.0]]


def test_scalars_as_arrays(start):
    worker = start("""
import numpy as np, sluice
@sluice.function()
def f(x: list[float]) -> list[float]:
    return np.array(x) * 2
@sluice.function(output_type=np.int32)
def g(x: list[float]): return np.array(x)
""")
    assert worker.rows(x=[1.5, float("nan")])[0] == 3.0


def test_json_both_ways(start):
    worker = start("""
import numpy as np, sluice
@sluice.function()
def f(x: list[dict | None]) -> list[dict]:
    assert all(v is None or type(v["a"]) is int for v in x)
    return [None if v is None else {**v, "n": np.float32(1.5), "v": np.arange(2), "s": "ü\\ud800"} for v in x]
""")
    import json

    header, found = worker.call(pa.table({"x": ['{"a":1}', None]}))
    assert header["type"] == "result", header
    told = found.to_pylist()
    assert json.loads(told[0]) == {"a": 1, "n": 1.5, "v": [0, 1], "s": "ü\ud800"}
    assert told[1] is None
    header, found = worker.call(pa.table({"x": pa.array([{"a": 2}])}), pa.table({"x": ['{"a":3}']}))
    assert [json.loads(text)["a"] for text in found.to_pylist()] == [2, 3]


def test_nan_is_not_json(start):
    worker = start("""
import sluice
@sluice.function()
def f(x: list[int]) -> list[dict]: return [{"v": float("nan") if v == 2 else v} for v in x]
""")
    told = worker.error(x=[1, 2])
    assert told["code"] == "handler_output_invalid"
    assert "row 1" in told["message"] and "JSON" in told["message"]


def test_forms_of_parameters(start):
    worker = start("""
import numpy as np, pyarrow as pa, sluice
@sluice.function(input_types={"n": pa.float32(), "m": pa.list_(pa.float32(), 2)})
def f(a: pa.Array, n: np.ndarray, m: np.ndarray, l: list[str]) -> list[str]:
    assert isinstance(a, pa.Array) and a.type == pa.int8(), a
    assert n.dtype == np.float32 and m.shape == (2, 2)
    return [str((a[i].as_py(), float(n[i]), m[i].tolist(), l[i])) for i in range(2)]
""")
    table = pa.table(
        {
            "a": pa.array([1, 2], pa.int8()),
            "n": pa.array([0.5, 1.5], pa.float64()),
            "m": pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32())),
            "l": pa.array(["x", "y"], pa.large_string()),
        }
    )
    header, found = worker.call(table)
    assert header["type"] == "result", header
    assert found.to_pylist() == ["(1, 0.5, [1.0, 2.0], 'x')", "(2, 1.5, [3.0, 4.0], 'y')"]


@pytest.mark.parametrize("kind", ["Table", "RecordBatch"])
def test_tables(start, kind):
    worker = start(f"""
import pyarrow as pa, sluice
@sluice.function()
def f(table: pa.{kind}) -> list[str]:
    assert type(table) is pa.{kind}
    return [f"{{row}}" for row in table.to_pylist()]
""")
    header, found = worker.call(pa.table({"a": [1], "b": ["x"]}), pa.table({"a": [2], "b": ["y"]}))
    assert found.to_pylist() == ["{'a': 1, 'b': 'x'}", "{'a': 2, 'b': 'y'}"], header


def test_parts_of_other_types_are_joined_in_order(start):
    worker = start(ECHO.replace("TYPE", "pa.int64()"))
    parts = [pa.table({"x": pa.array([at, at + 1], kind)}) for at, kind in ((0, pa.int8()), (2, pa.uint32()), (4, pa.int64()))]
    parts.append(pa.table({"x": pa.array([6]).dictionary_encode()}))
    header, found = worker.call(*parts)
    assert found.to_pylist() == list(range(7)), header


def test_many_record_batches_in_a_part(start):
    worker = start(ECHO.replace("TYPE", "pa.string()"))
    table = pa.concat_tables([pa.table({"x": [f"{at}"]}) for at in range(50)])
    header, found = worker.call(table)
    assert found.to_pylist() == [f"{at}" for at in range(50)], header


def test_one_row_at_a_time(start):
    worker = start("""
import sluice
@sluice.function()
def f(text: str, *, n: int, context: sluice.Context) -> str:
    if n == 2: raise sluice.RowError(f"no {text}")
    return text * n + context.version
""")
    header, found = worker.call(pa.table({"text": ["a", "b", "c"], "n": [1, 2, 3]}))
    assert found.to_pylist() == ["av1", None, "cccv1"]
    assert header["errors"] == [[1, {"kind": "RowError", "message": "no b"}]]


def test_no_rows_never_reach_the_body(start):
    worker = start(ECHO.replace("TYPE", "pa.string()").replace("list(x)", "x[0]"))
    header, found = worker.call(pa.table({"x": pa.array([], pa.string())}))
    assert (header["type"], header["rows"]) == ("result", 0)
    assert found.to_pylist() == []


def test_a_large_batch_both_ways(start):
    """Above every buffer on the way, so that bodies arrive and leave in many pieces."""
    worker = start("""
import numpy as np, pyarrow as pa, sluice
@sluice.function(output_type=pa.list_(pa.float32()))
def f(x: list[str]): return np.repeat(np.array([len(v) for v in x], np.float32), 512).reshape(-1, 512)
""")
    texts = ["y" * (at % 5000) for at in range(4000)]
    header, found = worker.call(pa.table({"x": texts}))
    assert header["type"] == "result", header
    assert found.values.to_numpy().reshape(-1, 512)[:, 511].tolist() == [float(len(text)) for text in texts]
