"""Gather: a user's counting events as of an instant, in order; the one place where order and duplicates are settled."""

from typing import NamedTuple

import numpy as np

from features.behaviour.compiled import Ints, compiled
from features.behaviour.schema import CODE_MASK, FLAG_SHIFT, HEAD, ID, KNOWN, REMOVED, SEQ_SHIFT, TS

MIX = -7046029254386353131
"""2^64 divided by the golden ratio, as int64: spreads ids that are not hashes."""


class Scratch(NamedTuple):
    """One thread's room for one user at a time."""

    rows: Ints  # places of the gathered records in the slots, oldest event first
    ts: Ints  # their instants
    codes: Ints  # their event codes
    spare: Ints  # the sort's second buffer
    counts: Ints  # per event code
    seats: Ints  # shape (power of two, 2): an open-addressing table, (key, value); value 0 is free
    tally: Ints  # shape (n_streams, 6): a family's running totals
    folds: Ints  # as long as a carry


def scratch(*, n_events: int, n_codes: int, n_streams: int, n_folds: int, per_event: int) -> Scratch:
    """Room for users of up to `n_events` records, each of which enters at most `per_event` streams of a family."""
    n = max(n_events, 1)
    rows, ts, codes, spare = (np.empty(n, np.int64) for _ in range(4))
    seats = np.empty((seats_for(n * max(per_event, 1)), 2), np.int64)
    tally = np.empty((max(n_streams, 1), 6), np.int64)
    return Scratch(rows, ts, codes, spare, np.empty(n_codes, np.int64), seats, tally, np.empty(1 + n_folds, np.int64))


@compiled
def seats_for(n: int) -> int:
    """Seats for n keys: a power of two, at most half full."""
    seats = 2
    while seats < 2 * n:
        seats *= 2
    return seats


@compiled
def gather(
    slots: Ints, start: int, end: int, at: int, floor: int, boundary: int, bounds: Ints, room: Scratch
) -> tuple[int, bool]:
    """Fill `room` with what counts of the records `start:end`.

    Of the copies of one id that are known by `at` the first known counts and keeps its ts. A removal takes back every
    copy of its id that was known before it. What is left counts iff floor < ts <= at, and after `boundary` only the
    newest `bounds[code]` of each code.

    Args:
        slots: Records, shape (n_records, n_slots).
        start: The user's first record.
        end: Behind the user's last record.
        at: As of.
        floor: What happened up to here is in the carry.
        boundary: Events up to here matter to life-time folds alone and are not bounded.
        bounds: Per event code.
        room: Scratch for `end - start` events.

    Returns:
        (the number of events, whether the bound dropped any).
    """
    n, removals = _known(slots, start, end, at, room.rows)
    if removals:
        n = _not_taken_back(slots, start, end, at, n, room)
    n = _first_known(slots, n, room)
    n = _in_order(slots, n, floor, at, room)
    for k in range(n):
        room.ts[k] = slots[room.rows[k], TS]
        room.codes[k] = slots[room.rows[k], HEAD] & CODE_MASK
    return _bounded(n, boundary, bounds, room)


@compiled
def _known(slots: Ints, start: int, end: int, at: int, rows: Ints) -> tuple[int, int]:
    """(events, removals) known by `at`; the rows of the events."""
    n, removals = 0, 0
    for row in range(start, end):
        if slots[row, KNOWN] > at:
            continue
        if slots[row, HEAD] >> FLAG_SHIFT & REMOVED:
            removals += 1
        else:
            rows[n] = row
            n += 1
    return n, removals


@compiled
def _not_taken_back(slots: Ints, start: int, end: int, at: int, n: int, room: Scratch) -> int:
    """Drop the copies that became known before the last removal of their id."""
    mask = clear(room.seats, end - start)
    for row in range(start, end):
        if slots[row, KNOWN] <= at and slots[row, HEAD] >> FLAG_SHIFT & REMOVED:
            seat = seat_of(room.seats, mask, slots[row, ID])
            last = room.seats[seat, 1]
            if last == 0 or slots[last - 1, KNOWN] < slots[row, KNOWN]:
                room.seats[seat, 0], room.seats[seat, 1] = slots[row, ID], row + 1
    kept = 0
    for k in range(n):
        row = room.rows[k]
        last = room.seats[seat_of(room.seats, mask, slots[row, ID]), 1]
        if last == 0 or slots[row, KNOWN] >= slots[last - 1, KNOWN]:
            room.rows[kept] = row
            kept += 1
    return kept


@compiled
def _first_known(slots: Ints, n: int, room: Scratch) -> int:
    """Keep one copy of each id."""
    rows, seats = room.rows, room.seats
    mask = clear(seats, n)
    kept = 0
    for k in range(n):
        row = rows[k]
        seat = seat_of(seats, mask, slots[row, ID])
        if seats[seat, 1] == 0:
            seats[seat, 0], seats[seat, 1] = slots[row, ID], kept + 1
            rows[kept] = row
            kept += 1
        elif _earlier(slots, row, rows[seats[seat, 1] - 1]):
            rows[seats[seat, 1] - 1] = row
    return kept


@compiled
def _in_order(slots: Ints, n: int, floor: int, at: int, room: Scratch) -> int:
    """Keep what happened after `floor` and by `at`, by (ts, seq, id)."""
    rows = room.rows
    kept, ordered = 0, True
    for k in range(n):
        row = rows[k]
        if slots[row, TS] <= floor or slots[row, TS] > at:
            continue
        if kept > 0 and _precedes(slots, row, rows[kept - 1]):
            ordered = False
        rows[kept] = row
        kept += 1
    if not ordered:
        _sort(slots, rows, room.spare, kept)
    return kept


@compiled
def _bounded(n: int, boundary: int, bounds: Ints, room: Scratch) -> tuple[int, bool]:
    """Drop what exceeds the bounds, counting from the newest event."""
    for code in range(len(bounds)):
        room.counts[code] = 0
    place = n
    for k in range(n - 1, -1, -1):
        code = room.codes[k]
        room.counts[code] += 1
        if room.ts[k] > boundary and room.counts[code] > bounds[code]:
            continue
        place -= 1
        room.rows[place], room.ts[place], room.codes[place] = room.rows[k], room.ts[k], code
    for k in range(n - place):
        room.rows[k], room.ts[k], room.codes[k] = room.rows[place + k], room.ts[place + k], room.codes[place + k]
    return n - place, place > 0


@compiled
def clear(seats: Ints, n: int) -> int:
    """Free the seats for n keys; returns the mask of their places."""
    size = seats_for(n)
    for seat in range(size):
        seats[seat, 1] = 0
    return size - 1


@compiled
def seat_of(seats: Ints, mask: int, key: int) -> int:
    """The seat of a key: where it sits, else the free one where it would."""
    seat = (key * MIX >> 32) & mask
    while seats[seat, 1] != 0 and seats[seat, 0] != key:
        seat = (seat + 1) & mask
    return seat


@compiled
def _earlier(slots: Ints, one: int, other: int) -> bool:
    """Whether one copy was known first; equally known ones are told apart by all they hold, never by where they lie."""
    if slots[one, KNOWN] != slots[other, KNOWN]:
        return bool(slots[one, KNOWN] < slots[other, KNOWN])
    for slot in range(slots.shape[1]):
        if slots[one, slot] != slots[other, slot]:
            return bool(slots[one, slot] < slots[other, slot])
    return False


@compiled
def _precedes(slots: Ints, one: int, other: int) -> bool:
    """The total order of a user's events: (ts, seq, id)."""
    if slots[one, TS] != slots[other, TS]:
        return bool(slots[one, TS] < slots[other, TS])
    first, second = slots[one, HEAD] >> SEQ_SHIFT, slots[other, HEAD] >> SEQ_SHIFT
    if first != second:
        return bool(first < second)
    return bool(slots[one, ID] < slots[other, ID])


@compiled
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


@compiled
def _run(slots: Ints, rows: Ints, low: int, n: int) -> int:
    """Where the ordered run that starts at `low` ends."""
    end = min(low + 1, n)
    while end < n and not _precedes(slots, rows[end], rows[end - 1]):
        end += 1
    return end


@compiled
def _merge(slots: Ints, rows: Ints, spare: Ints, low: int, middle: int, high: int) -> None:
    for k in range(low, middle):
        spare[k] = rows[k]
    left, right, place = low, middle, low
    while left < middle:
        if right < high and _precedes(slots, rows[right], spare[left]):
            rows[place] = rows[right]
            right += 1
        else:
            rows[place] = spare[left]
            left += 1
        place += 1
