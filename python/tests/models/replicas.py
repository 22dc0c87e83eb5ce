"""A packaged model laid out as a worker lays it out, and a real handler process over it."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
from sluice.models.registration import PackageOptions, packaged
from sluice.models.schema import output_field, schema_fields
from worker_host import WorkerHost

SERVE = """
import json, sys
import pyarrow as pa
from sluice.models.serving import load

home = sys.argv[1]
served = load(json.load(open(home + "/spec.json")), home + "/source", home + "/artifacts")
table = pa.ipc.open_stream(open(home + "/rows.arrow", "rb").read()).read_all()
array = served.predict_batch(table)
with pa.OSFile(home + "/answer.arrow", "wb") as file:
    batch = pa.record_batch([array], names=["result"])
    with pa.ipc.new_stream(file, batch.schema) as writer:
        writer.write_batch(batch)
print(json.dumps(sorted(sys.modules)))
"""


class Laid:
    """``spec``, and the folders ``source`` and ``artifacts`` below ``home``."""

    def __init__(self, home: Path, model: Any, inputs: Any, outputs: Any, **options: Any):
        self.home = home
        fields = schema_fields(inputs, "input_schema"), schema_fields(outputs, "output_schema")
        with packaged(model, PackageOptions(*fields, **options)) as package:
            self.package = package
            for one in package.source:
                _write(home / "source" / one["path"], base64.b64decode(one["content"]))
            for name, file in package.files.items():
                (home / "artifacts" / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, home / "artifacts" / name)
        (home / "artifacts").mkdir(exist_ok=True)
        self.loader = package.loader
        self.spec = {
            "name": "model.test",
            "handler": package.handler,
            "inputs": fields[0],
            "output": output_field(fields[1]),
            "model": {"name": "test", "version": 1, "files": [], "loader": package.loader},
        }

    @property
    def saved(self) -> dict[str, Any]:
        return self.loader["model"]

    def sources(self) -> list[str]:
        return [one["path"] for one in self.package.source]

    def run(self, rows: pa.Table) -> subprocess.CompletedProcess[str]:
        """Another process loads it and predicts; none of this one's modules are there."""
        (self.home / "spec.json").write_text(json.dumps(self.spec))
        with pa.OSFile(str(self.home / "rows.arrow"), "wb") as file, pa.ipc.new_stream(file, rows.schema) as writer:
            writer.write_table(rows)
        command = [sys.executable, "-W", "ignore", "-c", SERVE, str(self.home)]
        return subprocess.run(command, capture_output=True, text=True, cwd=self.home)

    def predict(self, rows: pa.Table) -> pa.Array:
        ran = self.run(rows)
        assert ran.returncode == 0, ran.stderr
        return pa.ipc.open_stream((self.home / "answer.arrow").read_bytes()).read_all().column(0).combine_chunks()


class ModelHost(WorkerHost):
    """``python -m sluice.worker`` on a model, with the frames of docs/decisions/0001."""

    def __init__(self, laid: Laid):
        self.spec = laid.spec
        self.launch(laid.home / "source")
        head = {"type": "init", "function": laid.spec, "version": "v1", "directory": str(laid.home / "source")}
        self.send({**head, "artifacts": str(laid.home / "artifacts"), "replica": 0})


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
