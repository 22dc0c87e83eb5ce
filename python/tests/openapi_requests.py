"""What generated requests are changed to: values that exist, bodies that are right, or nearly so."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from itertools import product
from typing import Any

from openapi_world import ARROW, FRESH, OCTETS, Request, World, arrow_stream, batch_line, digest_of, function_spec

ODD: list[Any] = [
    None, True, 0, -1, 1, 2**31, 2**53 + 1, -(2**63), 1e308, 0.5, "", " ", "a", "default", "latest", "\x00", "é🌍", "../..",
    "x" * 300, "__proto__", "constructor", [], [[]], [None], {}, {"a": None}, {"__proto__": 1}, [{}] * 3,
]  # fmt: skip

WAIT_S_MAX = 0.05
"""Long polls of generated requests end at once: that they wait is tested elsewhere."""


def places(value: Any, at: tuple = ()) -> Iterator[tuple]:
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, member in members:
        yield (*at, name)
        yield from places(member, (*at, name))


def changed(value: Any, rng: random.Random) -> Any:
    """A copy with one place taken away, replaced, or added."""
    value = copy.deepcopy(value)
    *way, last = rng.choice(list(places(value)) or [()]) or (None,)
    if last is None:
        return rng.choice(ODD)
    holder = value
    for step in way:
        holder = holder[step]
    how = rng.randrange(5)
    if how == 0:
        del holder[last]
    elif how == 1 and isinstance(holder, dict):
        holder[rng.choice(["unknown", "__proto__", ""])] = rng.choice(ODD)
    else:
        holder[last] = copy.deepcopy(rng.choice(ODD))
    return value


def each(**members: list[Any]) -> list[Request]:
    """A request for every combination of the path parameters' values."""
    return [{"path_parameters": dict(zip(members, values, strict=True))} for values in product(*members.values())]


def bodies(
    at: list[Request], *values: Any, media_type: str = "application/json", headers: dict[str, str] | None = None
) -> list[Request]:
    parts = {"media_type": media_type, "headers": headers or {}}
    return [{**place, **parts, "body": value} for place, value in product(at or [{}], values)]


def tensors(world: World) -> list[Request]:
    texts = {"name": "text", "shape": [2], "datatype": "BYTES", "data": ["a", "b"]}
    numbers = {"name": "value", "shape": [2], "datatype": "FP64", "data": [1.0, 2.5]}
    head = {"name": "value", "shape": [2], "datatype": "FP64", "parameters": {"binary_data_size": 16}}
    binary = json.dumps({"inputs": [head]}).encode()
    length = {"inference-header-content-length": str(len(binary))}
    return [
        *bodies(
            each(name=world.functions["steady"]),
            {"inputs": [texts]},
            {"id": "7", "inputs": [texts], "outputs": [{"name": "result"}]},
        ),
        *bodies(each(name=["tripled"]), {"inputs": [numbers]}),
        *bodies(each(name=["tripled"]), {"inputs": [numbers], "parameters": {"binary_data_output": True}}),
        *bodies(each(name=["tripled"]), binary + bytes(16), media_type=OCTETS, headers=length),
    ]


def versioned(world: World, requests: list[Request]) -> list[Request]:
    """With the version of the model beside its name."""
    of = {"tripled": ["1", "2"], "upper": [world.upper_version]}
    return [
        {**one, "path_parameters": {**one["path_parameters"], "version": version}}
        for one in requests
        for version in of.get(one["path_parameters"]["name"], ["1"])
    ]


def submissions(world: World) -> list[Request]:
    to = each(name=[*world.functions["steady"], "fails", "paused"])
    stream = arrow_stream(["a", "b", "c"])
    options = {"priority": 1, "lane": "x", "deadline_ms": 60_000, "metadata": {"a": "b"}}
    wait = {"prefer": "wait=2"}
    return [
        *bodies(to, {"columns": {"text": ["a", "b"]}}, {"rows": [{"text": "a"}], **options}, {"rows": []}),
        *bodies(to[:-1], {"columns": {"text": ["a", "b"]}}, headers=wait),
        *bodies(to[:-1], stream, stream[:-20], media_type=ARROW, headers={**wait, "accept": ARROW}),
        *bodies(to[:1], {"rows": []}, headers={"accept": "text/html"}),
        *bodies(to[:1], {"rows": [{"text": "once"}]}, {"rows": [{"text": "twice"}]}, headers={"idempotency-key": "k"}),
    ]


def pieces() -> list[Request]:
    found = []
    for i, content in enumerate(FRESH):
        headers = {"upload-offset": "0", "upload-length": str(len(content))}
        found += bodies(each(digest=[digest_of(content)]), content[: len(content) - i % 2], media_type=OCTETS, headers=headers)
    # As an empty file, of other bytes, and past the end.
    headers = {"upload-offset": "0", "upload-length": "9"}
    found += bodies(
        each(digest=[digest_of(b"another")]), b"nothing  ", b"", b"too long for it", media_type=OCTETS, headers=headers
    )
    return found


def ranges(world: World) -> list[Request]:
    asked = ["bytes=0-0", "bytes=9-", "bytes=-1", "bytes=0-0,2-3", "lines=1"]
    return [*each(digest=world.digests), *({**each(digest=[world.weights])[0], "headers": {"range": one}} for one in asked)]


def functions(world: World) -> dict[str, list[Request]]:
    name, spare = "/v1/functions/{name}", each(name=world.functions["spare"])
    return {
        f"POST {name}/calls": submissions(world),
        "POST /v1/functions": bodies([], *({"function": function_spec(f"spare-{i}", min_replicas=0)} for i in range(1, 3)),
            {"function": function_spec("new", min_replicas=0, task="completion", environment={"env": {"A": "b"}})}),
        f"GET {name}": each(name=[*world.functions["steady"], "fails", "model.tripled"]),
        f"PATCH {name}": bodies(spare, {"max_batching_size": 5}, {"max_buffer_duration": None, "max_batch_bytes": 4096}),
        **{f"POST {name}{path}": spare for path in ("/pause", "/resume", "/purge")},
        f"DELETE {name}": spare[::-1],
        f"POST {name}/repin": bodies(spare[:1], world.repin),
        f"GET {name}/logs": each(name=["upper", "model.tripled"]),
    }  # fmt: skip


def calls(world: World) -> dict[str, list[Request]]:
    by_id, of = "/v1/calls/{id}", world.calls
    shown = each(id=[*of["ended"], *of["waiting"]])
    accepts = [{**one, "headers": {"accept": accept}} for one in shown for accept in (ARROW, "text/html")]
    return {
        f"GET {by_id}": shown,
        f"DELETE {by_id}": each(id=[*of["spare"], *of["ended"]]),
        f"POST {by_id}/acknowledge": each(id=[*of["acknowledged"], *of["waiting"]]),
        f"GET {by_id}/result": [*shown, *accepts, *({**one, "query": {"partial": True}} for one in shown)],
        f"GET {by_id}/events": each(id=of["ended"]),
        "GET /v1/calls": [
            {"query": query} for query in ({"function": "upper", "limit": 2}, {"status": "failed"}, {"cursor": of["waiting"][0]})
        ],
    }


def models(world: World) -> dict[str, list[Request]]:
    one, spares = "/v1/models/{model}", [f"spare-{i}" for i in range(4)]
    version, alias = f"{one}/versions/{{version}}", f"{one}/aliases/{{alias}}"
    numbers = ["1", "2", "3", "production", "latest"]
    compared = [{"from": "1", "to": "2"}, {"from": "production", "to": "latest"}]
    new = world.registration(stage="staging", dependencies=["numpy==2"], loader={"a": [1]})
    source = [{"path": "m.py", "content": "cGFzcw=="}]
    coded = {**world.registration(), "import": None, "handler": {"file": "m.py", "attribute": "M"}, "source": source}
    imaged = {**world.registration(), "image": {"reference": "registry/name:1"}}
    aliases = each(model=spares, alias=["production", "next", "latest"])
    return {
        f"GET {one}": each(model=["demand", "upper", *spares]),
        f"PATCH {one}": bodies(each(model=spares), {"description": "what it does"}),
        f"DELETE {one}": each(model=["demand", "spare-4", "spare-5"]),
        f"GET {one}/compare": [{**each(model=["demand"])[0], "query": query} for query in compared],
        f"PUT {alias}": bodies(aliases, {"version": 2}),
        f"DELETE {alias}": aliases,
        f"POST {one}/versions": bodies(each(model=["spare-0", "new"]), new, coded, imaged),
        f"GET {one}/versions": each(model=["demand", *spares]),
        f"GET {version}": each(model=["demand", *spares], version=numbers),
        f"PATCH {version}": bodies(each(model=spares, version=numbers), {"stage": "archived", "metadata": {"a": "b"}}),
        f"DELETE {version}": each(model=["demand", *spares[::-1]], version=numbers[:2]),
    }  # fmt: skip


def engines(world: World) -> dict[str, list[Request]]:
    one, spares = "/v1/engines/{project}/{name}", [f"spare-{i}" for i in range(4)]
    version, numbers = f"{one}/versions/{{version}}", ["1", "2", "default"]
    image = world.engine("spare-1", "9", command=None, container_image_cpu="registry/name:1", env={"A": "b"}, is_default=True)
    return {
        "POST /v1/engines": bodies([], world.engine("spare-0", "1"), world.engine("new", "1"), image),
        f"GET {one}": each(project=["numbers"], name=["scaler", *spares]),
        f"DELETE {one}": each(project=["numbers"], name=["scaler", "spare-4", "spare-5"]),
        f"PUT {one}/default": bodies(each(project=["numbers"], name=spares), {"version": "2"}, {"version": "3"}),
        f"GET {version}": each(project=["numbers"], name=["scaler", *spares], version=numbers),
        f"DELETE {version}": each(project=["numbers"], name=spares[::-1], version=numbers),
    }


def groups(world: World) -> dict[str, list[Request]]:
    one, spares = "/v1/scaling-groups/{name}", each(name=[f"spare-{i}" for i in range(4)])
    idle = {"min_replicas": 0, "max_replicas": 1}
    stored = {"sample_rate": 0.5, "retention_ms": 60_000}
    limits = {"max_batching_size": 10, "retry": {"retries": 1}, "resources": {"cpu": 1}}
    deployments = [world.deployment(scaling=idle, **more) for more in ({}, limits, {"version": 1, "inference_store": stored})]
    times = [{"from": "2026-01-01T00:00:00Z"}, {"until": "2999-01-01T00:00:00Z", "limit": 1}]
    return {
        f"GET {one}": each(name=["tripled", "spare-0"]),
        f"PUT {one}": bodies([*spares, *each(name=["new"])], *deployments),
        f"PATCH {one}": bodies(spares, {"scaling": idle}, {"paused": True}),
        f"POST {one}/rollback": spares,
        f"DELETE {one}": each(name=["spare-4", "spare-5"]),
        f"PUT {one}/drift": bodies(each(name=["tripled", "spare-0"]), {"reference": world.reference, "window_ms": 600_000}),
        **{f"{method} {one}/drift": each(name=["tripled", "spare-0"]) for method in ("GET", "DELETE")},
        f"GET {one}/inference-files": [{**at, "query": query} for at in each(name=["tripled"]) for query in ({}, *times)],
    }


def inference(world: World) -> dict[str, list[Request]]:
    one, names = "/v2/models/{name}", each(name=[*world.functions["steady"], "paused", "tripled", "model.tripled"])
    return {
        "POST /v2/repository/index": bodies([], {}, {"ready": True}),
        **{f"GET {one}{path}": names for path in ("", "/ready")},
        **{f"GET {one}/versions/{{version}}{path}": versioned(world, names) for path in ("", "/ready")},
        f"POST {one}/infer": tensors(world),
        f"POST {one}/versions/{{version}}/infer": versioned(world, tensors(world)),
    }


def openai(world: World) -> dict[str, list[Request]]:
    files, batch = world.files, "/v1/batches/{id}"
    embedding = {"model": "embed", "input": ["a", "b"], "encoding_format": "base64", "dimensions": 1, "user": "me"}
    chat = {"model": "complete", "messages": [{"role": "user", "content": "abc"}]}
    order = {
        "input_file_id": files["steady"][0],
        "endpoint": "/v1/embeddings",
        "completion_window": "24h",
        "metadata": {"a": "b"},
    }
    lines = json.dumps(batch_line("one")).encode()
    return {
        "POST /v1/embeddings": bodies([], {"model": "embed", "input": "a"}, embedding),
        "POST /v1/completions": bodies(
            [], {"model": "complete", "prompt": "abc"}, {"model": "complete", "prompt": ["a"], "temperature": 1}
        ),
        "POST /v1/chat/completions": bodies([], chat),
        "POST /v1/files": bodies(
            [], {"purpose": "batch", "file": lines}, {"purpose": "batch", "file": b""}, media_type="multipart/form-data"
        ),
        "GET /v1/files/{id}": each(id=[*files["steady"], *files["spare"]]),
        "GET /v1/files/{id}/content": each(id=files["steady"]),
        "DELETE /v1/files/{id}": each(id=files["spare"]),
        "POST /v1/batches": bodies([], order, {**order, "completion_window": "1s"}),
        f"GET {batch}": each(id=world.batches),
        f"POST {batch}/cancel": each(id=world.batches),
    }


def requests_that_find(world: World) -> dict[str, list[Request]]:
    """For operations by their label, such as `GET /v1/calls/{id}`: requests that find something."""
    artifact = "/v1/artifacts/{digest}"
    return {
        **functions(world), **calls(world), **models(world), **engines(world), **groups(world), **inference(world),
        **openai(world),
        "POST /v1/keys": bodies([], {"name": "new", "scopes": ["call"]}),
        "DELETE /v1/keys/{id}": each(id=world.keys),
        f"HEAD {artifact}": each(digest=world.digests),
        f"GET {artifact}": ranges(world),
        f"PATCH {artifact}": pieces(),
    }  # fmt: skip


def short_wait(query: dict[str, Any]) -> None:
    wait = query.get("wait")
    if isinstance(wait, (int, float)) and wait > WAIT_S_MAX and wait <= 600:
        query["wait"] = WAIT_S_MAX


def change(case: Any, known: Request, rng: random.Random) -> None:
    """Half stay as they were generated; of the others, half keep the generated body, and of the rest half are nearly right."""
    if rng.random() < 0.5:
        return
    known = copy.deepcopy(known)
    case.path_parameters.update(known.get("path_parameters", {}))
    case.query.update(known.get("query", {}))
    if "body" in known and rng.random() < 0.5:
        return
    case.headers.update(known.get("headers", {}))
    if "body" in known:
        case.media_type = known["media_type"]
        is_json = case.media_type == "application/json"
        case.body = changed(known["body"], rng) if is_json and rng.random() < 0.5 else known["body"]
