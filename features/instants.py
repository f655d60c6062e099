"""Instants and durations: int64 microseconds, UTC; calendar days in a declared zone."""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from features.errors import DefinitionError

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
WEEK = 7 * DAY
NEVER = np.iinfo(np.int64).max
EARLIEST = int(datetime(2000, 1, 1, tzinfo=UTC).timestamp()) * SECOND
LATEST = int(datetime(9000, 1, 1, tzinfo=UTC).timestamp()) * SECOND
"""Up to here what is added to an instant is one that can be written."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": WEEK}
_DURATION = re.compile(r"(\d+)([smhdw])")


def parse_duration(text: str) -> int:
    """`90s 15m 24h 7d 4w` as microseconds.

    >>> parse_duration("15m")
    900000000

    Raises:
        DefinitionError: the text is not a whole number followed by one of s, m, h, d, w.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None or int(match[1]) == 0:
        rule = "a duration is a whole number and a unit, such as 90s, 15m, 24h, 7d, 4w, and longer than nothing"
        raise DefinitionError(f"{rule}. Got {text!r}.")
    return int(match[1]) * _UNITS[match[2]]


def format_duration(duration: int) -> str:
    """A duration as it is written in files: the largest unit that divides it."""
    if not duration:
        return "0s"
    for unit, size in (("d", DAY), ("h", HOUR), ("m", MINUTE)):
        if duration % size == 0:
            return f"{duration // size}{unit}"
    return f"{duration / SECOND:g}s"


def parse_instant(text: str) -> int:
    """An ISO 8601 date or time as microseconds UTC; what names no zone is taken as UTC."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise DefinitionError(f"an instant is an ISO 8601 date or time. Got {text!r}.") from None
    return from_datetime(moment)


def from_datetime(moment: datetime) -> int:
    """Microseconds UTC of a datetime; a naive one is taken as UTC. Exact, never by way of a float."""
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    return since.days * DAY + since.seconds * SECOND + since.microseconds


def to_datetime(instant: int) -> datetime:
    """The aware UTC datetime of an instant."""
    return _EPOCH + timedelta(microseconds=instant)


def iso(instant: int) -> str:
    """An instant for people: ISO 8601 with `Z`.

    >>> iso(parse_instant("2026-03-29T03:30:00+02:00"))
    '2026-03-29T01:30:00Z'
    """
    seconds, rest = divmod(instant, SECOND)
    return f"{_seconds(seconds)}.{rest:06d}Z" if rest else f"{_seconds(seconds)}Z"


@lru_cache(maxsize=64)
def _seconds(since: int) -> str:
    """The text of a whole second, which those who are answered within it share."""
    return to_datetime(since * SECOND).isoformat()[:19]


@lru_cache(maxsize=32)
def zone_offsets(zone: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The offsets of a zone as a step function over 1970-2100.

    Returns:
        (starts, offsets), both int64 microseconds: from `starts[i]` on, local time is UTC + `offsets[i]`.
    """
    if zone == "UTC":
        return np.array([np.iinfo(np.int64).min], np.int64), np.zeros(1, np.int64)
    info = ZoneInfo(zone)

    def offset(instant: int) -> int:
        delta = to_datetime(instant).astimezone(info).utcoffset()
        return 0 if delta is None else delta // timedelta(microseconds=1)

    starts, offsets = [np.iinfo(np.int64).min], [offset(0)]
    for step in range(0, 131 * 366 * DAY, 7 * DAY):
        if offset(step + 7 * DAY) == offsets[-1]:
            continue
        low, high = step, step + 7 * DAY
        while high - low > SECOND:
            middle = (low + high) // 2 // SECOND * SECOND
            low, high = (middle, high) if offset(middle) == offsets[-1] else (low, middle)
        starts.append(high)
        offsets.append(offset(high))
    return np.array(starts, np.int64), np.array(offsets, np.int64)
