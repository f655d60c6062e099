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
    own: Ints  # per code the kind of its events and no others; behind the last kind without one
    among: Ints  # per kind the kind whose members may be its own; itself where that is settled by the code
    filters: Filters  # a filter's number is its kind's


N_ARRAYS = len(Kinds._fields) - 1 + len(Filters._fields) - 1


def kinds_of(kinds: Sequence[Kind], windows: Sequence[int], schema: StateSchema) -> Kinds:
    """The arrays for kinds, in this order, after any event; behind them what those with tests are looked for among."""
    plain = [Kind(kind.events) for kind in kinds if len(kind.events) == 1]
    asked = list(dict.fromkeys((ANYTHING, *kinds, *plain)))
    codes = np.zeros((len(asked), schema.n_codes), np.int64)
    for row, kind in zip(codes, asked, strict=True):
        row[kind.codes(schema) if kind.events else slice(None)] = 1
    own = np.full(schema.n_codes, len(asked))
    for kind in plain:
        own[kind.codes(schema)] = asked.index(kind)
    among = np.array([own[kind.codes(schema)[0]] if len(kind.events) == 1 else 0 for kind in asked])
    return Kinds(codes, np.array(windows, np.int64), own, among, filters_of(asked, schema))


@compiled_inside
def kinds(arrays: Ints, k: int) -> Kinds:
    """The kinds whose arrays begin at the k-th of `views`."""
    windows, own, among = vector(arrays, k + 1), vector(arrays, k + 2), vector(arrays, k + 3)
    return Kinds(grid(arrays, k), windows, own, among, filters(arrays, k + 4, 0))


@compiled_inside
def settle(slots: Ints, n: int, at: int, kinds: Kinds, room: Scratch) -> None:
    """Fill `room` with the members of each kind, oldest first, and the first of them that is in each window.

    A kind's members are `members[begins[kind]:ends[kind]]`, places among the n gathered events; those in a window
    begin at `firsts[kind, window]`: where the kind ended as the events before the window had joined.
    """
    first, n_windows, n_kinds = n, len(kinds.windows), len(kinds.codes)
    for window in range(n_windows):
        first = until(room.ts, first, at - kinds.windows[place(window)])
        room.firsts[0, place(window)] = first
    for kind in range(n_kinds + 1):
        room.begins[place(kind)] = room.ends[place(kind)] = kind * len(room.rows)
    for window in range(n_windows, -1, -1):
        _join(slots, window, n if window == 0 else room.firsts[0, place(window - 1)], kinds, room)
        for kind in range(n_kinds if window > 0 else 0):
            room.firsts[place(kind), place(window - 1)] = room.ends[place(kind)]


@compiled_inside
def _join(slots: Ints, window: int, n: int, kinds: Kinds, room: Scratch) -> None:
    """Write the events of a window up to the n-th behind the members of their kinds, those before any window too.

    What is no test is no branch, as the order of events cannot be guessed.
    """
    for k in range(room.ends[0], n):
        kind = place(kinds.own[place(room.codes[place(k)])])
        room.members[place(room.ends[kind])] = k
        room.ends[kind] += 1
    room.ends[0] = n
    for kind in range(1, len(kinds.codes)):
        among = kinds.among[place(kind)]
        if among != kind:
            older = window == len(kinds.windows)
            low = room.begins[place(among)] if older else room.firsts[place(among), place(window)]
            _look(slots, kind, low, room.ends[place(among)], kinds, room)


@compiled_inside
def _look(slots: Ints, kind: int, low: int, high: int, kinds: Kinds, room: Scratch) -> None:
    """The same for a kind with tests or several events, among the members `low:high` of another one."""
    to = room.ends[place(kind)]
    for j in range(low, high):
        k = room.members[place(j)]
        room.members[place(to)] = k
        of_kind = kinds.codes[place(kind), place(room.codes[place(k)])]
        to += of_kind & satisfied(slots, room.rows[place(k)], kind, kinds.filters)
    room.ends[place(kind)] = to


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
