"""Images: what their recipes say, whatever the texts hold, and that a real tool builds and runs them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sluice.errors import DeclarationError
from sluice.image import Image
from sluice.image_building import ImageBuildError

NASTY = 'a b\'s "c" $HOME \\ `id` é'


def lines(image: Image) -> list[str]:
    return image.containerfile().splitlines()


def test_a_recipe_keeps_the_order_of_its_calls(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("x = 1")
    image = (
        Image.debian_slim("3.11")
        .workdir("/app")
        .apt_install("libgomp1")
        .add_local_file(tmp_path / "model.py", "/app/")
        .pip_install("numpy>=1.26")
        .run_commands("echo done")
        .env(A="1")
        .entrypoint(["python3", "-m", "model"])
    )
    assert lines(image) == [
        "FROM python:3.11-slim",
        'ENV A="1"',
        "WORKDIR /app",
        'RUN ["/bin/sh", "-c", "apt-get update && apt-get install -y --no-install-recommends libgomp1'
        ' && rm -rf /var/lib/apt/lists/*"]',
        'COPY ["local/0/model.py", "/app/model.py"]',
        'RUN ["python3", "-m", "pip", "install", "--no-cache-dir", "numpy>=1.26"]',
        'RUN ["/bin/sh", "-c", "echo done"]',
        'ENTRYPOINT ["python3", "-m", "model"]',
    ]
    assert image.context() == {"local/0/model.py": str(tmp_path / "model.py")}


def test_no_text_leaves_its_place() -> None:
    image = Image.base("x").run_commands(f"echo {NASTY}\nRUN evil").pip_install("a; rm -rf /").apt_install("b; rm")
    found = lines(image.env(V=NASTY).workdir("/a $b").entrypoint([NASTY]))
    assert len(found) == 7
    assert found[1] == 'ENV V="a b\'s \\"c\\" \\$HOME \\\\ `id` é"'
    assert found[2] == "WORKDIR /a \\$b"
    assert json.loads(found[3].removeprefix("RUN ")) == ["/bin/sh", "-c", f"echo {NASTY}\nRUN evil"]
    assert "'b; rm'" in json.loads(found[5].removeprefix("RUN "))[2]
    assert json.loads(found[6].removeprefix("ENTRYPOINT ")) == [NASTY]


def test_what_is_mounted_is_in_no_image_built_here_but_in_one_that_goes_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "w.bin").write_bytes(b"1")
    image = Image.base("x").workdir("/app").add_local_dir(tmp_path / "weights", "weights", strategy="mount")
    assert image.context(include_mounts=False) == {}
    assert "COPY" not in image.containerfile(include_mounts=False)
    assert image.mount_arguments() == ["--mount", f"type=bind,source={tmp_path}/weights,target=/app/weights,readonly"]
    assert image.context() == {"local/0/w.bin": str(tmp_path / "weights" / "w.bin")}
    assert 'COPY ["local/0/", "weights/"]' in image.containerfile()


def test_links_within_a_directory_are_followed_and_others_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "sub" / "__pycache__").mkdir(parents=True)
    (root / "sub" / "__pycache__" / "x.pyc").write_bytes(b"")
    (root / "sub" / "a").write_text("a")
    (root / "link").symlink_to("sub")
    image = Image.base("x").add_local_dir(root, "/r")
    assert sorted(image.context()) == ["local/0/link/a", "local/0/sub/a"]

    (tmp_path / "secret").write_text("s")
    (root / "out").symlink_to("../secret")
    with pytest.raises(DeclarationError, match=r"symlink .*/root/out leads out of the directory, to .*/secret"):
        image.context()
    (root / "out").unlink()
    (root / "sub" / "up").symlink_to("..")
    with pytest.raises(DeclarationError, match="leads to a directory that holds it"):
        image.context()
    (root / "sub" / "up").unlink()
    (root / "nowhere").symlink_to("nothing")
    with pytest.raises(DeclarationError, match="leads nowhere"):
        image.context()
    (root / "nowhere").unlink()
    os.mkfifo(root / "pipe")
    with pytest.raises(DeclarationError, match="neither a file nor a directory"):
        image.context()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Image.base("a\nRUN evil"), "without spaces"),
        (lambda: Image.debian_slim("3 RUN"), "without spaces"),
        (lambda: Image.base("x").workdir("app"), "absolute path"),
        (lambda: Image.base("x").workdir("/a\nRUN evil"), "absolute path"),
        (lambda: Image.base("x").entrypoint("python serve.py"), "list of words"),
        (lambda: Image.base("x").add_local_file("/nothing/here", "/a"), "there is no file /nothing/here"),
        (lambda: Image.base("x").add_local_dir("/etc/hostname", "/a"), "there is no directory"),
        (lambda: Image.base("x").add_local_file(__file__, "../a"), '".." has no place'),
        (lambda: Image.base("x").add_local_file(__file__, "/a", strategy="link"), '"copy" or "mount"'),
        (lambda: Image.base("x").env(A="1\n2").containerfile(), "line break"),
        (lambda: Image.base("x").run_commands(""), "not empty"),
    ],
)
def test_wrong_texts_are_refused_by_name(make: object, message: str) -> None:
    with pytest.raises(DeclarationError, match=message):
        make()  # type: ignore[operator]


def test_steps_of_functions_stay_what_they_were() -> None:
    image = Image.base("x").pip_install("numpy").run_commands("a", "b")
    assert image.steps == ({"pip_install": ["numpy"]}, {"run": "a"}, {"run": "b"})


def test_without_a_tool_a_build_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ImageBuildError, match="neither podman nor docker is here"):
        Image.base("x").build("localhost/x")
    with pytest.raises(ImageBuildError, match="there is no ctr here"):
        Image.base("x").build("localhost/x", tool="ctr")


BUILD = ["--runtime", "runc", "--network", "host", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]
RUN = [*BUILD, "--cgroups=no-conmon", "--rm"]
why_not = (
    "podman and runc are not installed"
    if not (shutil.which("podman") and shutil.which("runc"))
    else "podman without a daemon needs root here"
    if os.geteuid() != 0
    else None
)


@pytest.fixture
def base(tmp_path: Path) -> str:
    """An image of one static program: busybox where the system has it, else a shell with the libraries that it names."""
    name = f"localhost/sluice-image-test:{os.getpid()}"
    root = tmp_path / "root"
    for program in ("sh", "cat", "chmod"):
        found = os.path.realpath(shutil.which(program) or program)
        (root / "bin").mkdir(parents=True, exist_ok=True)
        shutil.copy(found, root / "bin" / program)
        for word in subprocess.run(["ldd", found], capture_output=True, text=True).stdout.split():
            if word.startswith("/"):
                (root / word[1:]).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(os.path.realpath(word), root / word[1:])
    archive = shutil.make_archive(str(tmp_path / "root"), "tar", root)
    subprocess.run(["podman", "import", "--quiet", archive, name], check=True, capture_output=True)
    yield name  # type: ignore[misc]
    subprocess.run(["podman", "rmi", "--force", name], capture_output=True)


@pytest.mark.skipif(why_not is not None, reason=why_not or "")
def test_a_real_build_takes_all_of_it(base: str, tmp_path: Path) -> None:
    (tmp_path / "d x").mkdir()
    (tmp_path / "d x" / "f $y.txt").write_text("in a directory")
    (tmp_path / "a[1].sh").write_text("#!/bin/sh\ncat '/app/d x/f $y.txt'; echo \" $V\"; cat /app/made\n")
    (tmp_path / "a[1].sh").chmod(0o755)
    said: list[str] = []
    image = (
        Image.base(base)
        .workdir("/app")
        .env(V=NASTY)
        .add_local_dir(tmp_path / "d x", "/app/d x")
        .add_local_file(tmp_path / "a[1].sh", "/app/run $it.sh")
        .run_commands("echo \"made of '$V'\" > made")
        .entrypoint(["/app/run $it.sh"])
    )
    tag = f"{base}-built"
    try:
        assert image.build(tag, args=BUILD, on_line=said.append) == tag
        ran = subprocess.run(["podman", "run", *RUN, tag], check=True, capture_output=True, text=True)
        assert ran.stdout == f"in a directory {NASTY}\nmade of '{NASTY}'\n"
        assert any("STEP" in line for line in said)
        with pytest.raises(ImageBuildError, match="(?s)left with code.*spoiled"):
            image.run_commands("echo spoiled; exit 3").build(tag, args=BUILD, on_line=said.append)
    finally:
        subprocess.run(["podman", "rmi", "--force", tag], capture_output=True)


def test_a_declaration_does_not_load_what_builds_images():
    code = "import sys, sluice; sluice.function; sluice.Image.base('a').pip_install('b')"
    code += "; print('sluice.image_building' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"
