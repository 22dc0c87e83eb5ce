"""Engines and imported models through the client, on the real server, with a real engine as replica."""

import json
import subprocess
import sys
import tarfile
import zipfile
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
import sluice
from sluice import engines

SCALER = Path(__file__).resolve().parents[2] / "test" / "fixtures" / "engines" / "oip_scaler.py"
COMMAND = [sys.executable, str(SCALER), "{port}"]
PROBE = engines.ReadinessProbe(period_seconds=0.2, failure_threshold=300)
SCHEMA = {"input_schema": {"value": float}, "output_schema": {"scaled": float}}
SELECTOR = engines.EngineSelector(project_name="numbers", engine_name="scaler")


def code_of(action):
    with pytest.raises(sluice.ServerError) as caught:
        action()
    return caught.value.code


@pytest.fixture(scope="module")
def client(server):
    return sluice.Client(server.url)


@pytest.fixture(scope="module")
def scaler(client):
    return client.engines.create_engine_version(
        "numbers",
        "scaler",
        "1",
        command=COMMAND,
        readiness_probe=PROBE,
        inference_protocol="oip-v2",
        predictor_env_schema=[
            engines.PredictorVariable("OFFSET", "float", 0, "Added to each value"),
            {"name": "SHOUT", "type": "bool"},
        ],
        enforce_predictor_env_schema=True,
    )


@pytest.fixture
def weights(tmp_path):
    folder = tmp_path / "model"
    (folder / "weights").mkdir(parents=True)
    (folder / "weights" / "factor.txt").write_text("3")
    return folder


def test_versions_are_made_shown_and_deleted(server):
    at = {"url": server.url}
    made = engines.create_engine_version("p", "e", "1", container_image_cpu="r/e:1", env={"A": "b"}, **at)
    assert (made.is_default, made.container_image_cpu, made.env, made.inference_protocol) == (True, "r/e:1", {"A": "b"}, None)
    assert made.readiness_probe == engines.ReadinessProbe()
    assert engines.get_engine_version("p", "e", **at) == made
    assert (
        code_of(lambda: engines.create_engine_version("p", "e", "1", container_image_cpu="r/e:2", **at))
        == "engine_version_exists"
    )
    engines.create_engine_version(
        "p", "e", "2", container_image_cpu="r/e:2", predictor_env_schema=[{"name": "N", "type": "int"}], **at
    )
    assert engines.get_engine_version("p", "e", "2", **at).predictor_env_schema == (engines.PredictorVariable("N", "int"),)
    assert engines.set_default_engine_version("p", "e", "2", **at).default_version == "2"
    assert [(one.name, one.versions) for one in engines.list_engines("p", **at)] == [("e", ("1", "2"))]
    engines.delete_engine_version("p", "e", "1", **at)
    assert engines.get_engine("p", "e", **at).versions == ("2",)
    engines.delete_engine("p", "e", **at)
    assert code_of(lambda: engines.get_engine("p", "e", **at)) == "engine_not_found"


def test_what_cannot_be_is_refused_here_or_there(server):
    at = {"url": server.url}
    for more in ({"command": "python3 server.py"}, {"command": [1]}, {"readiness_probe": 5}, {"predictor_env_schema": ["A"]}):
        with pytest.raises(sluice.DeclarationError):
            engines.create_engine_version("p", "e", "1", **more, **at)
    assert code_of(lambda: engines.create_engine_version("p", "e", "1", **at)) == "invalid_engine"
    for name in ("", ".", "..", None):
        with pytest.raises(sluice.DeclarationError):
            engines.get_engine("p", name, **at)


def test_a_model_is_imported_served_and_called(client, scaler, weights, tmp_path, server):
    archive = tmp_path / "model.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(weights, arcname=".")
    version = sluice.import_model(
        "numbers",
        "Tripled",
        "Three times as much",
        "2024.1",
        "Regression",
        ["low", "high"],
        archive=archive,
        url=server.url,
        **SCHEMA,
    )
    assert (version.model_version, [one.path for one in version.files]) == (1, ["weights/factor.txt"])
    assert version.document["import"] == {
        "project": "numbers",
        "summary": "Three times as much",
        "version": "2024.1",
        "task_type": "Regression",
        "class_labels": {"low": 0, "high": 1},
    }
    group = client.deploy_model_version_to_scaling_group(
        "tripled",
        model_name="Tripled",
        engine_selector=SELECTOR,
        predictor_env_var={"OFFSET": "0.5"},
        timeout=60,
    )
    assert (group.state, group.document["engine"]["predictor_env"]) == ("ready", {"OFFSET": "0.5"})
    call = client.function("tripled")
    rows = pa.table({"value": [float(i) for i in range(5000)]})
    assert call(rows).to_pylist() == [3.0 * i + 0.5 for i in range(5000)]
    assert any("scaling by 3.0 for Regression" in line["text"] for line in client.logs("tripled"))
    assert client.engines.get_engine_version("numbers", "scaler").used_by == ("tripled",)
    assert code_of(lambda: client.engines.delete_engine("numbers", "scaler")) == "engine_in_use"
    # Other variables, other replicas; calls go on.
    client.deploy_model_version_to_scaling_group(
        "tripled", model_name="Tripled", engine_selector=SELECTOR, predictor_env_var={"SHOUT": True}, timeout=60
    )
    assert call(rows.slice(0, 3)).to_pylist() == [0.0, -3.0, -6.0]
    for wrong in ({"SHOUT": "loudly"}, {"OFFSET": "much"}, {"VOLUME": 11}, {"LD_PRELOAD": "evil.so"}):
        given = {"model_name": "Tripled", "engine_selector": SELECTOR, "predictor_env_var": wrong}
        deploy = partial(client.deploy_model_version_to_scaling_group, "tripled", **given)
        assert code_of(deploy) == "invalid_scaling_group"
    client.delete_scaling_group("tripled")


def test_a_folder_and_a_zip_are_the_same_files(client, weights, tmp_path):
    archive = tmp_path / "model.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.write(weights / "weights" / "factor.txt", "weights/factor.txt")
    one = client.import_model("numbers", "same", folder=weights)
    two = client.import_model("numbers", "same", archive=archive)
    assert one.files == two.files
    assert (one.input_schema, one.output_schema) == (pa.schema([]), pa.schema([]))


def test_without_schemas_any_columns_go_and_json_comes(client, scaler, weights):
    client.import_model("numbers", "loose", folder=weights, task_type="Regression")
    client.deploy_model_version_to_scaling_group("loose", model_name="loose", engine_selector=SELECTOR, timeout=60)
    answers = client.function("loose")(pa.table({"value": [1.0, 2.5]})).to_pylist()
    assert [json.loads(one) for one in answers] == [3.0, 7.5]
    client.delete_scaling_group("loose")


def test_the_command_imports(server, weights, tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("cat\n\ndog\n")
    env = {"SLUICE_URL": server.url, "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-m", "sluice.import_command", "--class-labels", str(labels), "--alias", "best"]
    done = subprocess.run([*command, "numbers", "typed", str(weights)], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Version 1 of typed is imported, with 1 file.\n", "")
    shown = sluice.Client(server.url).version("typed", "best")
    assert shown.document["import"]["class_labels"] == {"cat": 0, "dog": 1}
    (weights / "weights" / "notes.txt").write_text("of 2024")
    columns = ["--input=value=float64", "--input=tags=list<utf8>", "--output=result=float32"]
    done = subprocess.run([*command, *columns, "numbers", "columns", str(weights)], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Version 1 of columns is imported, with 2 files.\n", "")
    shown = sluice.Client(server.url).version("columns")
    assert shown.input_schema == pa.schema({"value": pa.float64(), "tags": pa.list_(pa.string())})
    assert shown.output_schema == pa.schema({"result": pa.float32()})
    missing = subprocess.run([*command, "numbers", "typed", "/nowhere.zip"], env=env, capture_output=True, text=True)
    assert missing.returncode == 1
    assert missing.stderr.startswith("sluice: archive is /nowhere.zip, which is no file")
