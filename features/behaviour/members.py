"""Members: which of a user's events are of each kind, and where each window begins among them; settled once."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from features.behaviour.compiled import Ints, compiled_inside, grid, place, vector
from features.behaviour.gather import Scratch
from features.behaviour.kinds import ANYTHING, Kind
from features.behaviour.marks import Filters, filters, filters_of, satisfied
from features.behaviour.schema import StateSchema


class Kinds(NamedTuple):
    """The kinds that are asked for, the first of which is any event; and all windows, ascending."""

    codes: Ints  # shape (n_kinds, n_codes): 1 where an event of the code may be of the kind
    windows: Ints
    filters: Filters  # a filter's number is its kind's


N_ARRAYS = len(Kinds._fields) - 1 + len(Filters._fields) - 1


def kinds_of(kinds: Sequence[Kind], windows: Sequence[int], schema: StateSchema) -> Kinds:
    """The arrays for kinds, in this order, after any event."""
    asked = (ANYTHING, *kinds)
    codes = np.zeros((len(asked), schema.n_codes), np.int64)
    for row, kind in zip(codes, asked, strict=True):
        row[kind.codes(schema) if kind.events else slice(None)] = 1
    return Kinds(codes, np.array(windows, np.int64), filters_of(asked, schema))


@compiled_inside
def kinds(arrays: Ints, k: int) -> Kinds:
    """The kinds whose arrays begin at the k-th of `views`."""
    return Kinds(grid(arrays, k), vector(arrays, k + 1), filters(arrays, k + 2, 0))


@compiled_inside
def settle(slots: Ints, n: int, at: int, kinds: Kinds, room: Scratch) -> None:
    """Fill `room` with the members of each kind, oldest first, and the first of them that is in each window.

    A kind's members are `members[begins[kind]:ends[kind]]`, places among the n gathered events; those in a window
    begin at `firsts[kind, window]`. What is no test is no branch, as the order of events cannot be guessed.
    """
    first, n_windows = n, len(kinds.windows)
    for window in range(n_windows):
        first = _after(room.ts, first, at - kinds.windows[place(window)])
        room.firsts[0, place(window)] = first
    room.begins[0], room.ends[0] = 0, n
    to = len(room.rows)
    for one in range(1, len(kinds.codes)):
        kind, begin, tested = place(one), 0, kinds.filters.tests[place(one)] < kinds.filters.tests[place(one + 1)]
        room.begins[kind] = to
        for window in range(n_windows, -1, -1):
            end = room.firsts[0, place(window - 1)] if window > 0 else n
            for k in range(begin, end):
                room.members[place(to)] = k
                comes = kinds.codes[kind, place(room.codes[place(k)])]
                if tested and comes:
                    comes = int(satisfied(slots, room.rows[place(k)], one, kinds.filters))
                to += comes
            if window > 0:
                room.firsts[kind, place(window - 1)] = to
            begin = end
        room.ends[kind] = to


@compiled_inside
def _after(ts: Ints, n: int, edge: int) -> int:
    """How many of the first n instants are not after the edge."""
    low = 0
    while n > 0:
        half = n >> 1
        later = ts[place(low + half)] <= edge
        low = low + half + 1 if later else low
        n = n - half - 1 if later else half
    return low
