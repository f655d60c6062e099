"""Occurrences: what happened to many persons, each event once and in order, as columns of one long table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from features.behaviour.histories import Histories
from features.behaviour.schema import (
    CODE_MASK,
    FLAG_SHIFT,
    HEAD,
    ID,
    KNOWN,
    MISSING,
    OFFSET_BITS,
    OFFSET_SHIFT,
    OFFSET_ZERO,
    REMOVED,
    SEQ_SHIFT,
    TS,
)
from features.instants import DAY, MINUTE

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
        lengths = histories.ends - histories.starts
        person = np.repeat(np.arange(len(histories)), lengths)
        records = np.repeat(histories.starts - np.cumsum(lengths) + lengths, lengths) + np.arange(len(person))
        slots, schema = histories.slots, histories.schema
        counts = (slots[records, KNOWN] <= at) & (slots[records, TS] <= at)
        if not histories.settled:
            person, records = _settled(slots, person[slots[records, KNOWN] <= at], records[slots[records, KNOWN] <= at])
            counts = slots[records, TS] <= at
        person, records = person[counts], records[counts]
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


def _settled(slots: Ints, person: Ints, records: Ints) -> tuple[Ints, Ints]:
    """Of the copies of an id that no removal took back, the first known; in order."""
    known, ids, heads = slots[records, KNOWN], slots[records, ID], slots[records, HEAD]
    removes = (heads >> FLAG_SHIFT & REMOVED) != 0
    _, group = np.unique(np.stack([person, ids]), axis=1, return_inverse=True)
    gone = np.full(group.max(initial=-1) + 1, MISSING)
    np.maximum.at(gone, group[removes], known[removes])
    left = np.flatnonzero(~removes & (known >= gone[group]))
    order = left[np.lexsort((slots[records[left], TS], known[left], group[left]))]
    first = np.ones(len(order), np.bool_)
    first[1:] = group[order][1:] != group[order][:-1]
    chosen = order[first]
    rows = records[chosen]
    sort = np.lexsort((slots[rows, ID], slots[rows, HEAD] >> SEQ_SHIFT, slots[rows, TS], person[chosen]))
    return person[chosen][sort], rows[sort]


def _numbers(column: Ints, factor: int) -> Floats:
    return np.where(column == MISSING, np.nan, column / factor)
