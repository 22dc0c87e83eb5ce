"""``sluice-remote-call`` as a process: its command line, hooks, health, drain, concurrency and checks."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pytest
from sluice.remote_call import messages

S_MAX = 60


class Served:
    """A server on a free port, and a client of it."""

    def __init__(self, directory: Path, *options: str, env: dict[str, str] | None = None):
        command = [sys.executable, "-m", "sluice.remote_call", "--host", "127.0.0.1", *options]
        self.process = subprocess.Popen(
            command, cwd=directory, env={**os.environ, **(env or {})}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.said: list[str] = []
        self.port = 0
        for line in self.process.stdout:
            self.said.append(line)
            if found := re.search(r"listens on \S+:(\d+)", line):
                self.port = int(found[1])
                break
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}")

    def method(self, path: str, kind: str, answer: Any) -> Any:
        return getattr(self.channel, kind)(path, lambda message: message.SerializeToString(), answer.FromString)

    def call(self, **columns: Any) -> list[dict[str, list[Any]]]:
        return [pa.ipc.open_stream(one.feather_stream).read_all().to_pydict() for one in self.started(**columns)]

    def started(self, **columns: Any) -> Any:
        sink = pa.BufferOutputStream()
        batch = pa.RecordBatch.from_pydict(columns)
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        request = messages.CallFunctionRequest(name="f", feather_stream=sink.getvalue().to_pybytes())
        path = f"/{messages.CALL_SERVICE}/CallFunction"
        return self.method(path, "stream_stream", messages.CallFunctionResponse)(iter([request]), timeout=S_MAX)

    def health(self, service: str = "") -> int:
        check = self.method(f"/{messages.HEALTH_SERVICE}/Check", "unary_unary", messages.HealthCheckResponse)
        return check(messages.HealthCheckRequest(service=service), timeout=S_MAX).status

    def ended(self) -> tuple[int, str]:
        rest, _ = self.process.communicate(timeout=S_MAX)
        return self.process.returncode, "".join(self.said) + rest

    def close(self) -> None:
        self.channel.close()
        self.process.kill()
        self.process.wait()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    made: list[Served] = []

    def start(module: str, *options: str, **more: Any) -> Served:
        (tmp_path / "model.py").write_text("import pyarrow as pa\n" + module)
        found = options if "--handler" in options or "--model-directory" in options else ("--handler", "model.handler", *options)
        made.append(Served(tmp_path, *found, *(() if "env" in more else ("--port", "0")), **more))
        return made[-1]

    yield start
    for served in made:
        served.close()


def test_hooks_of_the_module_run_around_it(serve: Callable[..., Served]) -> None:
    served = serve(
        "factor = 1\n"
        "async def on_startup():\n  global factor; factor = 3; print('started', flush=True)\n"
        "def on_shutdown(): print('stopped', flush=True)\n"
        "def handler(event, context): return [x * factor for x in event['x'].to_pylist()]"
    )
    assert served.said[0] == "started\n"
    assert served.call(x=[1, 2]) == [{"result": [3, 6]}]
    served.process.send_signal(signal.SIGTERM)
    code, said = served.ended()
    assert code == 0 and said.endswith("stopped\n")


def test_hooks_that_are_named_win(serve: Callable[..., Served]) -> None:
    served = serve(
        "def on_startup(): raise ValueError('not this one')\n"
        "def warm(): print('warm', flush=True)\n"
        "def handler(event, context): return event['x']",
        "--on-startup",
        "model.warm",
    )
    assert served.said[0] == "warm\n"


def test_health_is_told_while_a_handler_is_busy(serve: Callable[..., Served], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    served = serve("def handler(event, context):\n  open('gate').read()\n  return event['x']")
    running = served.started(x=[1])
    with open(tmp_path / "gate", "w"):  # opens when the handler reads
        assert served.health() == served.health(messages.CALL_SERVICE) == messages.SERVING
        with pytest.raises(grpc.RpcError) as unknown:
            served.health("other")
        assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
    assert len(list(running)) == 1


def test_a_stop_lets_the_running_call_finish(serve: Callable[..., Served], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    served = serve("def handler(event, context):\n  open('gate').read()\n  return event['x']")
    watch = served.method(f"/{messages.HEALTH_SERVICE}/Watch", "unary_stream", messages.HealthCheckResponse)
    health = watch(messages.HealthCheckRequest(), timeout=S_MAX)
    assert next(health).status == messages.SERVING
    running = served.started(x=[1])
    with open(tmp_path / "gate", "w"):
        served.process.send_signal(signal.SIGTERM)
        assert next(health).status == messages.NOT_SERVING
    health.cancel()
    assert len(list(running)) == 1
    assert served.ended()[0] == 0


CROWD = (
    "import threading\nbarrier = threading.Barrier(2)\n"
    "def handler(event, context):\n"
    "  try: barrier.wait(timeout=event['s'][0].as_py()); return ['together']\n"
    "  except threading.BrokenBarrierError: barrier.reset(); return ['alone']"
)


def test_calls_run_one_at_a_time_unless_told(serve: Callable[..., Served]) -> None:
    one = serve(CROWD)
    both = [one.started(s=[0.2]), one.started(s=[0.2])]
    answers = [pa.ipc.open_stream(next(call).feather_stream).read_all().to_pydict()["result"] for call in both]
    assert answers == [["alone"], ["alone"]]
    two = serve(CROWD, "--concurrency", "2")
    both = [two.started(s=[30.0]), two.started(s=[30.0])]
    answers = [pa.ipc.open_stream(next(call).feather_stream).read_all().to_pydict()["result"] for call in both]
    assert answers == [["together"], ["together"]]


def test_hooks_and_batches_share_a_thread(serve: Callable[..., Served]) -> None:
    served = serve(
        "import threading\ndef on_startup():\n  global home; home = threading.get_ident()\n"
        "def handler(event, context): return [threading.get_ident() == home]"
    )
    assert [served.call(x=[1]) for _ in range(3)] == [[{"result": [True]}]] * 3


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return []", "got 2 rows and returned 0"),
        ("return 7", "got 2 rows and returned 1"),
        ("return {'a': [1, 2], 'b': [1]}", "columns of different lengths"),
        ("return {}", "no columns"),
        ("return [object()] * 2", "no Arrow data"),
        ("yield [1]", "got 2 rows and returned 1"),
        ("yield [1, 2, 3]", "got 2 rows and returned 3"),
    ],
)
def test_an_answer_has_a_value_for_each_row(serve: Callable[..., Served], body: str, message: str) -> None:
    served = serve(f"def handler(event, context):\n  {body}")
    with pytest.raises(grpc.RpcError) as refused:
        served.call(x=[1, 2])
    assert message in refused.value.details()
    assert ("x-sluice-code", "handler_output_invalid") in [tuple(one) for one in refused.value.trailing_metadata()]


def test_frames_and_arrays_of_other_libraries_are_answers(serve: Callable[..., Served]) -> None:
    served = serve(
        "import numpy, pandas, polars\n"
        "KINDS = {\n"
        "  'numpy': lambda: numpy.array([1.5, 2.5]),\n"
        "  'matrix': lambda: numpy.array([[1, 2], [3, 4]]),\n"
        "  'pandas': lambda: pandas.DataFrame({'a': [1, 2]}, index=['x', 'y']),\n"
        "  'polars': lambda: polars.DataFrame({'a': [1, 2]}),\n"
        "  'series': lambda: polars.Series([1, 2]),\n"
        "}\n"
        "def handler(event, context): return KINDS[event['kind'][0].as_py()]()"
    )
    found = {kind: served.call(kind=[kind, kind])[0] for kind in ("numpy", "matrix", "pandas", "polars", "series")}
    assert found == {
        "numpy": {"result": [1.5, 2.5]},
        "matrix": {"result": [[1, 2], [3, 4]]},
        "pandas": {"a": [1, 2]},
        "polars": {"a": [1, 2]},
        "series": {"result": [1, 2]},
    }


def test_inputs_are_renamed_by_position(serve: Callable[..., Served]) -> None:
    env = {"CHALK_INPUT_ARGS": "a,b", "PORT": "0"}
    served = serve("def handler(event, context): return [','.join(event)]", env=env)
    assert served.call(x=[1], y=[2]) == [{"result": ["a,b"]}]
    with pytest.raises(grpc.RpcError, match=r"1 columns \(x\); 2 are named: a, b"):
        served.call(x=[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--handler", "nothing.handler"], "there is no module 'nothing'"),
        (["--handler", "model.other"], "model has no callable 'other'"),
        (["--handler", "model"], "write module.attribute"),
        (["--handler", "model.handler", "--port", "70000"], "not a port"),
        (["--handler", "model.handler", "--concurrency", "0"], "not a number of calls"),
        (["--model-directory", "/nothing"], "function.json cannot be read"),
    ],
)
def test_a_wrong_command_line_is_told(serve: Callable[..., Served], options: list[str], message: str) -> None:
    code, said = serve("def handler(event, context): ...", *options).ended()
    assert code == 2 and message in said


def test_a_port_that_is_taken_is_told(serve: Callable[..., Served]) -> None:
    first = serve("def handler(event, context): ...")
    code, said = serve("def handler(event, context): ...", env={"PORT": str(first.port)}).ended()
    assert code == 1 and str(first.port) in said


def test_the_command_is_installed() -> None:
    command = Path(sys.executable).with_name("sluice-remote-call")
    said = subprocess.run([command, "--help"], capture_output=True, text=True, check=True).stdout
    assert "--handler MODULE.NAME" in said and "--model-directory DIR" in said
