"""Clients of the Open Inference Protocol that others wrote, on the real server; what they get is what the ordinary API says."""

from __future__ import annotations

import json
import math
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import oip_packages
import pyarrow as pa
import pytest
import sluice
from server_process import HANDLERS, Server

why_not = oip_packages.why_not()
pytestmark = pytest.mark.skipif(why_not is not None, reason=why_not or "")

TRITON = ["triton-http", "triton-grpc"]
EVERY = [*TRITON, "kserve-http", "kserve-grpc"]
SAMPLES = {
    "BOOL": [True, False, True],
    "INT8": [-128, 127],
    "INT16": [-32768, 32767],
    "INT32": [-(2**31), 2**31 - 1],
    "INT64": [-(2**53) + 1, 2**53 - 1],
    "UINT8": [0, 255],
    "UINT16": [0, 65535],
    "UINT32": [0, 2**32 - 1],
    "UINT64": [0, 2**53 - 1],
    "FP16": [0.5, -65504.0],
    "FP32": [0.5, -1.25],
    "FP64": [0.1, -1e300],
    "BYTES": ["", "aé", "漢字"],
}


class Clients:
    """A process of each family of clients, from its first question on; closed with their pipes."""

    def __init__(self, url: str, grpc: str):
        self.addresses = (url, grpc)
        self.processes: dict[str, subprocess.Popen] = {}

    def process(self, family: str) -> subprocess.Popen:
        if family not in self.processes:
            python = oip_packages.environment() / "bin" / "python"
            program = [python, Path(__file__).with_name("oip_client.py"), family, *self.addresses]
            self.processes[family] = subprocess.Popen(
                list(map(str, program)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        return self.processes[family]

    def ask(self, client: str, op: str, model: str, **more):
        asked = {"client": client, "op": op, "model": model, "binary": True, "outputs": ["result"], **more}
        process = self.process(client.split("-")[0])
        process.stdin.write(json.dumps(asked) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    def infer(self, client: str, model: str, *inputs: tuple[str, str, list[int], list], **more):
        tensors = [dict(zip(("name", "datatype", "shape", "data"), one, strict=True)) for one in inputs]
        return self.ask(client, "infer", model, inputs=tensors, **more)

    def close(self) -> None:
        for process in self.processes.values():
            process.stdin.close()
            process.wait(60)
            process.stdout.close()


@pytest.fixture(scope="module")
def oip_server(home, tmp_path_factory):
    running = Server([*home(tmp_path_factory.mktemp("oip")), "--grpc-port", "0"])
    try:
        sluice.deploy(HANDLERS / "oip.py", url=running.url)
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def remote(oip_server):
    return sluice.Remote(oip_server.url)


@pytest.fixture(scope="module")
def address(oip_server):
    greeting = next(line for line in oip_server.lines if "gRPC on" in line)
    return re.search(r"gRPC on ([\w.:]+)", greeting)[1]


@pytest.fixture(scope="module")
def clients(oip_server, address):
    running = Clients(oip_server.url, address)
    yield running
    running.close()


@pytest.mark.parametrize("client", EVERY)
@pytest.mark.parametrize("datatype", SAMPLES)
def test_every_datatype_comes_back_as_the_ordinary_api_has_it(clients, remote, client, datatype):
    data = SAMPLES[datatype]
    name = f"oip.echo_{datatype.lower()}"
    expected = remote.function(name)(pa.array(data, remote_type(datatype))).to_pylist()
    found = clients.infer(client, name, ("value", datatype, [len(data)], data))
    assert "error" not in found, found
    assert found["outputs"]["result"]["data"] == expected


@pytest.mark.parametrize("client", ["triton-http", "kserve-http"])
@pytest.mark.parametrize("datatype", [one for one in SAMPLES if one != "FP16"])
def test_json_says_the_same_as_the_binary_form(clients, client, datatype):
    data = SAMPLES[datatype]
    asked = (f"oip.echo_{datatype.lower()}", ("value", datatype, [len(data)], data))
    binary = clients.infer(client, *asked)
    text = clients.infer(client, *asked, binary=False)
    assert "error" not in text, text
    assert text == binary


def remote_type(datatype: str) -> pa.DataType:
    named = {"BOOL": pa.bool_(), "BYTES": pa.string(), "FP16": pa.float16(), "FP32": pa.float32(), "FP64": pa.float64()}
    return named.get(datatype) or getattr(pa, datatype.lower())()


@pytest.mark.parametrize("client", EVERY)
def test_lists_are_trailing_dimensions(clients, remote, client):
    vectors = [[float(row * 4 + i) for i in range(4)] for row in range(50)]
    by = [row / 2 for row in range(50)]
    table = pa.table({"vector": pa.array(vectors, pa.list_(pa.float32(), 4)), "by": pa.array(by, pa.float32())})
    expected = remote.function("oip.scale")(table).to_pylist()
    found = clients.infer(client, "oip.scale", ("by", "FP32", [50], by), ("vector", "FP32", [50, 4], vectors))
    result = found["outputs"]["result"]
    assert result["shape"] == [50, 4]
    assert result["data"] == [value for row in expected for value in row]


@pytest.mark.parametrize("client", TRITON)
def test_members_of_a_struct_are_tensors(clients, remote, client):
    texts = ["a", "bé", "ccc"]
    expected = remote.function("oip.describe")(texts).to_pylist()
    found = clients.infer(client, "oip.describe", ("any", "BYTES", [3], texts), outputs=["upper", "length"])
    assert found["outputs"]["upper"]["data"] == [row["upper"] for row in expected]
    assert found["outputs"]["length"]["data"] == [row["length"] for row in expected]


def test_metadata_is_the_same_over_both(clients):
    asked = [clients.ask(client, "metadata", "oip.scale")["outputs"] for client in TRITON]
    assert asked[0] == asked[1]
    assert asked[0]["inputs"] == [["vector", "FP32", [-1, 4]], ["by", "FP32", [-1]]]
    assert asked[0]["outputs"] == [["result", "FP32", [-1, -1]]]


@pytest.mark.parametrize("client", EVERY)
def test_health(clients, remote, client):
    remote.function("oip.half")([2])
    assert clients.ask(client, "health", "oip.half") == {"outputs": [True, True, True]}


@pytest.mark.parametrize("client", TRITON)
def test_nan_and_infinity_pass_in_binary(clients, client):
    found = clients.infer(client, "oip.echo_fp32", ("value", "FP32", [3], [math.nan, math.inf, 1.0]))
    assert found["outputs"]["result"]["data"] == ["nan", "inf", 1.0]


@pytest.mark.parametrize("client", EVERY)
def test_errors_name_the_input_and_the_row(clients, client):
    wrong = clients.infer(client, "oip.scale", ("vector", "FP32", [1, 3], [1, 2, 3]), ("by", "FP32", [1], [1]))
    assert '"vector" has the shape [1, 3]' in wrong["error"].replace("\\", "")
    missing = clients.infer(client, "oip.nothing", ("x", "FP32", [1], [1]))
    assert "no function or scaling group" in missing["error"]
    odd = clients.infer(client, "oip.half", ("value", "INT64", [3], [2, 3, 4]))
    assert re.search(r"1 of 3 rows of call \w+ .*row 1 failed with RowError: 3 is odd", odd["error"]), odd


@pytest.mark.parametrize("client", TRITON)
def test_a_call_whose_time_is_over_is_cancelled(clients, remote, client):
    """Half a batch, which its 60 seconds of waiting would not cut before."""
    found = clients.infer(client, "oip.together", ("value", "INT64", [3], [1, 2, 3]), timeout=300_000)
    assert "within 300 ms" in found["error"]
    calls = remote._transport.request("GET", "/v1/calls?function=oip.together&limit=1")
    assert json.loads(calls.data)["calls"][0]["status"] in ("cancelled", "expired")


def test_requests_of_many_callers_share_a_batch(oip_server, address, clients, remote):
    """16 rows are a batch: none of these is alone large enough to be cut before a minute is over."""
    other = Clients(oip_server.url, address)
    with ThreadPoolExecutor(3) as pool:
        over_http = pool.submit(clients.infer, "triton-http", "oip.together", ("value", "INT64", [6], [0] * 6))
        over_grpc = pool.submit(other.infer, "triton-grpc", "oip.together", ("value", "INT64", [6], [0] * 6))
        ordinary = pool.submit(remote.function("oip.together"), [0] * 4)
        assert over_http.result(50)["outputs"]["result"]["data"] == [16] * 6
        assert over_grpc.result(50)["outputs"]["result"]["data"] == [16] * 6
        assert ordinary.result(50).to_pylist() == [16] * 4
    other.close()
