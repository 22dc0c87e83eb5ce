"""An image's description as a Containerfile, its build context, and a build by podman or docker."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from sluice.errors import DeclarationError, SluiceError

if TYPE_CHECKING:
    from sluice.image import Image, LocalFiles

LEFT_OUT = {".git", "__pycache__"}
FILES_MAX = 10_000
"""Of one context; what a version may hold as well."""
TAIL_LINES = 20
TOOLS = ("podman", "docker")
LOCAL = "local"
"""The context's directory of the user's files, one numbered directory for each call."""


class ImageBuildError(SluiceError):
    """An image could not be built; the message ends with what the tool printed last."""


def checked_source(option: str, src: str | PathLike[str], is_directory: bool) -> str:
    path = Path(src).expanduser().absolute()
    found = path.is_dir() if is_directory else path.is_file()
    if not found:
        raise DeclarationError(f"{option}: there is no {'directory' if is_directory else 'file'} {path}")
    return str(path)


def containerfile(image: Image, include_mounts: bool) -> str:
    lines = [f"FROM {image.name}"]
    lines += [f"ENV {name}={_env_value(value)}" for name, value in image.variables.items()]
    if image.directory is not None:
        lines.append(f"WORKDIR {_words(image.directory)}")
    for kind, at in image.order:
        if kind == "step":
            lines.append(f"RUN {_step(image.steps[at])}")
        elif include_mounts or image.local[at].strategy == "copy":
            lines.append(_copy(at, image.local[at]))
    if image.command is not None:
        lines.append(f"ENTRYPOINT {_exec(image.command)}")
    return "\n".join(lines) + "\n"


def context(image: Image, include_mounts: bool) -> dict[str, str]:
    found: dict[str, str] = {}
    for at, files in enumerate(image.local):
        if files.strategy == "copy" or include_mounts:
            for path, source in _files(files):
                found[f"{LOCAL}/{at}/{path}"] = source
                if len(found) > FILES_MAX:
                    raise DeclarationError(f"add_local_dir {files.source}: more than {FILES_MAX} files; name a smaller directory")
    return found


def mount_arguments(image: Image) -> list[str]:
    flags: list[str] = []
    for files in image.local:
        if files.strategy == "mount":
            target = PurePosixPath(image.directory or "/", _full_target(files))
            flags += ["--mount", f"type=bind,source={files.source},target={target},readonly"]
    return flags


def build(image: Image, tag: str, tool: str | None, args: Sequence[str], on_line: Callable[[str], None]) -> str:
    program = _tool(tool)
    with tempfile.TemporaryDirectory(prefix="sluice-image-") as directory:
        root = Path(directory, "context")
        root.mkdir()
        for path, source in context(image, include_mounts=False).items():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            target.chmod(0o755 if os.access(source, os.X_OK) else 0o644)
        for at, files in enumerate(image.local):
            if files.is_directory and files.strategy == "copy":
                (root / LOCAL / str(at)).mkdir(parents=True, exist_ok=True)  # an empty directory is one as well
        recipe = Path(directory, "Containerfile")
        recipe.write_text(containerfile(image, include_mounts=False))
        _run([program, "build", *args, "--file", str(recipe), "--tag", tag, str(root)], on_line)
    return tag


def _tool(wanted: str | None) -> str:
    for name in TOOLS if wanted is None else (wanted,):
        found = shutil.which(name)
        if found is not None:
            return found
    raise ImageBuildError("neither podman nor docker is here; install one" if wanted is None else f"there is no {wanted} here")


def _run(command: list[str], on_line: Callable[[str], None]) -> None:
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, text=True, errors="replace", **options) as process:
        try:
            for line in process.stdout or ():
                tail.append(line.rstrip("\n"))
                on_line(tail[-1])
        except BaseException:
            process.terminate()
            raise
    if process.returncode != 0:
        lines = "\n".join(tail)
        raise ImageBuildError(f"{Path(command[0]).name} build left with code {process.returncode}:\n{lines}")


def _exec(words: Sequence[str]) -> str:
    """The exec form: JSON that no shell reads."""
    return json.dumps(list(words), ensure_ascii=False)


def _words(*paths: str) -> str:
    """Paths of COPY and WORKDIR, where ``$`` would name a variable; the JSON form takes spaces and quotes as they are."""
    return " ".join(path.replace("\\", "\\\\").replace("$", "\\$") for path in paths)


def _env_value(value: str) -> str:
    if "\n" in value or "\r" in value:
        raise DeclarationError(f"Image.env: {value!r} has a line break, which an image's variables cannot hold")
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    return f'"{escaped}"'


def _step(step: dict[str, Any]) -> str:
    if "pip_install" in step:
        return _exec(["python3", "-m", "pip", "install", "--no-cache-dir", *step["pip_install"]])
    if "apt_install" in step:
        packages = shlex.join(step["apt_install"])
        command = f"apt-get update && apt-get install -y --no-install-recommends {packages} && rm -rf /var/lib/apt/lists/*"
        return _exec(["/bin/sh", "-c", command])
    return _exec(["/bin/sh", "-c", step["run"]])


def _full_target(files: LocalFiles) -> str:
    """With the file's own name where the target is a directory."""
    return files.target + Path(files.source).name if files.target.endswith("/") and not files.is_directory else files.target


def _copy(at: int, files: LocalFiles) -> str:
    target = _full_target(files)
    if files.is_directory:
        source, target = f"{LOCAL}/{at}/", target.rstrip("/") + "/"
    else:
        source = f"{LOCAL}/{at}/{_context_name(files)}"
    mode = "--chmod=755 " if not files.is_directory and os.access(files.source, os.X_OK) else ""
    return f"COPY {mode}{json.dumps([_words(source), _words(target)], ensure_ascii=False)}"


def _context_name(files: LocalFiles) -> str:
    """Its own, which a directory as a target keeps, but for what COPY would take as a pattern."""
    name = Path(files.source).name
    return "file" if set(name) & set("*?[]\\") else name


def _files(files: LocalFiles) -> Iterator[tuple[str, str]]:
    """Path below the numbered directory, and path on this machine."""
    root = Path(files.source)
    if not files.is_directory:
        yield _context_name(files), str(root)
        return
    yield from _tree(root, root.resolve(), "")


def _tree(directory: Path, root: Path, prefix: str) -> Iterator[tuple[str, str]]:
    for entry in sorted(directory.iterdir(), key=lambda one: one.name):
        if entry.name in LEFT_OUT or entry.suffix == ".pyc":
            continue
        real = entry.resolve()
        if entry.is_symlink():
            _check_link(entry, real, root)
        if real.is_dir():
            yield from _tree(entry, root, f"{prefix}{entry.name}/")
        elif real.is_file():
            yield prefix + entry.name, str(entry)
        else:
            raise DeclarationError(f"add_local_dir: {entry} is neither a file nor a directory")


def _check_link(link: Path, real: Path, root: Path) -> None:
    if not real.exists():
        raise DeclarationError(f"add_local_dir: the symlink {link} leads nowhere")
    if root != real and root not in real.parents:
        raise DeclarationError(
            f"add_local_dir: the symlink {link} leads out of the directory, to {real}; copy it there, or add it by itself"
        )
    if real.is_dir() and (real in link.parent.resolve().parents or real == link.parent.resolve()):
        raise DeclarationError(f"add_local_dir: the symlink {link} leads to a directory that holds it")
