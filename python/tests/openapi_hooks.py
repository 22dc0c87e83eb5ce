"""What Schemathesis loads into its own process ($SCHEMATHESIS_HOOKS): generated requests find what is in the server."""

from __future__ import annotations

import atexit
import json
import os
import pickle
import random
import zlib
from collections import Counter, defaultdict
from pathlib import Path

import schemathesis
from hypothesis import strategies as st
from openapi_requests import change, short_wait
from openapi_world import ARROW, OCTETS, arrow_stream

PLACE = Path(os.environ["OPENAPI_PLACE"])
KNOWN, KEYS, STEADY = pickle.loads((PLACE / "world.pickle").read_bytes())

HANDLERS_FAULTS = ("handler_error", "handler_output_invalid", "request_timeout")
"""Answers of 5xx that say that something else failed than this server: an engine that answers Infinity, say."""

EXAMPLES_MAX = 3
"""Of each operation: what some delete, others still find."""

CALLING = ("/calls", "/infer")

STREAM = arrow_stream(["a", "b"])
schemathesis.openapi.media_type(ARROW, st.one_of(st.binary(max_size=200), st.integers(0, len(STREAM)).map(lambda n: STREAM[:n])))
schemathesis.openapi.media_type(OCTETS, st.binary(max_size=200))

statuses: dict[str, Counter] = defaultdict(Counter)


def is_declared(case) -> bool:
    """Not a request with a method that the path does not have."""
    return case.method.upper() == case.operation.method.upper()


@schemathesis.hook
def filter_case(context, case):
    """What others rely on is not changed: by chance, or because a step of a scenario takes it from an answer."""
    is_change = case.method.upper() not in ("GET", "HEAD") and not case.path.endswith(CALLING)
    return not (is_change and any(isinstance(value, str) and value in STEADY for value in case.path_parameters.values()))


@schemathesis.hook
def map_case(context, case):
    """What becomes of a request depends on the request alone, so that a seed gives the same ones."""
    rng = random.Random(zlib.crc32(repr(case).encode()))
    key = rng.choices([None, *KEYS], weights=[1, 7, 1])[0]
    short_wait(case.query)
    if is_declared(case) and case.operation.label in KNOWN:
        change(case, rng.choice(KNOWN[case.operation.label]), rng)
    case.headers.pop("authorization", None)
    if key is not None:
        case.headers["authorization"] = f"Bearer {key}"
    return case


@schemathesis.hook
def before_add_examples(context, examples):
    """Of what finds something, the first ones just as they are."""
    for known in KNOWN.get(context.operation.label, [{}])[:EXAMPLES_MAX]:
        headers = {**known.get("headers", {}), "authorization": f"Bearer {KEYS[0]}"}
        examples.append(context.operation.Case(**{**known, "headers": headers}))


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """Bytes are no JSON that a schema could judge, and a part of a form may be; both are sent right by `map_case` at times."""
    is_judged = not isinstance(case.body, bytes) and case.media_type != "multipart/form-data"
    return is_judged or type(failure).__name__ != "AcceptedNegativeData"


@schemathesis.hook
def after_call(context, case, response):
    if is_declared(case):
        statuses[case.operation.label][response.status_code] += 1


@schemathesis.check
def no_fault_of_this_server(context, response, case):
    text = response.content.decode("utf-8", "replace")
    assert response.status_code < 500 or any(code in text for code in HANDLERS_FAULTS), f"{response.status_code}: {text[:500]}"


@schemathesis.check
def documented_whatever_was_sent(context, response, case):
    """Schemathesis' own check leaves out bodies of other types than those that are taken."""
    if is_declared(case):
        assert str(response.status_code) in case.operation.responses.status_codes, (
            f"{response.status_code}: {response.text[:500]}"
        )


@schemathesis.check
def no_key_no_answer(context, response, case):
    if "authorization" not in case.headers and case.operation.definition.raw.get("security"):
        assert response.status_code in (400, 401, 404, 405), f"{response.status_code} without a key"


atexit.register(lambda: (PLACE / "statuses.json").write_text(json.dumps(statuses)))
