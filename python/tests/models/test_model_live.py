"""The registry and scaling groups through the client, and what happens to models that are wrong, on the real server."""

import threading
from pathlib import Path

import classes
import numpy as np
import pyarrow as pa
import pytest
import sluice
from sluice import AutoScalingSpec, DeploymentError, ScalingGroupResourceRequest

X = {"x": float}
Y = {"y": float}
ROWS = pa.table({"x": [1.0, 2.0, 3.0]})


def code_of(action):
    with pytest.raises(sluice.ServerError) as caught:
        action()
    return caught.value.code


# The registry


def test_versions_are_numbered_compared_and_deleted(client, tmp_path):
    (tmp_path / "offset.txt").write_text("1")
    first = client.register_model_version(
        "numbered",
        classes.Scaled(factor=2.0),
        input_schema=X,
        output_schema=Y,
        files=[tmp_path / "offset.txt"],
        metadata={"author": "me"},
        aliases=["production"],
        stage="staging",
    )
    assert (first.name, first.model_version, first.metadata, first.stage) == ("numbered", 1, {"author": "me"}, "staging")
    assert (first.aliases, first.used_by, first.format, first.dependencies) == (("production",), (), None, ())
    assert (first.input_schema, first.output_schema) == (pa.schema([("x", pa.float64())]), pa.schema([("y", pa.float64())]))
    assert [(one.path, one.bytes) for one in first.files] == [("offset.txt", 1)]
    (tmp_path / "offset.txt").write_text("22")
    second = client.register_model_version(
        "numbered", classes.Scaled(factor=3.0), input_schema=X, output_schema=Y, files=[tmp_path / "offset.txt"]
    )
    assert second.model_version == 2
    model = client.model("numbered")
    assert (model.versions, model.latest_version, model.aliases) == ((1, 2), 2, {"production": 1})
    assert [one.model_version for one in client.versions("numbered")] == [2, 1]
    assert client.version("numbered", "production").model_version == 1
    assert client.version("numbered").model_version == 2
    compared = client.compare("numbered", 1, 2)
    assert [(one.path, one.change) for one in compared.files] == [("offset.txt", "changed")]
    assert {one.field for one in compared.differences} >= {"loader"}
    assert client.set_alias("numbered", "production", 2).aliases == {"production": 2}
    assert client.delete_alias("numbered", "production").aliases == {}
    assert client.set_stage("numbered", 1, "archived").stage == "archived"
    assert client.set_metadata("numbered", 1, {"a": "b"}).metadata == {"a": "b"}
    assert client.describe_model("numbered", "counts").description == "counts"
    client.delete_version("numbered", 1)
    assert code_of(lambda: client.version("numbered", 1)) == "model_not_found"
    assert [one.name for one in client.models()].count("numbered") == 1
    client.delete_model("numbered")
    assert code_of(lambda: client.model("numbered")) == "model_not_found"


def test_many_models_and_versions_come_in_pages(client, monkeypatch):
    monkeypatch.setattr(sluice.client, "PAGE", 2)
    for name in ("page-a", "page-b", "page-c"):
        for _ in range(3 if name == "page-b" else 1):
            client.register_model_version(name, classes.Scaled(), input_schema=X, output_schema=Y)
    assert {"page-a", "page-b", "page-c"} <= {one.name for one in client.models()}
    assert [one.model_version for one in client.versions("page-b")] == [3, 2, 1]


def test_what_the_client_refuses_before_it_asks(client):
    cases = [
        (lambda: client.register_model_version("m", input_schema=X, output_schema=Y), "model is None"),
        (lambda: client.register_model_version("m", classes.Scaled(), input_schema={}, output_schema=Y), "input_schema has 0"),
        (lambda: AutoScalingSpec(3, 2), "max_replicas is 2; it takes at least min_replicas"),
        (lambda: AutoScalingSpec(-1), "min_replicas is -1"),
        (lambda: ScalingGroupResourceRequest(cpu="many"), "cpu is 'many'"),
        (lambda: ScalingGroupResourceRequest(memory="2GX"), "memory is '2GX'"),
        (lambda: client.deploy_model_version_to_scaling_group("g", model_name="m", scaling=3), "scaling is 3"),
        (lambda: client.deploy_model_version_to_scaling_group("g", model_name="m", model_version=1.5), "model_version is 1.5"),
        (lambda: client.scale("g", 3), "scaling is 3"),
        (lambda: client.register_model_version("m", image=7, input_schema=X, output_schema=Y), "image is 7"),
    ]
    for action, said in cases:
        with pytest.raises(sluice.DeclarationError, match=said):
            action()
    assert ScalingGroupResourceRequest("500m", "1Gi").to_json() == {"cpu": 0.5, "memory_bytes": 2**30, "gpu": None}


def test_an_image_is_registered_with_the_files_that_it_is_built_from(client, tmp_path):
    (tmp_path / "model.py").write_text("def handler(event, context):\n    return event['x']\n")
    (tmp_path / "weights.bin").write_bytes(b"12345")
    image = sluice.Image.debian_slim("3.12").add_local_file(tmp_path / "model.py", "/app/model.py").workdir("/app")
    schemas = {"input_schema": X, "output_schema": Y}
    version = client.register_model_version(
        "imaged", image=image, handler="model.handler", files=[tmp_path / "weights.bin"], **schemas
    )
    stored = version.document["image"]
    assert stored["containerfile"].startswith("FROM python:3.12-slim")
    assert [one["bytes"] for one in stored["context"]] == [(tmp_path / "model.py").stat().st_size]
    assert ([(one.path, one.bytes) for one in version.files], version.document["loader"]["handler"]) == (
        [("weights.bin", 5)],
        "model.handler",
    )
    named = client.register_model_version("imaged", model_image="registry/ranker:3", **schemas)
    assert named.document["image"] == {"reference": "registry/ranker:3"}
    with pytest.raises(sluice.DeclarationError, match="image and model_image are both given"):
        client.register_model_version("imaged", image="a:b", model_image="a:b", **schemas)
    with pytest.raises(sluice.DeclarationError, match="handler names a function in an image"):
        client.register_model_version("imaged", classes.Scaled(), handler="model.handler", **schemas)
    client.delete_model("imaged")


# Scaling groups


def test_a_group_is_deployed_updated_rolled_back_scaled_and_deleted(client, deploy):
    group = deploy(classes.Scaled(factor=2.0), X, Y, scaling=AutoScalingSpec(1, 2), env_vars={"A": "b"})
    function = client.function(group.name)
    assert function(ROWS).to_pylist() == client.function(f"model.{group.name}")(ROWS).to_pylist() == [2.0, 4.0, 6.0]
    with pytest.raises(sluice.ServerError, match=f"there is a scaling group of this name, called as model.{group.name}"):
        sluice.Remote(client.url).function(group.name)(ROWS)
    assert (group.env, group.scaling["max_replicas"], group.backend) == ({"A": "b"}, 2, "process")
    assert code_of(lambda: client.delete_model(group.model)) == "model_deployed"
    updated = deploy(classes.Scaled(factor=3.0), X, Y)
    assert (updated.version, updated.state) == (2, "ready")
    assert function(ROWS).to_pylist() == [3.0, 6.0, 9.0]
    assert client.rollback(group.name, timeout=60).version == 1
    assert function(ROWS).to_pylist() == [2.0, 4.0, 6.0]
    assert client.scale(group.name, AutoScalingSpec(2, 3)).scaling["min_replicas"] == 2
    ready = client.wait_ready(group.name, 60)
    assert ready.ready >= 2 and {one.state for one in ready.replicas} == {"ready"}
    assert [one.name for one in client.scaling_groups()].count(group.name) == 1
    assert "deployed" in [event.kind for event in client.scaling_group(group.name).events]
    client.delete_scaling_group(group.name)
    assert code_of(lambda: client.scaling_group(group.name)) == "scaling_group_not_found"
    client.delete_model(group.model)


def test_files_reach_the_replica_unless_they_are_left_out(client, deploy, tmp_path):
    (tmp_path / "offset.txt").write_text("10")
    (tmp_path / "words" / "deep").mkdir(parents=True)
    (tmp_path / "words" / "deep" / "a.txt").write_text("hello")
    handler = classes.FromFiles(files=[tmp_path / "offset.txt", tmp_path / "words"])
    group = deploy(handler, X, {"y": float, "word": str})
    assert client.function(group.name)(ROWS).to_pylist()[0] == {"y": 11.0, "word": "hello"}
    # Lines come to the server a moment after they were printed.
    while not any("loaded in" in line["text"] for line in client.logs(group.name)):
        pass
    with pytest.raises(DeploymentError, match="offset.txt"):
        deploy(handler, X, {"y": float, "word": str}, group=f"{group.name}-without", skip_upload_to_volumes=True)


def test_a_wrong_answer_fails_the_call_and_says_how(client, deploy):
    for how, said in (
        ("column", "the answer lacks 'y' and has 'z' too"),
        ("type", "'y' of output_schema is double"),
        ("length", "predict got 3 rows and returned 2"),
    ):
        group = deploy(classes.Wrong(how=how), X, Y, retries=0, isolation="off")
        with pytest.raises(sluice.CallFailedError, match=said) as caught:
            client.function(group.name)(ROWS)
        assert caught.value.code == "handler_output_invalid"


def test_a_model_that_crashes_on_load_says_why(deploy):
    with pytest.raises(DeploymentError) as caught:
        deploy(classes.Crashing(), X, Y)
    assert caught.value.state == "failed"
    assert "the weights are not for this machine" in caught.value.reason
    assert "in load_model" in caught.value.reason


def test_a_model_that_dies_on_load_says_so(deploy):
    with pytest.raises(DeploymentError) as caught:
        deploy(classes.Dying(), X, Y)
    assert caught.value.state == "failed"
    assert "code 3" in caught.value.reason


@pytest.mark.parametrize(
    ("wrong", "options", "said"),
    [
        (classes.Crashing, {}, "the weights are not for this machine"),
        (classes.Stuck, {"ready_timeout": 2.0}, "ready"),
    ],
    ids=["crashing", "stuck"],
)
def test_an_update_that_does_not_load_is_taken_back_and_fails_no_call(client, deploy, wrong, options, said):
    group = deploy(classes.Scaled(factor=2.0), X, Y)
    function = client.function(group.name)
    finished = threading.Event()
    failures = []

    def call():
        while not finished.is_set():
            try:
                assert function(ROWS).to_pylist() == [2.0, 4.0, 6.0]
            except BaseException as error:
                failures.append(error)
                return

    caller = threading.Thread(target=call)
    caller.start()
    try:
        with pytest.raises(DeploymentError) as caught:
            deploy(wrong(), X, Y, **options)
    finally:
        finished.set()
        caller.join()
    assert (caught.value.state, failures) == ("rolled_back", [])
    assert said in caught.value.reason
    after = client.scaling_group(group.name)
    assert (after.version, after.updating_to, after.ready) == (group.version, None, 1)


def test_a_model_that_never_becomes_ready_ends_the_wait_and_not_the_group(client, deploy):
    with pytest.raises(DeploymentError, match="not ready after 1 s") as caught:
        deploy(classes.Stuck(), X, Y, timeout=1)
    assert caught.value.state == "starting"
    assert client.scaling_group(caught.value.group).version == 1
    assert any(line["text"] == "half way" for _ in range(10_000) for line in client.logs(caught.value.group))
    with pytest.raises(DeploymentError, match="it printed last: half way"):
        client.wait_ready(caught.value.group, timeout=0)


def test_a_model_that_eats_memory_is_stopped_and_named(deploy):
    with pytest.raises(DeploymentError) as caught:
        deploy(classes.Hungry(), X, Y, resources=ScalingGroupResourceRequest(memory="400Mi"))
    assert "of memory=" in caught.value.reason


def test_attributes_are_the_same_numbers_in_the_replica(client, deploy):
    group = deploy(classes.Typed(number=1.0, seed=2**60 + 1), X, {"y": str})
    assert client.function(group.name)({"x": [0.0]}).to_pylist() == [f"1.0 {2**60 + 1}"]


@pytest.mark.filterwarnings("ignore:.*is saved as pickle")
def test_a_pickled_model_is_served_in_its_replica(client, deploy):
    group = deploy(classes.Doubler(), X, Y)
    assert client.version(group.model).format == "pickle"
    assert client.function(group.name)(ROWS).to_pylist() == [2.0, 4.0, 6.0]


def test_zero_rows_and_nulls(client, deploy):
    group = deploy(classes.Scaled(factor=2.0), X, Y)
    function = client.function(group.name)
    empty = function(ROWS.slice(0, 0))
    assert (len(empty), empty.type) == (0, pa.float64())
    answer = function({"x": pa.array([None, 1.0])}).to_pylist()
    assert np.isnan(answer[0]) and answer[1] == 2.0


def artifact_file(server, digest):
    """The stored bytes of an artifact, behind the server's back."""
    flags = [str(one) for one in server.process.args]
    flag = "--artifacts" if "--artifacts" in flags else "--data"
    (found,) = [
        path for path in Path(flags[flags.index(flag) + 1]).rglob(f"*{digest.removeprefix('sha256:')[2:]}*") if path.is_file()
    ]
    return found


def test_a_stored_file_that_was_changed_is_not_served(client, server):
    from sklearn.linear_model import LinearRegression

    name = "changed-artifact"
    model = LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0])
    version = client.register_model_version(name, model, input_schema=X, output_schema=Y)
    (file,) = version.files
    stored = artifact_file(server, file.digest)
    stored.chmod(0o644)
    stored.write_bytes(stored.read_bytes()[:-1] + b"?")
    with pytest.raises(DeploymentError, match=f"and {file.digest} was registered: it was changed, and is not loaded"):
        client.deploy_model_version_to_scaling_group(name, model_name=name, timeout=60)
    client.delete_scaling_group(name, force=True)
