"""``python -m sluice.manifest`` in real processes: what it lists, what it takes along, what it says of a broken file."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

FUNCTION = """
@sluice.function(name="{0}")
def {0}(x: list[str]) -> list[str]: return x
"""


def listed(path: Path, code: int = 0, cwd: Path | None = None) -> tuple[dict[str, Any], str]:
    told = subprocess.run([sys.executable, "-m", "sluice.manifest", str(path)], capture_output=True, text=True, cwd=cwd)
    assert told.returncode == code, told.stderr
    return json.loads(told.stdout), told.stderr


def write(folder: Path, **files: str) -> Path:
    for name, code in files.items():
        path = folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
    return folder / "main.py"


def paths(manifest: dict[str, Any]) -> list[str]:
    return [one["path"] for one in manifest["functions"][0]["source"]]


def failure(tmp_path: Path, code: str) -> str:
    manifest, err = listed(write(tmp_path, main=code), 1)
    assert set(manifest) == {"error"}
    assert manifest["error"]["message"].partition(" (main.py")[0] in err
    return manifest["error"]["message"]


def test_functions_in_the_order_of_the_file(tmp_path):
    main = write(tmp_path, main="import sluice" + FUNCTION.format("b") + FUNCTION.format("a") + "c = b\n")
    manifest, _ = listed(main)
    assert [one["name"] for one in manifest["functions"]] == ["b", "a"]
    first = manifest["functions"][0]
    assert first["handler"] == {"file": "main.py", "attribute": "b"}
    assert first["environment"]["interpreter"] == sys.executable
    assert base64.b64decode(first["source"][0]["content"]) == main.read_bytes()


def test_the_same_file_lists_the_same(tmp_path):
    main = write(tmp_path, main="import sluice" + FUNCTION.format("a"))
    assert listed(main) == listed(main) == listed(Path("main.py"), cwd=tmp_path)


def test_nothing_else_reaches_standard_output(tmp_path):
    noise = "import os, sys, subprocess, threading\nprint('a')\nos.write(1, b'b')\nsubprocess.run(['echo', 'c'])\n"
    endless = "threading.Thread(target=threading.Event().wait).start()\nimport sluice"
    manifest, err = listed(write(tmp_path, main=noise + endless + FUNCTION.format("f")))
    assert len(manifest["functions"]) == 1
    assert {"a", "c"} == set(err.replace("b", "").split())


def test_local_modules_go_along(tmp_path):
    main = write(
        tmp_path,
        main="import sluice, used, package.inner\ndef g():\n    from lazy import thing" + FUNCTION.format("f"),
        used="import deeper",
        deeper="",
        lazy="from other import (a, b)\nthing = 1",
        other="a = b = 1",
        unused="",
        **{
            "package/__init__": "from . import near",
            "package/near": "from .third import x",
            "package/third": "x = 1",
            "package/inner": "",
            "package/unused": "",
        },
    )
    # A virtual environment below the folder is not taken along, whatever is imported from it.
    write(tmp_path / ".venv/lib/site-packages", foreign="")
    main.write_text(
        f"import sys; sys.path.append({str(tmp_path / '.venv/lib/site-packages')!r}); import foreign\n" + main.read_text()
    )
    package = ["package/__init__.py", "package/inner.py", "package/near.py", "package/third.py"]
    assert paths(listed(main)[0]) == ["deeper.py", "lazy.py", "main.py", "other.py", *package, "used.py"]


def test_imported_functions_belong_to_their_own_file(tmp_path):
    write(tmp_path, other="import sluice" + FUNCTION.format("other"))
    manifest, _ = listed(write(tmp_path, main="import sluice\nfrom other import other" + FUNCTION.format("f")))
    assert [one["name"] for one in manifest["functions"]] == ["f"]
    assert "it only imports other" in failure(tmp_path, "from other import other")


def test_broken_files_say_what_is_wrong(tmp_path):
    assert "no function" in failure(tmp_path, "import sluice")
    assert "2 times" in failure(tmp_path, "import sluice" + FUNCTION.format("f") + "g = f" + FUNCTION.format("f"))
    nameless = "import sluice\ndef make():\n    @sluice.function()\n    def f(x: list[str]) -> list[str]: ...\nmake()\n"
    assert "top level" in failure(tmp_path, nameless)
    assert failure(tmp_path, "import nothing_like_this") == "No module named 'nothing_like_this'"
    assert "invalid syntax" in failure(tmp_path, "def (")
    assert failure(tmp_path, "import sys; sys.exit(7)") == "7"


def test_the_traceback_ends_in_the_users_file(tmp_path):
    main = write(tmp_path, main="import sluice\n\n@sluice.function(memory='lots')\ndef f(x: list[str]) -> list[str]: ...\n")
    manifest, err = listed(main, 1)
    # Python 3.10 names the line of the def, later ones that of the decorator.
    assert f'"{main}", line 3' in err or f'"{main}", line 4' in err
    assert err.rstrip().splitlines()[-1].startswith("function f: memory is 'lots'")
    assert "declaration.py" not in err


def test_files_that_cannot_be_deployed(tmp_path):
    for name, words in (("missing.py", "is not there"), ("json.py", "hides"), ("sluice.py", "hides"), ("a.txt", ".py")):
        path = tmp_path / name
        if name != "missing.py":
            path.write_text("")
        manifest, _ = listed(path, 1)
        assert words in manifest["error"]["message"]


def test_a_file_that_deploys_itself_does_not_do_so_for_ever(tmp_path):
    code = "import sluice" + FUNCTION.format("f")
    assert '__name__ == "__main__"' in failure(tmp_path, code + "sluice.deploy(__file__)\n")
    guarded = write(tmp_path, main=code + "if __name__ == '__main__':\n    sluice.deploy(f, url='http://127.0.0.1:1')\n")
    assert len(listed(guarded)[0]["functions"]) == 1
