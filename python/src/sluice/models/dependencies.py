"""``dependencies=``: what pip installs into a version's own environment, pinned to what the model was made with."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from typing import Any

from sluice.errors import DeclarationError

_NAMED = re.compile(r"\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(\[[^\]]*\])?\s*(.*?)\s*", re.DOTALL)
DEPENDENCIES_MAX = 1000
_OWN = {"sluice", "pyarrow", "urllib3", "tqdm"}
"""Every environment has these."""


def environment(dependencies: Any, modules: Iterable[str], pin: bool) -> list[str]:
    """What to install: the given requirements, and the distributions of ``modules`` that none of them is.

    A requirement without a version gets the one that is installed here, as far as ``pin`` says so; a warning names those that
    stay without one. Nothing is installed for no dependencies: such a version runs in the interpreter that registers it.

    Raises DeclarationError for what is no requirement.
    """
    given = _checked(dependencies)
    if not given:
        return []
    named = {_canonical(name) for one in given if (name := name_of(one))}
    found = [_distribution(module) for module in modules]
    added = [name for name in dict.fromkeys(found) if name and _canonical(name) not in named | _OWN and not _same(name, named)]
    wanted = [*given, *added]
    pinned = [pinned_requirement(one) for one in wanted] if pin else wanted
    loose = [one for one in pinned if (name := name_of(one)) and not _specifier(one)]
    if loose:
        warnings.warn(
            f"{', '.join(loose)} {'has' if len(loose) == 1 else 'have'} no version, so that each new replica gets the newest; "
            f'write "{name_of(loose[0])}==1.2.3"',
            stacklevel=3,
        )
    return pinned


def _checked(dependencies: Any) -> list[str]:
    if dependencies is None:
        return []
    if isinstance(dependencies, str) or not isinstance(dependencies, Iterable):
        raise DeclarationError(f'dependencies is {dependencies!r}; it takes a list of requirements, as ["scikit-learn==1.7"]')
    given = list(dependencies)
    if len(given) > DEPENDENCIES_MAX:
        raise DeclarationError(f"dependencies has {len(given)} entries; it takes {DEPENDENCIES_MAX}")
    for one in given:
        if not isinstance(one, str) or not one.strip() or one.strip().startswith("-") or "\n" in one:
            raise DeclarationError(f"dependencies has {one!r}; it takes requirements as pip names them, and no options")
    return [one.strip() for one in given]


def name_of(requirement: str) -> str | None:
    """The distribution's name; None for an address or a path."""
    match = _NAMED.fullmatch(requirement)
    is_address = match is None or "://" in requirement.partition("@")[0] or (match[3][:1] in ("/", ":", "\\"))
    return None if is_address else match[1]  # type: ignore[index]


def _specifier(requirement: str) -> str:
    match = _NAMED.fullmatch(requirement)
    return match[3].partition(";")[0].strip() if match else ""


def pinned_requirement(requirement: str) -> str:
    """With the version that is installed here, where it has none of its own and one is installed."""
    name = name_of(requirement)
    if name is None or _specifier(requirement):
        return requirement
    version = installed_version(name)
    if version is None:
        return requirement
    head, marker, rest = requirement.partition(";")
    # "+cpu" and the like are in no index.
    return f"{head.strip()}=={version.partition('+')[0]}{marker and f' ; {rest.strip()}'}"


def installed_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
    # The same module may come from another distribution: xgboost from xgboost-cpu.
    for distribution in _distributions().get(name.replace("-", "_"), []):
        return metadata.version(distribution)
    return None


def _distribution(module: str) -> str | None:
    found = _distributions().get(module, [])
    return found[0] if found else None


def _same(distribution: str, named: set[str]) -> bool:
    """Whether a named distribution is another build of this one: xgboost of xgboost-cpu."""
    own = {module for module, names in _distributions().items() if distribution in names}
    return any(_canonical(module) in named for module in own)


@cache
def _distributions() -> dict[str, list[str]]:
    return dict(metadata.packages_distributions())


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
