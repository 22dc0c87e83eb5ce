"""How a handler was made at home, told to its replica as JSON, and how the replica makes it again."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from sluice.errors import DeclarationError

OWN = ("model", "files", "artifact_path")
_GIVEN = "_sluice_given"
_LOADED = {"model": None, "files": (), "artifact_path": None}
"""What a constructor gets of its own in a replica, where it asks for it: ``load_model`` has the real ones."""


def recorded(initialise: Callable[..., None]) -> Callable[..., None]:
    """The constructor, which keeps the arguments of the outermost call."""
    signature = inspect.signature(initialise)
    rest = next((name for name, one in signature.parameters.items() if one.kind is one.VAR_POSITIONAL), None)

    @wraps(initialise)
    def kept(self: Any, *args: Any, **more: Any) -> None:
        if _GIVEN not in self.__dict__:
            bound = list(signature.bind(self, *args, **more).arguments.items())[1:]
            # The tuple of *args is no value of the user's, and JSON holds a list.
            self.__dict__[_GIVEN] = {name: list(value) if name == rest else value for name, value in bound}
        initialise(self, *args, **more)

    return kept


def fields_of(cls: type) -> list[str]:
    """The annotated attributes that are constructor arguments beside model, files and artifact_path."""
    names: dict[str, None] = {}
    for base in reversed(cls.__mro__):
        for name, hint in inspect.get_annotations(base).items():
            if name not in OWN and not name.startswith("_") and "ClassVar" not in str(hint):
                names[name] = None
    return list(names)


def attributes_text(handler: Any) -> str:
    """The annotated attributes as they are now; a replica sets them again.

    A text, since JSON that others read and write again makes 1.0 into 1 and rounds integers above 2⁵³.
    """
    names = [name for name in fields_of(type(handler)) if name in handler.__dict__]
    return json.dumps({name: _checked(handler, "attribute", name, handler.__dict__[name]) for name in names})


def arguments_text(handler: Any, model: Any) -> str | None:
    """The arguments of a constructor of the class's own; None: it has none of its own. The model object goes by itself."""
    given = handler.__dict__.get(_GIVEN)
    if given is None:
        return None
    taken = {name: None if value is model else value for name, value in given.items() if name not in OWN}
    return json.dumps({name: _checked(handler, "argument", name, value) for name, value in taken.items()})


def _checked(handler: Any, what: str, name: str, value: Any) -> Any:
    try:
        is_same = json.loads(json.dumps(value)) == value
    except (TypeError, ValueError):
        is_same = False
    if not is_same:
        raise DeclarationError(
            f"the {what} {name} of {type(handler).__name__} is {type(value).__name__}, which JSON does not hold; "
            "make it in load_model, or hand it over with model= or files="
        )
    return value


def made_again(cls: type, loader: Mapping[str, Any]) -> Any:
    """An instance as it was registered, without its model and files. Raises DeclarationError where the constructor fails."""
    attributes = _decoded(loader.get("attributes"))
    arguments = _decoded(loader.get("arguments"))
    try:
        handler = cls(**attributes) if attributes and loader.get("arguments") is None else _called(cls, arguments)
    except Exception as error:  # a constructor that works with the model, or that takes what nobody recorded
        raise DeclarationError(
            f"{cls.__qualname__}({', '.join(arguments or attributes)}) fails in the replica: {type(error).__name__}: {error}; "
            "the model and the files come in load_model, so do there what needs them"
        ) from error
    for name, value in attributes.items():
        setattr(handler, name, value)
    return handler


def _decoded(told: Any) -> dict[str, Any]:
    return json.loads(told) if isinstance(told, str) else dict(told or {})


def _called(cls: type, arguments: Mapping[str, Any]) -> Any:
    parameters = inspect.signature(cls).parameters
    given: dict[str, Any] = {}
    for name, parameter in parameters.items():
        if name in arguments:
            given[name] = arguments[name]
        elif name in _LOADED and parameter.default is parameter.empty:
            given[name] = _LOADED[name]
    more = next((name for name, one in parameters.items() if one.kind is one.VAR_KEYWORD), None)
    if more is not None:
        given[more] = dict(arguments.get(more) or {})
    bound = inspect.BoundArguments(inspect.Signature(list(parameters.values())), given)
    return cls(*bound.args, **bound.kwargs)
