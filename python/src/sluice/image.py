"""Where a function or a model runs: a base image and the steps on top of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import PurePosixPath
from types import ModuleType
from typing import Any

from sluice.errors import DeclarationError

STRATEGIES = ("copy", "mount")


def _building() -> ModuleType:
    """Loaded when a recipe is asked for: a handler process, which only declares, starts without it."""
    from sluice import image_building

    return image_building


def _texts(option: str, values: tuple[str, ...]) -> tuple[str, ...]:
    if not values:
        raise DeclarationError(f"{option} got nothing; give it one or more texts")
    for value in values:
        if not isinstance(value, str) or not value.strip():
            raise DeclarationError(f"{option} got {value!r}; it takes texts that are not empty")
        if "\0" in value:
            raise DeclarationError(f"{option} got {value!r}; it takes texts without NUL")
    return values


def _line(option: str, value: str) -> str:
    """A text that stands in a line of its own of a Containerfile."""
    (text,) = _texts(option, (value,))
    if any(character.isspace() for character in text):
        raise DeclarationError(f"{option} got {value!r}; it takes a name without spaces")
    return text


def checked_env(option: str, env: Mapping[str, str]) -> dict[str, str]:
    """Environment variables, names and values both texts."""
    if not isinstance(env, Mapping):
        raise DeclarationError(f"{option} is {env!r}; it takes a dict of texts")
    for name, value in env.items():
        if not isinstance(name, str) or not name.isidentifier() or not name.isascii():
            raise DeclarationError(f"{option} names {name!r}; a variable has letters, digits and _")
        if not isinstance(value, str) or "\0" in value:
            raise DeclarationError(f"{option}[{name!r}] is {value!r}; it takes a text without NUL")
    return dict(env)


@dataclass(frozen=True)
class LocalFiles:
    """A file or directory of this machine and where it goes in the image."""

    source: str
    target: str
    is_directory: bool
    strategy: str


@dataclass(frozen=True)
class Image:
    """An immutable image description; every method answers a new one. Begin with :meth:`base` or :meth:`debian_slim`.

    As ``@sluice.function(image=…)`` it names the packages of a handler process. As ``model_image=`` of a model, or built by
    :meth:`build`, it becomes a container image: :meth:`containerfile` is its recipe, :meth:`context` the files that it needs.
    """

    name: str
    steps: tuple[dict[str, Any], ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    local: tuple[LocalFiles, ...] = ()
    directory: str | None = None
    command: tuple[str, ...] | None = None
    order: tuple[tuple[str, int], ...] = ()
    """Steps and local files in the order of their calls: ``("step", 0)``, ``("local", 0)``, …"""

    @classmethod
    def base(cls, name: str) -> Image:
        """An image by its OCI name, as ``python:3.12-slim``."""
        return cls(_line("Image.base", name))

    @classmethod
    def debian_slim(cls, python_version: str = "3.12") -> Image:
        """The official slim Python image."""
        return cls(f"python:{_line('Image.debian_slim', python_version)}-slim")

    def run_commands(self, *commands: str) -> Image:
        """Shell commands, each a step of its own. ``pip install …`` among them is understood by ``--isolated``."""
        return self._with_steps(*({"run": command} for command in _texts("run_commands", commands)))

    def pip_install(self, *packages: str) -> Image:
        """Python packages, as pip names them."""
        return self._with_steps({"pip_install": list(_texts("pip_install", packages))})

    def apt_install(self, *packages: str) -> Image:
        """Debian packages."""
        return self._with_steps({"apt_install": list(_texts("apt_install", packages))})

    def add_local_file(self, src: str | PathLike[str], dest: str, strategy: str = "copy") -> Image:
        """A file of this machine, to ``dest`` in the image (ending in ``/``: into that directory, under its own name).

        Args:
            src: its path, relative to the working directory; a symlink is followed, and its target's bytes go.
            dest: an absolute path in the image, or one relative to :meth:`workdir`.
            strategy: ``"copy"`` puts the bytes into the image, so that it runs anywhere; a later change needs a new build.
                ``"mount"`` leaves them out of a :meth:`build`: what runs the image lays the file over it, read-only
                (:meth:`mount_arguments`), so that a change needs no build, and the image alone lacks it. Registered with a
                model it is copied in any case: the server's machines do not have your files.

        Raises:
            DeclarationError: there is no such file, or the path or strategy is wrong.
        """
        return self._with_local(src, dest, strategy, is_directory=False)

    def add_local_dir(self, src: str | PathLike[str], dest: str, strategy: str = "copy") -> Image:
        """A directory with all that is in it, as :meth:`add_local_file`.

        Left out: ``.git``, ``__pycache__`` and ``*.pyc``. A symlink that leads out of the directory is refused by name, since
        it would carry along what nobody has named; one within it is followed.
        """
        return self._with_local(src, dest, strategy, is_directory=True)

    def env(self, variables: Mapping[str, str] | None = None, **more: str) -> Image:
        """Environment variables of the handler; later ones win."""
        given = checked_env("Image.env", {**(variables or {}), **more})
        return replace(self, variables={**self.variables, **given})

    def workdir(self, path: str) -> Image:
        """The directory that commands and the entry point begin in, made where it is missing; absolute."""
        if not isinstance(path, str) or not PurePosixPath(path).is_absolute() or _has_control(path):
            raise DeclarationError(f"Image.workdir got {path!r}; it takes an absolute path")
        return replace(self, directory=path)

    def entrypoint(self, command: Sequence[str]) -> Image:
        """The command of the image, as a list of words that no shell reads."""
        if isinstance(command, str) or not isinstance(command, Sequence):
            raise DeclarationError(f'Image.entrypoint got {command!r}; it takes a list of words, as ["python", "serve.py"]')
        return replace(self, command=_texts("Image.entrypoint", tuple(command)))

    def containerfile(self, include_mounts: bool = True) -> str:
        """The recipe of the image; its ``COPY`` lines name what :meth:`context` lists.

        ``include_mounts``: files with ``strategy="mount"`` are copied as well, for an image that is to run elsewhere.
        """
        return _building().containerfile(self, include_mounts)

    def context(self, include_mounts: bool = True) -> dict[str, str]:
        """What a build needs: path in the build context → path on this machine.

        Raises:
            DeclarationError: a symlink that leads out of its directory, something that is no file, or more than 10,000 files.
        """
        return _building().context(self, include_mounts)

    def mount_arguments(self) -> list[str]:
        """Flags of ``podman run`` and ``docker run`` for the files with ``strategy="mount"``."""
        return _building().mount_arguments(self)

    def build(self, tag: str, tool: str | None = None, args: Sequence[str] = (), on_line: Callable[[str], None] = print) -> str:
        """Builds the image on this machine and answers its tag.

        Args:
            tag: its name, as ``localhost/ranker:3``.
            tool: ``podman``, ``docker`` or a path to either; by default whichever is here, podman first.
            args: more flags of ``build``.
            on_line: gets each line of the build's output as it comes.

        Raises:
            ImageBuildError: neither tool is here, or the build failed; the message ends with its last lines.
        """
        return _building().build(self, _line("Image.build", tag), tool, args, on_line)

    def _with_steps(self, *steps: dict[str, Any]) -> Image:
        order = tuple(("step", len(self.steps) + i) for i in range(len(steps)))
        return replace(self, steps=self.steps + steps, order=self.order + order)

    def _with_local(self, src: str | PathLike[str], dest: str, strategy: str, is_directory: bool) -> Image:
        option = "add_local_dir" if is_directory else "add_local_file"
        if strategy not in STRATEGIES:
            raise DeclarationError(f'{option}: strategy is {strategy!r}; it is "copy" or "mount"')
        files = LocalFiles(_building().checked_source(option, src, is_directory), _target(option, dest), is_directory, strategy)
        return replace(self, local=(*self.local, files), order=(*self.order, ("local", len(self.local))))


def _has_control(text: str) -> bool:
    return any(ord(character) < 32 or ord(character) == 127 for character in text)


def _target(option: str, dest: str) -> str:
    if not isinstance(dest, str) or not dest or _has_control(dest):
        raise DeclarationError(f"{option}: dest is {dest!r}; it takes a path in the image")
    if ".." in PurePosixPath(dest).parts:
        raise DeclarationError(f'{option}: dest is {dest!r}; ".." has no place in it')
    return dest
