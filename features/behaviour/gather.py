"""Gather: a user's counting events as of an instant, in order; the one place where order and duplicates are settled."""

from typing import NamedTuple

import numpy as np

from features.behaviour.compiled import Ints, ahead, compiled, compiled_allocating, compiled_inside, grid, place, vector
from features.behaviour.schema import CODE_MASK, FLAG_SHIFT, HEAD, ID, KNOWN, MISSING, REMOVED, SEQ_SHIFT, TS

ERA = 1 << 32
"""More values than a table holds; an era each leaves room for 2^31 tables."""

MIX = -7046029254386353131
"""2^64 divided by the golden ratio, as int64: spreads ids that are not hashes."""


STRIDE = 8
"""Records that are passed over at once: a search by halves asks for memory before it is there."""

AHEAD = 64
"""Records between the one that is gathered and the one that memory is asked for, which may be the next user's."""

WOVEN = 1 << 9
"""Records that are filled together: they stay in a core's nearest cache from the first slot to the last."""


class Scratch(NamedTuple):
    """One thread's room for one user at a time."""

    rows: Ints  # places of the gathered records in the slots, oldest event first
    ts: Ints  # their instants
    codes: Ints  # their event codes
    spare: Ints  # the sort's second buffer
    counts: Ints  # per event code
    seats: Ints  # shape (power of two, 2): (key, era + value); a table for twice the rows, see `freed`
    era: Ints  # shape (1,)
    tally: Ints  # shape (n_streams, cells): a family's running totals
    folds: Ints  # as long as a carry
    marks: Ints  # see `marks.mark`
    heap: Ints  # as long as the rows
    members: Ints  # see `members.settle`; what comes first, its own places, stays as it is
    begins: Ints  # per kind, and behind them for events of none
    ends: Ints
    firsts: Ints  # shape (n_kinds, n_windows)


def scratch(
    *,
    n_events: int,
    n_codes: int,
    n_streams: int = 1,
    n_folds: int = 0,
    cells: int = 1,
    n_words: int = 0,
    n_kinds: int = 1,
    n_windows: int = 1,
) -> Scratch:
    """Room for users of up to `n_events` records."""
    n = max(n_events, 1)
    rows, ts, codes, spare = (np.empty(n, np.int64) for _ in range(4))
    tally = np.empty((max(n_streams, 1), cells), np.int64)
    counts, folds, marks = np.empty(n_codes, np.int64), np.empty(1 + n_folds, np.int64), np.empty(n * n_words, np.int64)
    members = np.empty((n_kinds + 1) * n + 1, np.int64)
    members[:n] = np.arange(n)
    return Scratch(
        rows, ts, codes, spare, counts, np.zeros((seats_for(2 * n), 2), np.int64), np.zeros(1, np.int64), tally, folds,
        marks, np.empty(n, np.int64), members, np.empty(n_kinds + 1, np.int64), np.empty(n_kinds + 1, np.int64),
        np.empty((n_kinds, n_windows), np.int64),
    )  # fmt: skip


@compiled_inside
def room_of(arrays: Ints) -> Scratch:
    """The scratch whose arrays these are the views of."""
    return Scratch(
        vector(arrays, 0), vector(arrays, 1), vector(arrays, 2), vector(arrays, 3), vector(arrays, 4),
        grid(arrays, 5), vector(arrays, 6), grid(arrays, 7), vector(arrays, 8), vector(arrays, 9), vector(arrays, 10),
        vector(arrays, 11), vector(arrays, 12), vector(arrays, 13), grid(arrays, 14),
    )  # fmt: skip


@compiled
def seats_for(n: int) -> int:
    """Seats for n keys: a power of two, at most half full."""
    seats = 2
    while seats < 2 * n:
        seats *= 2
    return seats


@compiled_inside
def gather(
    slots: Ints, start: int, end: int, settled: bool, at: int, floor: int, boundary: int, bounds: Ints, room: Scratch
) -> tuple[int, bool]:
    """Fill `room` with what counts of the records `start:end`.

    Of the copies of one id that are known by `at` the first known counts and keeps its ts. A removal takes back every
    copy of its id that was known before it. What is left counts iff floor < ts <= at, and after `boundary` only the
    newest `bounds[code]` of each code.

    Args:
        slots: Records, shape (n_records, n_slots).
        start: The user's first record.
        end: Behind the user's last record.
        settled: Whether the records are in order, each id once, none taken back (see `are_settled`).
        at: As of.
        floor: What happened up to here does not matter, or is in the carry.
        boundary: Events up to here matter to life-time folds alone and are not bounded.
        bounds: Per event code.
        room: Scratch for `end - start` events.

    Returns:
        (the number of events, whether the bound dropped any).
    """
    if settled:
        n = _as_they_are(slots, start, end, floor, at, room)
    else:
        n, removals = _first_known(slots, start, end, at, False, room)
        if removals:
            _taken_back(slots, start, end, at, room)
            n, _ = _first_known(slots, start, end, at, True, room)
        n = _in_order(slots, n, floor, at, room)
    return (n, False) if fits(n, bounds) else _bounded(n, boundary, bounds, room)


@compiled_inside
def fits(n: int, bounds: Ints) -> bool:
    """Whether no bound can drop any of n events."""
    least = n
    for bound in bounds:
        least = min(least, bound)
    return least == n


@compiled
def counting(
    slots: Ints, start: int, end: int, settled: bool, at: int, floor: int, boundary: int, bounds: Ints, scratch: Ints,
    rows: Ints,
) -> int:  # fmt: skip
    """The same for Python: fill `rows` with the places of the records that count; their number."""
    room = room_of(scratch)
    n, _ = gather(slots, start, end, settled, at, floor, boundary, bounds, room)
    for k in range(n):
        rows[place(k)] = room.rows[place(k)]
    return n


@compiled
def weave(columns: Ints, slots: Ints) -> None:
    """Fill the slots of records, each from an array of its own (see `views`)."""
    for start in range(0, len(slots), WOVEN):
        for slot in range(len(columns)):
            values = vector(columns, slot)
            for row in range(start, min(start + WOVEN, len(slots))):
                slots[place(row), place(slot)] = values[place(row)]


@compiled_allocating
def are_settled(slots: Ints, starts: Ints, ends: Ints) -> bool:
    """Whether each row's records are in the order (ts, seq, id), hold each id once and take none back."""
    longest = 0
    for row in range(len(starts)):
        longest = max(longest, ends[row] - starts[row])
    seats, clock = np.zeros((seats_for(longest), 2), np.int64), np.zeros(1, np.int64)
    for row in range(len(starts)):
        mask, era = freed(seats, clock, ends[row] - starts[row])
        for record in range(starts[row], ends[row]):
            if slots[record, HEAD] >> FLAG_SHIFT & REMOVED:
                return False
            if record > starts[row] and not _precedes(slots, record - 1, record):
                return False
            seat = seat_of(seats, mask, era, slots[record, ID])
            if seats[seat, 1] > era:
                return False
            seats[seat, 0], seats[seat, 1] = slots[record, ID], era + 1
    return True


@compiled_inside
def _as_they_are(slots: Ints, start: int, end: int, floor: int, at: int, room: Scratch) -> int:
    """What counts of settled records."""
    kept, start = 0, first_after(slots, start, end, floor)
    for row in range(start, end):
        record = place(row)
        ahead(slots, row + AHEAD)
        ts = slots[record, TS]
        if ts > at:
            break
        if slots[record, KNOWN] <= at:
            to = place(kept)
            room.rows[to], room.ts[to], room.codes[to] = row, ts, slots[record, HEAD] & CODE_MASK
            kept += 1
    return kept


@compiled_inside
def first_after(slots: Ints, start: int, end: int, floor: int) -> int:
    """The first of settled records that happened after an instant."""
    while start + STRIDE < end and slots[place(start + STRIDE), TS] <= floor:
        start += STRIDE
    while start < end and slots[place(start), TS] <= floor:
        start += 1
    return start


@compiled_inside
def _first_known(slots: Ints, start: int, end: int, at: int, judged: bool, room: Scratch) -> tuple[int, int]:
    """The rows of one copy of each id that is known by `at`; (their number, the number of removals met).

    Where removals were judged, `room.spare` holds for each record the instant up to which its id's copies are gone.
    """
    rows, seats = room.rows, room.seats
    mask, era = freed(seats, room.era, end - start)
    n, removals = 0, 0
    for row in range(start, end):
        record = place(row)
        if slots[record, KNOWN] > at or (judged and slots[record, KNOWN] < room.spare[row - start]):
            continue
        if slots[record, HEAD] >> FLAG_SHIFT & REMOVED:
            removals += 1
            continue
        key = slots[record, ID]
        seat = place(seat_of(seats, mask, era, key))
        if seats[seat, 1] <= era:
            seats[seat, 0], seats[seat, 1] = key, era + n + 1
            rows[place(n)] = row
            n += 1
        elif _earlier(slots, row, rows[seats[seat, 1] - era - 1]):
            rows[seats[seat, 1] - era - 1] = row
    return n, removals


@compiled_inside
def _taken_back(slots: Ints, start: int, end: int, at: int, room: Scratch) -> None:
    """For each record the last known removal of its id, in `room.spare`."""
    seats = room.seats
    mask, era = freed(seats, room.era, end - start)
    for row in range(start, end):
        if slots[row, KNOWN] <= at and slots[row, HEAD] >> FLAG_SHIFT & REMOVED:
            seat = seat_of(seats, mask, era, slots[row, ID])
            if seats[seat, 1] <= era or slots[start + seats[seat, 1] - era - 1, KNOWN] < slots[row, KNOWN]:
                seats[seat, 0], seats[seat, 1] = slots[row, ID], era + row - start + 1
    for row in range(start, end):
        seat = seat_of(seats, mask, era, slots[row, ID])
        last = seats[seat, 1] - era
        room.spare[row - start] = slots[start + last - 1, KNOWN] if last > 0 else MISSING


@compiled_inside
def _in_order(slots: Ints, n: int, floor: int, at: int, room: Scratch) -> int:
    """Keep what happened after `floor` and by `at`, by (ts, seq, id); write instants and codes."""
    rows = room.rows
    kept, ordered = 0, True
    latest = MISSING
    for k in range(n):
        row = rows[k]
        ts = slots[place(row), TS]
        if ts <= floor or ts > at:
            continue
        if kept > 0 and ts <= latest and _precedes(slots, row, rows[kept - 1]):
            ordered = False
        to, latest = place(kept), ts
        rows[to], room.ts[to], room.codes[to] = row, ts, slots[place(row), HEAD] & CODE_MASK
        kept += 1
    if not ordered:
        _sort(slots, rows, room.spare, kept)
        for k in range(kept):
            room.ts[k], room.codes[k] = slots[rows[k], TS], slots[rows[k], HEAD] & CODE_MASK
    return kept


@compiled_inside
def _bounded(n: int, boundary: int, bounds: Ints, room: Scratch) -> tuple[int, bool]:
    """Drop what exceeds the bounds, counting from the newest event."""
    for code in range(len(bounds)):
        room.counts[code] = 0
    to = n
    for k in range(n - 1, -1, -1):
        code = room.codes[k]
        room.counts[code] += 1
        if room.ts[k] > boundary and room.counts[code] > bounds[code]:
            continue
        to -= 1
        room.rows[to], room.ts[to], room.codes[to] = room.rows[k], room.ts[k], code
    for k in range(n - to):
        room.rows[k], room.ts[k], room.codes[k] = room.rows[to + k], room.ts[to + k], room.codes[to + k]
    return n - to, to > 0


@compiled_inside
def freed(seats: Ints, era: Ints, n: int) -> tuple[int, int]:
    """Begin a table for n keys: (mask of the places, era). What older eras left counts as free."""
    era[0] += ERA
    return seats_for(n) - 1, era[0]


@compiled_inside
def seat_of(seats: Ints, mask: int, era: int, key: int) -> int:
    """The seat of a key: where it sits, else the free one where it would."""
    seat = (key * MIX >> 32) & mask
    while seats[place(seat), 1] > era and seats[place(seat), 0] != key:
        seat = (seat + 1) & mask
    return seat


@compiled_inside
def _earlier(slots: Ints, one: int, other: int) -> bool:
    """Whether one copy was known first; equally known ones are told apart by all they hold, never by where they lie."""
    if slots[one, KNOWN] != slots[other, KNOWN]:
        return bool(slots[one, KNOWN] < slots[other, KNOWN])
    for slot in range(slots.shape[1]):
        if slots[one, slot] != slots[other, slot]:
            return bool(slots[one, slot] < slots[other, slot])
    return False


@compiled_inside
def _precedes(slots: Ints, one: int, other: int) -> bool:
    """The total order of a user's events: (ts, seq, id)."""
    if slots[one, TS] != slots[other, TS]:
        return bool(slots[one, TS] < slots[other, TS])
    first, second = slots[one, HEAD] >> SEQ_SHIFT, slots[other, HEAD] >> SEQ_SHIFT
    if first != second:
        return bool(first < second)
    return bool(slots[one, ID] < slots[other, ID])


@compiled_inside
def _sort(slots: Ints, rows: Ints, spare: Ints, n: int) -> None:
    """Merge the runs that are there: one pass for a sorted state with a sorted tail, never more than log2(n)."""
    runs = 2
    while runs > 1:
        runs, low = 0, 0
        while low < n:
            middle = _run(slots, rows, low, n)
            high = _run(slots, rows, middle, n)
            _merge(slots, rows, spare, low, middle, high)
            runs += 1
            low = high


@compiled_inside
def _run(slots: Ints, rows: Ints, low: int, n: int) -> int:
    """Where the ordered run that starts at `low` ends."""
    end = min(low + 1, n)
    while end < n and not _precedes(slots, rows[end], rows[end - 1]):
        end += 1
    return end


@compiled_inside
def _merge(slots: Ints, rows: Ints, spare: Ints, low: int, middle: int, high: int) -> None:
    for k in range(low, middle):
        spare[k] = rows[k]
    left, right, to = low, middle, low
    while left < middle:
        if right < high and _precedes(slots, rows[right], spare[left]):
            rows[to] = rows[right]
            right += 1
        else:
            rows[to] = spare[left]
            left += 1
        to += 1
