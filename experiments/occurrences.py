"""Occurrences: what happened to many persons, each event once and in order, as columns of one long table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from features.behaviour.compiled import views
from features.behaviour.gather import counting, scratch
from features.behaviour.histories import Histories
from features.behaviour.schema import CODE_MASK, HEAD, MISSING, OFFSET_BITS, OFFSET_SHIFT, OFFSET_ZERO, TS
from features.instants import DAY, MINUTE, NEVER

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

SILENCE = 30 * MINUTE
"""A session ends with a gap longer than this."""


@dataclass(frozen=True)
class Occurrences:
    """Events in the order (person, ts, seq, id).

    Attributes:
        users: The persons' ids.
        person: Shape (n_events,), ascending places in `users`.
        ts: Microseconds UTC.
        event: Places in `names`.
        local: Local time, in microseconds since 1970.
        names: Of the events.
        values: Numbers by property; NaN where an event has none.
    """

    users: NDArray[np.object_]
    person: Ints
    ts: Ints
    event: Ints
    local: Ints
    names: tuple[str, ...]
    values: Mapping[str, Floats]

    @classmethod
    def of(cls, histories: Histories, at: int, *, properties: Sequence[str] = ()) -> Self:
        """What is known by `at` of every row, which must be a person each.

        Args:
            histories: Rows, with every event in `slots`.
            at: Microseconds UTC.
            properties: Numbers to bring along, by name.
        """
        slots, schema = histories.slots, histories.schema
        person, records = _counting(histories, at)
        heads, ts = slots[records, HEAD], slots[records, TS]
        codes = sorted(schema.codes.items(), key=lambda each: each[1])
        offset = ((heads >> OFFSET_SHIFT) & ((1 << OFFSET_BITS) - 1)) - OFFSET_ZERO
        return cls(
            histories.users,
            person,
            ts,
            np.searchsorted([code for _, code in codes], heads & CODE_MASK),
            ts + offset * MINUTE,
            tuple(name for name, _ in codes),
            {name: _numbers(slots[records, schema.slot(name)], schema.factor(name)) for name in properties},
        )

    def __len__(self) -> int:
        return len(self.ts)

    def take(self, events: Ints | NDArray[np.bool_]) -> "Occurrences":
        """These events; the persons stay."""
        person, ts, event, local = (array[events] for array in (self.person, self.ts, self.event, self.local))
        values = {name: array[events] for name, array in self.values.items()}
        return Occurrences(self.users, person, ts, event, local, self.names, values)

    @property
    def first_of_session(self) -> NDArray[np.bool_]:
        """Shape (n_events,): whether the person was silent for longer than SILENCE before it."""
        first = np.ones(len(self), np.bool_)
        first[1:] = (self.person[1:] != self.person[:-1]) | (np.diff(self.ts) > SILENCE)
        return first

    @property
    def hour_of_week(self) -> Ints:
        """Shape (n_events,): local hours since Monday, 0 to 167."""
        return np.asarray((self.local + 3 * DAY) // (60 * MINUTE) % 168)  # 1970 began on a Thursday


def _counting(histories: Histories, at: int) -> tuple[Ints, Ints]:
    """Of each row the places of the records that count, in order, without horizon or bound."""
    longest = int((histories.ends - histories.starts).max(initial=0))
    room = scratch(n_events=longest, n_codes=histories.schema.n_codes)
    bounds, found, seen = np.full(histories.schema.n_codes, NEVER), np.empty(longest, np.int64), views(room)
    parts = []
    for start, end in zip(histories.starts, histories.ends, strict=True):
        n = counting(histories.slots, start, end, histories.settled, at, MISSING, MISSING, bounds, seen, found)
        parts.append(found[:n].copy())
    person = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return person, np.concatenate([np.empty(0, np.int64), *parts])


def _numbers(column: Ints, factor: int) -> Floats:
    return np.where(column == MISSING, np.nan, column / factor)
