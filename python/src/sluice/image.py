"""Where a function runs: a base image and the steps on top of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sluice.errors import DeclarationError


def _texts(option: str, values: tuple[str, ...]) -> tuple[str, ...]:
    if not values:
        raise DeclarationError(f"{option} got nothing; give it one or more texts")
    for value in values:
        if not isinstance(value, str) or not value.strip():
            raise DeclarationError(f"{option} got {value!r}; it takes texts that are not empty")
    return values


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
class Image:
    """An immutable image description; every method answers a new one. Begin with :meth:`base` or :meth:`debian_slim`."""

    name: str
    steps: tuple[dict[str, Any], ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def base(cls, name: str) -> Image:
        """An image by its OCI name, as ``python:3.12-slim``."""
        (name,) = _texts("Image.base", (name,))
        return cls(name)

    @classmethod
    def debian_slim(cls, python_version: str = "3.12") -> Image:
        """The official slim Python image."""
        (version,) = _texts("Image.debian_slim", (python_version,))
        return cls(f"python:{version}-slim")

    def run_commands(self, *commands: str) -> Image:
        """Shell commands, each a step of its own. ``pip install …`` among them is understood by ``--isolated``."""
        steps = tuple({"run": command} for command in _texts("run_commands", commands))
        return replace(self, steps=self.steps + steps)

    def pip_install(self, *packages: str) -> Image:
        """Python packages, as pip names them."""
        return replace(self, steps=(*self.steps, {"pip_install": list(_texts("pip_install", packages))}))

    def apt_install(self, *packages: str) -> Image:
        """Debian packages."""
        return replace(self, steps=(*self.steps, {"apt_install": list(_texts("apt_install", packages))}))

    def env(self, variables: Mapping[str, str] | None = None, **more: str) -> Image:
        """Environment variables of the handler; later ones win."""
        given = checked_env("Image.env", {**(variables or {}), **more})
        return replace(self, variables={**self.variables, **given})
