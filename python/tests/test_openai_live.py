"""OpenAI's own Python client, sync and async, against the server on each store."""

import asyncio
import base64
import json
import time

import numpy
import openai
import pyarrow as pa
import pytest
import sluice
from server_process import HANDLERS
from sluice.errors import DeclarationError

END_S_MAX = 60


@pytest.fixture(scope="module")
def client(server):
    sluice.deploy(HANDLERS / "openai_functions.py", url=server.url)
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def remote_function(server, client):
    return sluice.Remote(server.url).function("py_embed")


TEXTS = ["one", "deux", "drei 🌍", "x" * 5000]


def rounded(vectors):
    return pa.array(vectors, pa.list_(pa.float32())).to_pylist()


def test_vectors_are_those_of_the_ordinary_interface(client, remote_function):
    wanted = rounded(remote_function({"text": TEXTS}).to_pylist())
    for how in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"}):
        answer = client.embeddings.create(model="py_embed", input=TEXTS, **how)
        if how.get("encoding_format") == "base64":
            found = [numpy.frombuffer(base64.b64decode(one.embedding), "<f4").tolist() for one in answer.data]
        else:
            found = rounded([one.embedding for one in answer.data])
        assert found == wanted
        assert [one.index for one in answer.data] == [0, 1, 2, 3]
        assert answer.usage.prompt_tokens == answer.usage.total_tokens == 1 + 1 + 3 + 1250


def test_many_callers_at_once(client, server):
    asynchronous = openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)

    async def ask(i: int) -> tuple[int, list[float]]:
        answer = await asynchronous.embeddings.create(model="py_embed", input="y" * (i + 1))
        return i, answer.data[0].embedding

    async def ask_all() -> list[tuple[int, list[float]]]:
        return await asyncio.gather(*(ask(i) for i in range(100)))

    for i, vector in asyncio.run(ask_all()):
        assert vector[0] == pytest.approx((i + 1) / 7, rel=1e-6)


def test_token_lists_dimensions_and_completions(client):
    answer = client.embeddings.create(model="py_embed_tokens", input=[[5, 6, 7], [8]])
    assert [one.embedding for one in answer.data] == [[3.0, 5.0], [1.0, 8.0]]
    assert answer.usage.prompt_tokens == 4
    cut = client.embeddings.create(model="py_embed", input="abc", dimensions=2).data[0].embedding
    assert cut[0] ** 2 + cut[1] ** 2 == pytest.approx(1)
    assert client.completions.create(model="py_complete", prompt="abc").choices[0].text == "cba"
    chat = client.chat.completions.create(model="py_complete", messages=[{"role": "user", "content": "xyz"}])
    assert chat.choices[0].message.content == "zyx"


def test_models(client):
    found = {one.id: one for one in client.models.list()}
    assert {"py_embed", "py_complete"} <= set(found)
    assert client.models.retrieve("py_embed") == found["py_embed"]
    assert found["py_embed"].task == "embedding"


@pytest.mark.parametrize(
    ("kind", "status", "code", "ask"),
    [
        (openai.BadRequestError, 400, "invalid_request", lambda c: c.embeddings.create(model="py_embed", input="")),
        (openai.BadRequestError, 400, "invalid_request", lambda c: c.embeddings.create(model="py_embed", input=["a"] * 3000)),
        (openai.BadRequestError, 400, "invalid_request", lambda c: c.embeddings.create(model="py_complete", input="a")),
        (openai.NotFoundError, 404, "model_not_found", lambda c: c.embeddings.create(model="nobody", input="a")),
        (openai.NotFoundError, 404, "model_not_found", lambda c: c.models.retrieve("nobody")),
        (openai.InternalServerError, 500, "handler_error", lambda c: c.embeddings.create(model="py_broken", input="a")),
        (
            openai.BadRequestError,
            400,
            "invalid_request",
            lambda c: c.completions.create(model="py_complete", prompt="a", stream=True),
        ),
        (openai.NotFoundError, 404, "not_found", lambda c: c.files.retrieve("file-nothing")),
        (openai.NotFoundError, 404, "not_found", lambda c: c.batches.retrieve("batch_nothing")),
        (openai.BadRequestError, 400, "invalid_request", lambda c: c.files.create(file=b"", purpose="batch")),
    ],
)
def test_errors_are_the_clients_exceptions(client, kind, status, code, ask):
    with pytest.raises(kind) as caught:
        ask(client)
    assert (caught.value.status_code, caught.value.code) == (status, code)
    if code == "handler_error":
        assert "the weights are gone" in str(caught.value)


def lines_of(requests):
    return "\n".join(
        json.dumps({"custom_id": name, "method": "POST", "url": "/v1/embeddings", "body": body}) for name, body in requests
    ).encode()


def ended(client, batch_id):
    limit = time.monotonic() + END_S_MAX
    while time.monotonic() < limit:
        batch = client.batches.retrieve(batch_id)
        if batch.status in ("failed", "completed", "expired", "cancelled"):
            return batch
    raise AssertionError(f"batch {batch_id} did not end")


def test_a_batch_to_its_end(client, remote_function):
    requests = [(f"r{i}", {"model": "py_embed", "input": f"text {i}"}) for i in range(1500)]
    requests.insert(700, ("wrong", {"model": "py_embed", "input": [None]}))
    file = client.files.create(
        file=("requests.jsonl", lines_of(requests)), purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert file.expires_at - file.created_at == 3600
    assert client.files.content(file.id).content == lines_of(requests)
    made = client.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h")
    done = ended(client, made.id)
    assert (done.status, done.request_counts.completed, done.request_counts.failed) == ("completed", 1500, 1)
    answers = [json.loads(line) for line in client.files.content(done.output_file_id).text.splitlines()]
    assert [one["custom_id"] for one in answers] == [f"r{i}" for i in range(1500)]
    found = [one["response"]["body"]["data"][0]["embedding"] for one in answers]
    assert rounded(found) == rounded(remote_function({"text": [f"text {i}" for i in range(1500)]}).to_pylist())
    (wrong,) = [json.loads(line) for line in client.files.content(done.error_file_id).text.splitlines()]
    assert (wrong["custom_id"], wrong["response"]["status_code"]) == ("wrong", 400)
    assert made.id in [one.id for one in client.batches.list(limit=5)]
    for name in (file.id, done.output_file_id, done.error_file_id):
        assert client.files.delete(name).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.content(done.output_file_id)


def test_the_async_client_runs_and_cancels_batches(client, server):
    asynchronous = openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)

    async def run() -> tuple[str, str]:
        content = lines_of([(f"r{i}", {"model": "py_embed", "input": "a"}) for i in range(20_000)])
        file = await asynchronous.files.create(file=("a.jsonl", content), purpose="batch")
        made = await asynchronous.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="1h")
        return made.id, (await asynchronous.batches.cancel(made.id)).status

    batch_id, status = asyncio.run(run())
    assert status == "cancelling"
    done = ended(client, batch_id)
    assert done.status == "cancelled"
    counts = done.request_counts
    # Cancelled before its file was checked, it has no lines; after that, each line is in one of its files.
    assert counts.completed + counts.failed == counts.total
    assert counts.total in (0, 20_000)


def test_a_task_that_does_not_fit_is_refused(server, tmp_path):
    def body(text: list[str]) -> list[int]:
        return [len(one) for one in text]

    with pytest.raises(DeclarationError, match="task is 'ranking'"):
        sluice.function(task="ranking")(body)
    file = tmp_path / "lengths.py"
    file.write_text(
        "import sluice\n\n@sluice.function(task='embedding')\n"
        "def lengths(text: list[str]) -> list[int]:\n    return [len(one) for one in text]\n"
    )
    with pytest.raises(sluice.ServerError, match="output is not a list of float16"):
        sluice.deploy(file, url=server.url)
