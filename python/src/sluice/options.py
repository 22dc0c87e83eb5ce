"""The options of a function, checked where they are declared. Messages name the option, its value and what is allowed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NoReturn

from sluice.errors import DeclarationError

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,127}")
DAY_MS = 86_400_000
ROWS_MAX = 1_000_000
BATCH_BYTES_MIN = 1024
BATCH_BYTES_MAX = 2**30
"""A frame to a handler process holds 2 GiB; half of it leaves room for what surrounds the rows."""
BATCH_BYTES = 64 * 2**20
REPLICAS_MAX = 1000
CALL_TIMEOUT_S = 300
_UNITS = {
    "": 1,
    **{f"{p}i": 1024**i for i, p in enumerate("KMGTP", 1)},
    **{p: 1000**i for i, p in enumerate("KMGTP", 1)},
    "k": 1000,
}


def refuse(option: str, value: object, allowed: str) -> NoReturn:
    raise DeclarationError(f"{option} is {value!r}; it takes {allowed}")


def integer(option: str, value: Any, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        refuse(option, value, f"a whole number from {least} to {most}")
    return value


def optional_integer(option: str, value: Any, least: int, most: int) -> int | None:
    return None if value is None else integer(option, value, least, most)


def number(option: str, value: Any, least: float, most: float, unit: str = "") -> float:
    wrong = isinstance(value, bool) or not isinstance(value, (int, float))
    if wrong or not least <= value <= most:
        refuse(option, value, f"a number{unit} from {least:g} to {most:g}")
    return value


def function_name(value: Any) -> str:
    if not isinstance(value, str) or not NAME.fullmatch(value):
        refuse("name", value, "letters, digits, _ . and -, beginning with a letter, at most 128")
    return value


def choice(option: str, value: Any, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        refuse(option, value, " or ".join(f'"{one}"' for one in allowed))
    return value


def memory_bytes(value: Any) -> int | None:
    """``"4Gi"``, ``"512Mi"``, ``"2G"`` or a number of bytes."""
    if value is None:
        return None
    allowed = 'bytes, or a text as "512Mi" or "4Gi"'
    if isinstance(value, str):
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGTPk]i?|)B?", value.strip())
        if match is None or match[2] not in _UNITS:
            refuse("memory", value, allowed)
        size = int(float(match[1]) * _UNITS[match[2]])
    elif isinstance(value, int) and not isinstance(value, bool):
        size = value
    else:
        refuse("memory", value, allowed)
    if not 1 <= size <= 2**50:
        refuse("memory", value, f"{allowed}, more than nothing and at most 1Pi")
    return size


def optional_text(option: str, value: Any) -> str | None:
    if value is not None and (not isinstance(value, str) or not 0 < len(value) <= 256):
        refuse(option, value, "a text of 1 to 256 characters, or None")
    return value


def optional_callable(option: str, value: Any) -> Any:
    if value is not None and not callable(value):
        refuse(option, value, "a function without parameters, or None")
    return value


def _class_names(option: str, values: Any) -> tuple[str, ...]:
    if isinstance(values, (str, type)) or not isinstance(values, Iterable):
        values = (values,)
    names = []
    for value in values:
        if isinstance(value, type) and issubclass(value, BaseException):
            names.append(value.__name__)
        elif isinstance(value, str) and value.isidentifier():
            names.append(value)
        else:
            refuse(option, value, 'exception classes, or their plain names as "ValueError"')
    return tuple(names)


@dataclass(frozen=True)
class RetryPolicy:
    """When a failed batch runs again. Waits are in seconds; the wait before retry n is
    ``min(first_wait · multiplier^(n−1), longest_wait)``, of which the share ``jitter`` is random.

    ``retry_on`` (empty: all) and ``terminal_on`` (which wins) name exception classes; any class in an exception's MRO counts.
    """

    retries: int = 3
    first_wait: float = 0.2
    multiplier: float = 2.0
    longest_wait: float = 30.0
    jitter: float = 0.2
    retry_on: Any = ()
    terminal_on: Any = ()

    def __post_init__(self) -> None:
        integer("RetryPolicy.retries", self.retries, 0, 100)
        number("RetryPolicy.first_wait", self.first_wait, 0, DAY_MS / 1000, " of seconds")
        number("RetryPolicy.multiplier", self.multiplier, 1, 100)
        number("RetryPolicy.longest_wait", self.longest_wait, 0, DAY_MS / 1000, " of seconds")
        number("RetryPolicy.jitter", self.jitter, 0, 1)
        for option in ("retry_on", "terminal_on"):
            object.__setattr__(self, option, _class_names(f"RetryPolicy.{option}", getattr(self, option)))

    @classmethod
    def of(cls, value: Any) -> RetryPolicy:
        """``retries=``: a number of retries or a whole policy."""
        if isinstance(value, cls):
            return value
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 100:
            refuse("retries", value, "a whole number from 0 to 100, or a sluice.RetryPolicy")
        return cls(retries=value)

    def to_json(self) -> dict[str, Any]:
        return {
            "retries": self.retries,
            "initial_ms": self.first_wait * 1000,
            "multiplier": self.multiplier,
            "max_ms": self.longest_wait * 1000,
            "jitter": self.jitter,
            "retry_on": list(self.retry_on),
            "terminal_on": list(self.terminal_on),
        }
