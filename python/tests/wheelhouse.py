"""Wheels in a directory, from which pip installs without a network."""

import importlib.metadata
import os
import re
from pathlib import Path
from zipfile import ZipFile

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"

BUILD_BACKEND = '''
"""Builds what lies below src: of hatchling, which builds the package elsewhere, nothing is installed here."""
from pathlib import Path
from zipfile import ZipFile


def build_wheel(directory, config_settings=None, metadata_directory=None):
    name = "sluice-0.1.0-py3-none-any.whl"
    metadata = "Metadata-Version: 2.1\\nName: sluice\\nVersion: 0.1.0\\n" + "".join(
        f"Requires-Dist: {name}\\n" for name in REQUIRED
    )
    with ZipFile(Path(directory, name), "w") as wheel:
        for file in Path("src").rglob("*"):
            if "__pycache__" not in file.parts:
                wheel.write(file, file.relative_to("src"))
        wheel.writestr("sluice-0.1.0.dist-info/METADATA", metadata)
        wheel.writestr("sluice-0.1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("sluice-0.1.0.dist-info/RECORD", "")
    return name
'''


def make_wheel(directory: Path, name: str, version: str, files: dict[str, str]) -> Path:
    """A wheel of Python files."""
    path = directory / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with ZipFile(path, "w") as wheel:
        for file, text in files.items():
            wheel.writestr(file, text)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


def packed_again(directory: Path, name: str) -> None:
    """The wheel that an installed distribution came from, but for its commands."""
    installed = importlib.metadata.distribution(name)
    tag = re.search(r"^Tag: (\S+)$", installed.read_text("WHEEL") or "", re.MULTILINE)[1]
    with ZipFile(directory / f"{name}-{installed.version}-{tag}.whl", "w") as wheel:
        for file in installed.files or []:
            if ".." not in file.parts and file.suffix != ".pyc":
                wheel.write(os.fspath(file.locate()), file.as_posix())


def fill(directory: Path) -> None:
    """What ``pip install PATH_OF_SLUICE`` asks an index for."""
    listed = re.search(r"^dependencies = \[(.*?)\]", PYPROJECT.read_text(), re.MULTILINE | re.DOTALL)[1]
    required = re.findall(r'"(.+?)"', listed)
    for requirement in required:
        packed_again(directory, re.match(r"[\w-]+", requirement)[0])
    make_wheel(directory, "hatchling", "99", {"hatchling/build.py": BUILD_BACKEND.replace("REQUIRED", repr(required))})
