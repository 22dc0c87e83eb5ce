"""Schemathesis: generated requests, right and wrong, to every operation of /openapi.json. No 5xx, no undocumented answer."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from openapi_requests import requests_that_find
from openapi_world import World
from server_process import Server

HERE = Path(__file__).parent
ROUNDS = int(os.environ.get("SLUICE_TEST_ROUNDS", "1"))
"""More examples in one round would be spent on getting more of them accepted."""
EXAMPLES = 6 if ROUNDS > 1 else 2
"""Generated requests of each operation and round, besides those that are known and those that its schema's limits ask for."""
SEED = int(os.environ.get("SLUICE_TEST_SEED", "1")) if ROUNDS > 1 else 1
"""One round is a check that nothing has changed, with the same requests each time; many rounds look for what is not known."""
REQUEST_S_MAX = 60
WAIT_MS = 3000
"""The longest wait for a call: what would hang is a documented 504 so soon."""
CHECKS = [
    "no_fault_of_this_server",
    "no_key_no_answer",
    "documented_whatever_was_sent",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
]


@pytest.fixture
def world(tmp_path):
    """A store of several processes by its address in $SLUICE_TEST_STORE."""
    store = os.environ.get("SLUICE_TEST_STORE", "embedded")
    shared = ["serve", "--store", store, "--redis-prefix", tmp_path.parent.name, "--artifacts", str(tmp_path / "artifacts")]
    home = ["dev", "--data", str(tmp_path / "data")] if store == "embedded" else shared
    server = Server([*home, "--wait-max-ms", str(WAIT_MS)])
    try:
        yield World(server.url)
        assert server.process.poll() is None
        faults = [line for line in server.lines if line.startswith("{") and json.loads(line)["level"] >= 50]
        assert faults == []
    finally:
        server.stop()


@pytest.fixture
def schemathesis_run(world, tmp_path):
    """Schemathesis' command, in a process of its own: called with options, it gives the exit code and adds to the statuses."""
    known = requests_that_find(world)
    (tmp_path / "world.pickle").write_bytes(pickle.dumps((known, [world.admin, world.caller], world.steady)))
    # A proxy is not asked for what is on loopback.
    env = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    env |= {"SCHEMATHESIS_HOOKS": "openapi_hooks", "PYTHONPATH": str(HERE), "OPENAPI_PLACE": str(tmp_path)}
    env |= {"PYTHONUNBUFFERED": "1"}
    statuses = defaultdict(Counter)

    def run(**options):
        command = [sys.executable, "-m", "schemathesis.cli", "--config-file", HERE / "openapi_live.toml"]
        options |= {"checks": ",".join(CHECKS), "request-timeout": REQUEST_S_MAX, "suppress-health-check": "all"}
        # One worker: beside a thread, Python's own parser, which Hypothesis shows its lambdas with, has raised SystemError.
        options |= {"workers": 1, "warnings": "off"}
        flags = [f"--{name}={value}" for name, value in options.items()]
        command += ["run", f"{world.url}/openapi.json", *flags, "--continue-on-failure", "--no-color"]
        code = subprocess.run(list(map(str, command)), env=env, cwd=tmp_path).returncode
        for label, counted in json.loads((tmp_path / "statuses.json").read_text()).items():
            statuses[label].update(counted)
        return code

    run.statuses, run.known = statuses, known
    return run


def test_every_answer_is_documented(schemathesis_run):
    codes = [schemathesis_run(phases="examples,coverage,fuzzing", seed=SEED, **{"max-examples": EXAMPLES})]
    for seed in range(SEED + 1, SEED + ROUNDS):
        codes.append(schemathesis_run(phases="fuzzing", seed=seed, **{"max-examples": EXAMPLES}))
    if ROUNDS > 1:
        codes.append(schemathesis_run(phases="stateful", seed=SEED, **{"max-examples": EXAMPLES}))
    print(*(f"{label}: {dict(counted)}" for label, counted in schemathesis_run.statuses.items()), sep="\n")
    assert set(codes) == {0}
    # A request that is known belongs to an operation, and of every operation some find what they name.
    assert schemathesis_run.known.keys() <= schemathesis_run.statuses.keys()
    barren = [label for label, counted in schemathesis_run.statuses.items() if not any(one.startswith("2") for one in counted)]
    assert barren == []
