"""Values: one JSON value as the type that the plan gives its property."""

import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from features.instants import SECOND, from_datetime

TRUE, FALSE = ("true", "yes", "y", "t", "1"), ("false", "no", "n", "f", "0")
_WHOLE = re.compile(r"-?\d+")


def number(value: object) -> float:
    """A finite or infinite float; text is read as one."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("not a number")
    return float(value)


def flag(value: object) -> bool:
    """True or false, also as 1 or 0 and the usual words."""
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if isinstance(value, int | float | str) and word in TRUE + FALSE:
        return word in TRUE
    raise ValueError("neither true nor false")


def sound(value: str) -> str:
    """The text, with `?` for halves of characters that no encoding can write."""
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def text(value: object) -> str:
    """Text as it is; a whole number without `.0`."""
    if isinstance(value, str):
        return sound(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, int | float):
        return str(value)
    raise ValueError("a list or an object, not a text")


def seconds(value: object) -> float:
    """An instant in seconds since 1970."""
    return instant(value) / SECOND


def instant(value: object) -> int:
    """An ISO 8601 text, or an epoch in seconds, milliseconds or microseconds (by its size), as microseconds UTC."""
    if isinstance(value, str) and value[4:5] == "-":  # most often: 2026-01-31T...
        return from_datetime(datetime.fromisoformat(value.strip()))
    if isinstance(value, datetime):
        return from_datetime(value)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("not a time")
    if isinstance(value, str) and not _WHOLE.fullmatch(value.strip()):
        return from_datetime(datetime.fromisoformat(value.strip()))
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("not a time")
    return _epoch(value if isinstance(value, float) else int(value))


def _epoch(value: float) -> int:
    for limit, unit in ((1e11, SECOND), (1e14, 1_000), (1e17, 1)):
        if abs(value) < limit:
            return round(value * unit)
    raise ValueError("not a time")


def offset(value: object) -> int | None:
    """Minutes that a text's own zone is ahead of UTC; null where it names none, or UTC."""
    if not isinstance(value, str) or value.endswith(("Z", "z")) or _WHOLE.fullmatch(value.strip()):
        return None
    try:
        delta = datetime.fromisoformat(value.strip()).utcoffset()
    except ValueError:
        return None
    return None if delta is None else int(delta.total_seconds() // 60)


READERS: Mapping[str, Callable[[Any], Any]] = {
    "number": number,
    "money": number,
    "time": seconds,
    "category": text,
    "text": text,
    "flag": flag,
}
"""Per plan type, the function that reads a value; each raises ValueError for one that does not fit."""
