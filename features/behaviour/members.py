"""Members: which of a user's events are of each kind, and where each window begins among them; settled once."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from features.behaviour.compiled import Ints, ahead, compiled_inside, grid, place, vector
from features.behaviour.gather import AHEAD, WOVEN, Scratch, first_after, fits, gather
from features.behaviour.kinds import ANYTHING, Kind
from features.behaviour.marks import Filters, filters, filters_of, satisfied
from features.behaviour.schema import CODE_MASK, HEAD, KNOWN, TS, StateSchema
from features.instants import NEVER


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
def gathered(
    slots: Ints, start: int, end: int, settled: bool, at: int, floor: int, boundary: int, bounds: Ints, kinds: Kinds,
    room: Scratch,
) -> tuple[int, bool]:  # fmt: skip
    """`gather`, then `settle`; of settled records in one pass: one waits for memory, the other for its own sums."""
    if settled:
        n = _at_once(slots, start, end, floor, at, kinds, room)
        if fits(n, bounds):
            _choose(slots, kinds, room)
            return n, False
    n, capped = gather(slots, start, end, settled, at, floor, boundary, bounds, room)
    settle(slots, n, at, kinds, room)
    return n, capped


@compiled_inside
def _at_once(slots: Ints, start: int, end: int, floor: int, at: int, kinds: Kinds, room: Scratch) -> int:
    """What counts of settled records, and of which kinds it is. While its features are computed the next row comes."""
    kept, window, edge = 0, *_begin(at, kinds, room)
    for row in range(first_after(slots, start, end, floor), end):
        record = place(row)
        ahead(slots, row + AHEAD)
        ts = slots[record, TS]
        if ts > at:
            break
        if slots[record, KNOWN] <= at:
            while ts > edge:
                window, edge = _open(kept, window, at, kinds, room)
            to, code = place(kept), slots[record, HEAD] & CODE_MASK
            room.rows[to], room.ts[to], room.codes[to] = row, ts, code
            _join(kept, code, kinds, room)
            kept += 1
    for row in range(end, end + min(kept, WOVEN)):
        ahead(slots, row)
    _end(kept, window, at, kinds, room)
    return kept


@compiled_inside
def settle(slots: Ints, n: int, at: int, kinds: Kinds, room: Scratch) -> None:
    """Fill `room` with the members of each kind, oldest first, and the first of them that is in each window.

    A kind's members are `members[begins[kind]:ends[kind]]`, places among the n gathered events; those in a window
    begin at `firsts[kind, window]`: where the kind ended as the events before the window had joined.
    """
    window, edge = _begin(at, kinds, room)
    for k in range(n):
        while room.ts[place(k)] > edge:
            window, edge = _open(k, window, at, kinds, room)
        _join(k, room.codes[place(k)], kinds, room)
    _end(n, window, at, kinds, room)
    _choose(slots, kinds, room)


@compiled_inside
def _begin(at: int, kinds: Kinds, room: Scratch) -> tuple[int, int]:
    """Before any event: (windows that have not begun, up to when the oldest of them has not)."""
    for kind in range(len(kinds.codes) + 1):
        room.begins[place(kind)] = room.ends[place(kind)] = kind * len(room.rows)
    return len(kinds.windows), at - kinds.windows[place(len(kinds.windows) - 1)]


@compiled_inside
def _open(k: int, window: int, at: int, kinds: Kinds, room: Scratch) -> tuple[int, int]:
    """Begin the next window with the event k; the same of those that remain."""
    window -= 1
    room.firsts[0, place(window)] = k
    for kind in range(1, len(kinds.codes)):
        room.firsts[place(kind), place(window)] = room.ends[place(kind)]
    return window, at - kinds.windows[place(window - 1)] if window > 0 else NEVER


@compiled_inside
def _join(k: int, code: int, kinds: Kinds, room: Scratch) -> None:
    """Write an event behind the members of its kind, or those of none: no branch, as events' order is not guessed."""
    kind = place(kinds.own[place(code)])
    room.members[place(room.ends[kind])] = k
    room.ends[kind] += 1


@compiled_inside
def _end(n: int, window: int, at: int, kinds: Kinds, room: Scratch) -> None:
    """Behind the last event: the windows that none is in."""
    while window > 0:
        window, _ = _open(n, window, at, kinds, room)
    room.ends[0] = n


@compiled_inside
def _choose(slots: Ints, kinds: Kinds, room: Scratch) -> None:
    """Fill the kinds with tests or several events from the members of others, window by window."""
    for kind in range(1, len(kinds.codes)):
        among = kinds.among[place(kind)]
        if among == kind:
            continue
        low = room.begins[place(among)]
        for window in range(len(kinds.windows) - 1, -1, -1):
            high = room.firsts[place(among), place(window)]
            _look(slots, kind, low, high, kinds, room)
            room.firsts[place(kind), place(window)] = room.ends[place(kind)]
            low = high
        _look(slots, kind, low, room.ends[place(among)], kinds, room)


@compiled_inside
def _look(slots: Ints, kind: int, low: int, high: int, kinds: Kinds, room: Scratch) -> None:
    """Those of the members `low:high` of another kind that are of this one: no branch but the tests."""
    to = room.ends[place(kind)]
    for j in range(low, high):
        k = room.members[place(j)]
        room.members[place(to)] = k
        of_kind = kinds.codes[place(kind), place(room.codes[place(k)])]
        to += of_kind & satisfied(slots, room.rows[place(k)], kind, kinds.filters)
    room.ends[place(kind)] = to
