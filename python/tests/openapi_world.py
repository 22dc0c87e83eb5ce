"""A server with something of everything, and where it is: what generated requests are given so that they reach the deep paths.

What other requests rely on is only read and called; what is paused, cancelled, changed and deleted are spares.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import sys
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import sluice
import urllib3
from sluice.transport import Transport

SCALER = Path(__file__).resolve().parents[2] / "test" / "fixtures" / "engines" / "oip_scaler.py"
SPARES = 6
SAMPLED_S_MAX = 30
ARROW = "application/vnd.apache.arrow.stream"
OCTETS = "application/octet-stream"
CODE = b"""
import sluice


@sluice.function
def upper(text: list[str]) -> list[str]:
    return [one.upper() for one in text]


@sluice.function
def embed(text: list[str]) -> list[list[float]]:
    return [[float(len(one)), 1.0] for one in text]


@sluice.function
def fail(text: list[str]) -> list[str]:
    raise ValueError("never")
"""
WEIGHTS = b"3"
FRESH = [b"weights %d" % i for i in range(40)]

Request = dict[str, Any]
"""Parts of a request that take the place of generated ones: path_parameters, query, headers, body, media_type."""


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def function_spec(name: str, attribute: str = "upper", **more: Any) -> dict[str, Any]:
    number = {"list": {"name": "item", "type": "float32", "nullable": True}}
    return {
        "name": name,
        "runtime": "python",
        "handler": {"file": "texts.py", "attribute": attribute},
        "input_mode": "columns",
        "inputs": [{"name": "text", "type": "utf8", "nullable": False}],
        "output": {"type": number if attribute == "embed" else "utf8", "nullable": True},
        "source": [{"path": "texts.py", "content": base64.b64encode(CODE).decode()}],
        "max_batching_size": 100,
        "max_buffer_duration": 1,
        "retry": {"retries": 0},
        "environment": {"interpreter": sys.executable},
        **more,
    }


def arrow_stream(texts: list[str]) -> bytes:
    table = pa.table({"text": texts})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def batch_line(name: str, model: str = "embed") -> dict[str, Any]:
    body = {"model": model, "input": "a"}
    return {"custom_id": name, "method": "POST", "url": "/v1/embeddings", "body": body}


class World:
    def __init__(self, url: str):
        self.url = url
        self._transport = Transport(url, None, 0)
        admin = self.key("admin", "admin")
        self.admin = admin["secret"]
        self._transport = Transport(url, self.admin, 0)
        caller = self.key("caller", "call")
        self.caller = caller["secret"]
        self.client = sluice.Client(url, self.admin)
        self.keys = [self.key(f"spare-{i}", "call")["id"] for i in range(SPARES)]
        self.functions = self._functions()
        self._artifacts()
        self._models()
        self._engines()
        self._groups()
        self.calls = self._calls()
        self.files, self.batches = self._batches()
        named = {
            "upper",
            "embed",
            "complete",
            "fails",
            "paused",
            "held",
            "demand",
            "scaler",
            "tripled",
            admin["id"],
            caller["id"],
        }
        self.steady = {*named, *self.files["steady"], *self.calls["ended"], *self.calls["waiting"]}

    def json(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        """The body of a 2xx answer; ServerError for others."""
        sent = None if body is None else json.dumps(body).encode()
        headers = {**({} if body is None else {"content-type": "application/json"}), **(headers or {})}
        data = self._transport.request(method, path, headers=headers, body=sent).data
        return json.loads(data) if data else None

    def key(self, name: str, scope: str) -> dict[str, Any]:
        return self.json("POST", "/v1/keys", {"name": name, "scopes": [scope]})

    def _functions(self) -> dict[str, list[str]]:
        """Steady ones are called, spares changed; none of the spares has a replica."""
        specs = [
            function_spec("upper"),
            function_spec("embed", "embed", task="embedding"),
            function_spec("complete", task="completion"),
            function_spec("fails", "fail"),
            function_spec("paused", min_replicas=0),
            function_spec("held", "embed", task="embedding", min_replicas=0),
            *(function_spec(f"spare-{i}", min_replicas=0) for i in range(SPARES)),
        ]
        made = {spec["name"]: self.json("POST", "/v1/functions", {"function": spec}) for spec in specs}
        for name in ("paused", "held"):
            self.json("POST", f"/v1/functions/{name}/pause")
        again = self.json("POST", "/v1/functions", {"function": function_spec("spare-0", min_replicas=0, max_batching_size=7)})
        self.repin = {"from": made["spare-0"]["version"], "to": again["version"]}
        self.upper_version = made["upper"]["version"]
        return {"steady": ["upper", "embed", "complete"], "spare": [f"spare-{i}" for i in range(SPARES)]}

    def _send(self, content: bytes, length: int) -> str:
        headers = {"content-type": OCTETS, "upload-offset": "0", "upload-length": str(length)}
        self._transport.request("PATCH", f"/v1/artifacts/{digest_of(content)}", headers=headers, body=content)
        return digest_of(content)

    def _artifacts(self) -> None:
        self.weights = self._send(WEIGHTS, len(WEIGHTS))
        begun = b"begun and not finished"
        headers = {"content-type": OCTETS, "upload-offset": "0", "upload-length": str(len(begun))}
        self._transport.request("PATCH", f"/v1/artifacts/{digest_of(begun)}", headers=headers, body=begun[:5])
        self.digests = [self.weights, digest_of(begun), *map(digest_of, FRESH)]

    def registration(self, **more: Any) -> dict[str, Any]:
        return {
            "inputs": [{"name": "value", "type": "float64"}],
            "outputs": [{"name": "scaled", "type": "float64"}],
            "files": [{"path": "weights/factor.txt", "digest": self.weights, "bytes": len(WEIGHTS)}],
            "import": {"project": "numbers", "task_type": "Regression", "class_labels": {"low": 0}},
            **more,
        }

    def _models(self) -> None:
        for name, versions in {"demand": 2, **{f"spare-{i}": 3 for i in range(SPARES)}}.items():
            for number in range(versions):
                aliases = ["production"] if number == 0 else []
                self.json("POST", f"/v1/models/{name}/versions", self.registration(aliases=aliases, metadata={"n": str(number)}))

    def engine(self, name: str, version: str, **more: Any) -> dict[str, Any]:
        return {
            "project": "numbers",
            "name": name,
            "version": version,
            "command": [sys.executable, str(SCALER), "{port}"],
            "readiness_probe": {"period_seconds": 0.2, "failure_threshold": 300},
            "inference_protocol": "oip-v2",
            "predictor_env_schema": [{"name": "OFFSET", "type": "float", "default_value": 0}],
            **more,
        }

    def _engines(self) -> None:
        for name in ("scaler", *(f"spare-{i}" for i in range(SPARES))):
            for version in ("1", "2", "3"):
                self.json("POST", "/v1/engines", self.engine(name, version))

    def deployment(self, **more: Any) -> dict[str, Any]:
        return {"model": "demand", "engine_selector": {"project_name": "numbers", "engine_name": "scaler"}, **more}

    def _groups(self) -> None:
        idle = {"min_replicas": 0, "max_replicas": 1}
        for i in range(SPARES):
            for duration in (5, 6):
                self.json("PUT", f"/v1/scaling-groups/spare-{i}", self.deployment(scaling=idle, max_buffer_duration=duration))
        self.json("PUT", "/v1/scaling-groups/tripled", self.deployment(inference_store={"flush_ms": 100}))
        self.client.wait_ready("tripled", 60)
        begun = datetime.now(timezone.utc) - timedelta(minutes=1)
        self.client.function("tripled")(pa.table({"value": [1.0, 2.5]}))
        limit = time.monotonic() + SAMPLED_S_MAX
        while not self.json("GET", "/v1/scaling-groups/tripled/inference-files")["inference_files"]:
            assert time.monotonic() < limit, "no sampled rows"
        self.reference = {"from": begun.isoformat(), "until": datetime.now(timezone.utc).isoformat()}

    def call(self, function: str, texts: list[str], wait: bool = True) -> str:
        headers = {"prefer": "wait=60"} if wait else {}
        call = self.json("POST", f"/v1/functions/{function}/calls", {"columns": {"text": texts}}, headers)
        assert not wait or call["status"] in ("completed", "failed"), call
        return call["call_id"]

    def _calls(self) -> dict[str, list[str]]:
        waiting = [self.call("paused", ["a", "b"], wait=False) for _ in range(SPARES)]
        cancelled = self.call("paused", ["a"], wait=False)
        self.json("DELETE", f"/v1/calls/{cancelled}")
        finished = [self.call("upper", ["a", "b"]), self.call("embed", ["a"]), self.call("fails", ["a"]), self.call("upper", [])]
        acknowledged = [self.call("upper", ["a"]) for _ in range(SPARES)]
        return {"ended": [*finished, cancelled], "waiting": waiting[:1], "spare": waiting[1:], "acknowledged": acknowledged}

    def _upload(self, content: bytes) -> str:
        form, content_type = urllib3.encode_multipart_formdata({"purpose": "batch", "file": ("r.jsonl", content)})
        answer = self._transport.request("POST", "/v1/files", headers={"content-type": content_type}, body=form)
        return json.loads(answer.data)["id"]

    def _batches(self) -> tuple[dict[str, list[str]], list[str]]:
        content = "\n".join(json.dumps(batch_line(f"r{i}")) for i in range(3)).encode()
        files = [self._upload(content) for _ in range(SPARES + 1)]
        order = {"input_file_id": files[0], "endpoint": "/v1/embeddings", "completion_window": "24h"}
        held = {**order, "input_file_id": self._upload(json.dumps(batch_line("r", "held")).encode())}
        broken = {**order, "input_file_id": self._upload(b'{"no": "request"}')}
        batches = [self.json("POST", "/v1/batches", one)["id"] for one in (held, held, order, broken)]
        return {"steady": files[:1], "spare": files[1:]}, batches
