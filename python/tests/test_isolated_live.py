"""Functions in virtual environments of their own, from the command line and from Python; pip has a directory for its index."""

import os
import subprocess
import sys

import pyarrow as pa
import sluice
from server_process import ROOT, Server
from wheelhouse import fill, make_wheel

SOURCE = """
import sys
import sluice

image = sluice.Image.base("python:3.12-slim").run_commands("pip install {package}").pip_install("tiny-other")

@sluice.function(name="{name}", image=image, max_batching_size=8, max_buffer_duration=5)
def {name}(word: list[str]) -> list[str]:
    import pyarrow, tiny, tiny_other
    return [f"{{tiny.VALUE}}, {{tiny_other.VALUE}}, {{sys.prefix}}, {{pyarrow.__file__}}, {{w}}" for w in word]
"""


def by_command(url, file):
    command = [ROOT / "node_modules/.bin/node", ROOT / "cli/bin/sluice.mjs", "deploy", "--isolated", "--python", sys.executable]
    subprocess.run([*map(str, command), file], env={**os.environ, "SLUICE_URL": url}, check=True)


def by_python(url, file):
    sluice.deploy(file, url=url, isolated=True)


def test_isolated_functions_have_what_their_image_installs(home, tmp_path, monkeypatch):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    fill(wheels)
    make_wheel(wheels, "tiny_other", "2", {"tiny_other.py": "VALUE = 'by its name'"})
    package = make_wheel(tmp_path, "tiny", "1", {"tiny.py": "VALUE = 'from a file'"})
    for variable in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(variable)
    for variable, value in {"CONFIG_FILE": os.devnull, "NO_INDEX": "1", "FIND_LINKS": str(wheels)}.items():
        monkeypatch.setenv(f"PIP_{variable}", value)
    environments = tmp_path / "environments"
    server = Server([*home(tmp_path), "--environments", str(environments)])
    try:
        for deploy in (by_command, by_python):
            name = deploy.__name__
            file = tmp_path / f"{name}.py"
            file.write_text(SOURCE.format(name=name, package=package))
            deploy(server.url, file)
            function = sluice.Remote(server.url).function(name, output_type=pa.utf8())
            (answer,) = function(["x"]).to_pylist()
            (environment,) = [path.parent for path in environments.glob("*/complete")]
            assert answer.startswith(f"from a file, by its name, {environment}, {environment}/"), answer
    finally:
        server.stop()
