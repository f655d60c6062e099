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
        first = until(room.ts, first, at - kinds.windows[place(window)])
        room.firsts[0, place(window)] = first
    room.begins[0], room.ends[0] = 0, n
    to = len(room.rows)
    for kind in range(1, len(kinds.codes)):
        room.begins[place(kind)] = to
        if kinds.filters.tests[place(kind)] < kinds.filters.tests[place(kind + 1)]:
            to = _passing(slots, kind, n, to, kinds, room)
        else:
            to = _coming(kind, n, to, kinds, room)
        room.ends[place(kind)] = to
        for window in range(n_windows):
            first = room.firsts[0, place(window)]
            room.firsts[place(kind), place(window)] = room.spare[place(first)] if first < n else to


@compiled_inside
def _coming(kind: int, n: int, to: int, kinds: Kinds, room: Scratch) -> int:
    """Write at `to` which events have a code of the kind, and how far that was at each event; behind the last one."""
    for k in range(n):
        room.members[place(to)], room.spare[place(k)] = k, to
        to += kinds.codes[place(kind), place(room.codes[place(k)])]
    return to


@compiled_inside
def _passing(slots: Ints, kind: int, n: int, to: int, kinds: Kinds, room: Scratch) -> int:
    """The same for a kind with tests."""
    for k in range(n):
        room.spare[place(k)] = to
        if kinds.codes[place(kind), place(room.codes[place(k)])]:
            room.members[place(to)] = k
            to += satisfied(slots, room.rows[place(k)], kind, kinds.filters)
    return to


@compiled_inside
def until(ts: Ints, n: int, edge: int) -> int:
    """How many of the first n instants are not after the edge."""
    if n == 0 or ts[place(n - 1)] <= edge:
        return n
    low = 0
    while n > 0:
        half = n >> 1
        later = ts[place(low + half)] <= edge
        low = low + half + 1 if later else low
        n = n - half - 1 if later else half
    return low
