"""A server that has Parquet files of a scaling group and nothing else: its list of files in pages of two, and their bytes."""

import hashlib
import io
import json
import re
from collections.abc import Iterable
from contextlib import contextmanager
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

PAGE = 2
DAY = datetime(2026, 11, 1, tzinfo=timezone.utc)
DAY_MS = int(DAY.timestamp() * 1000)
NUMBER = {"type": "float64", "nullable": True}


def rows(minutes: Iterable[int], inputs: Iterable[dict], outputs: Iterable, version: int = 1) -> pa.Table:
    """One row a minute after ``DAY``, with the columns of decision 18."""
    at = list(minutes)
    return pa.table(
        {
            "time": pa.array([DAY_MS + 60_000 * minute for minute in at], pa.timestamp("ms", "UTC")),
            "call_id": [f"c{minute}" for minute in at],
            "row": pa.array([0] * len(at), pa.int64()),
            "model": ["price"] * len(at),
            "model_version": pa.array([version] * len(at), pa.int32()),
            "function_version": [f"v{version}"] * len(at),
            "attempt": pa.array([1] * len(at), pa.int32()),
            "batch_rows": pa.array([len(at)] * len(at), pa.int32()),
            "handler_ms": [1.5] * len(at),
            "status": ["ok"] * len(at),
            "error_code": pa.array([None] * len(at), pa.string()),
            "error_message": pa.array([None] * len(at), pa.string()),
            "input": pa.array(list(inputs)),
            "output": pa.array(list(outputs)),
        }
    )


class InferenceServer(ThreadingHTTPServer):
    def __init__(self, tables: list[pa.Table]):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.group = {
            "inputs": [{"name": "sqft", **NUMBER}, {"name": "rooms", **NUMBER}],
            "outputs": [{"name": "price", **NUMBER}],
        }
        self.asked: list[str] = []
        self.artifacts: dict[str, bytes] = {}
        self.files = [self._file(table) for table in tables]

    def _file(self, table: pa.Table) -> dict:
        sink = io.BytesIO()
        pq.write_table(table, sink, row_group_size=4)
        digest = f"sha256:{hashlib.sha256(sink.getvalue()).hexdigest()}"
        self.artifacts[digest] = sink.getvalue()
        times = [f"{at.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z" for at in table["time"].to_pylist()]
        version = table["model_version"][0].as_py()
        named = {"model": "price", "model_version": version, "function_version": f"v{version}"}
        return {
            "digest": digest,
            "bytes": len(sink.getvalue()),
            "rows": len(table),
            "from": min(times),
            "until": max(times),
            **named,
        }

    def listed(self, question: dict[str, str]) -> dict:
        found = [
            file
            for file in self.files
            if file["until"] >= question.get("from", "") and ("until" not in question or file["from"] < question["until"])
        ]
        begin = int(question.get("after", 0))
        is_last = begin + PAGE >= len(found)
        return {"inference_files": found[begin : begin + PAGE], "next": None if is_last else str(begin + PAGE)}


class _Handler(BaseHTTPRequestHandler):
    server: InferenceServer
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        found = self.server.artifacts.get(self.path.rsplit("/", 1)[-1])
        state = {"upload-complete": "?0", "upload-offset": 0} if found is None else _whole(found)
        self._answer(200, b"", state)

    def do_GET(self):
        url = urlsplit(self.path)
        self.server.asked.append(self.path)
        if url.path == "/v1/scaling-groups/demand/inference-files":
            question = {name: value[0] for name, value in parse_qs(url.query).items()}
            return self._answer(200, json.dumps(self.server.listed(question)).encode())
        if url.path == "/v1/scaling-groups/demand":
            return self._answer(200, json.dumps(self.server.group).encode())
        data = self.server.artifacts.get(url.path.rsplit("/", 1)[-1])
        if data is None:
            code = "artifact_not_found" if "artifacts" in url.path else "scaling_group_not_found"
            return self._answer(404, json.dumps({"code": code, "detail": f"There is no {url.path}."}).encode())
        first, last = map(int, re.findall(r"\d+", self.headers["range"]))
        self._answer(206, data[first : last + 1])

    def _answer(self, status: int, data: bytes, headers: dict | None = None):
        self.send_response(status)
        for name, value in {"content-length": len(data), **(headers or {})}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def _whole(data: bytes) -> dict:
    return {"upload-complete": "?1", "upload-offset": len(data), "upload-length": len(data)}


@contextmanager
def serving(*tables: pa.Table):
    with InferenceServer(list(tables)) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
