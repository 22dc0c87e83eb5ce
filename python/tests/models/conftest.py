import re
import sys
import tempfile
from pathlib import Path

import pytest
import sluice

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "zoo")]


@pytest.fixture
def lay(tmp_path):
    """Packages a model and lays it out in a new folder: ``lay(model, inputs, outputs, **options)``."""
    from replicas import Laid

    return lambda *args, **options: Laid(Path(tempfile.mkdtemp(dir=tmp_path)), *args, **options)


@pytest.fixture(scope="session")
def client(server):
    return sluice.Client(server.url)


@pytest.fixture
def deploy(client, request):
    """Registers a model and deploys it to a group of its own, which goes with the test: ``deploy(model, inputs, outputs)``."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:60].strip("-")
    groups = []

    def deployed(model, inputs, outputs, *, group=name, **more):
        registration = {key: more.pop(key) for key in ("dependencies", "files", "allow_pickle") if key in more}
        version = client.register_model_version(name, model, input_schema=inputs, output_schema=outputs, **registration)
        groups.append(group)
        return client.deploy_model_version_to_scaling_group(
            group, model_name=name, model_version=version.model_version, **{"timeout": 120, "max_buffer_duration": 1, **more}
        )

    yield deployed
    for group in set(groups):
        try:
            client.delete_scaling_group(group, force=True)
        except sluice.ServerError as error:
            assert error.code == "scaling_group_not_found"
