"""Ordering: the places of events by bucket, then by (user, ts, seq, id); counting sorts, and each user's own events."""

import numpy as np
from numpy.typing import NDArray

from features.behaviour.compiled import compiled, compiled_allocating

Ints = NDArray[np.int64]
RUN = 8
MIX = -7046029254386353131  # spreads ids that are not hashes


@compiled_allocating
def dealt(person: NDArray[np.uint32], pile: Ints, n_piles: int) -> tuple[Ints, Ints]:
    """The places of events pile by pile, each in the order they came.

    Args:
        person: Per event.
        pile: Per person; -1 where the events are left out.
        n_piles: Number of piles.

    Returns:
        Places, and where each pile begins, shape (n_piles + 1,).
    """
    starts = np.zeros(n_piles + 1, np.int64)
    for each in person:
        starts[pile[each] + 1] += pile[each] >= 0
    for k in range(n_piles):
        starts[k + 1] += starts[k]
    free = starts[:-1].copy()
    order = np.empty(starts[n_piles], np.int64)
    for place in range(len(person)):
        k = pile[person[place]]
        if k >= 0:
            order[free[k]] = place
            free[k] += 1
    return order, starts


@compiled_allocating
def repeated(ids: Ints, starts: Ints) -> NDArray[np.bool_]:
    """Whether a user has another event of the same id, for events in order of users that begin at `starts`."""
    found = np.zeros(len(ids), np.bool_)
    seats = np.empty(0, np.int64)
    for user in range(len(starts) - 1):
        low, high = starts[user], starts[user + 1]
        size = 2
        while size < 2 * (high - low):
            size *= 2
        if size > len(seats):
            seats = np.empty(size, np.int64)
        seats[:size] = -1
        for place in range(low, high):
            seat = (ids[place] * MIX >> 32) & (size - 1)
            while seats[seat] >= 0 and ids[seats[seat]] != ids[place]:
                seat = (seat + 1) & (size - 1)
            if seats[seat] >= 0:
                found[place] = found[seats[seat]] = True
            else:
                seats[seat] = place
    return found


@compiled_allocating
def order_of(code: NDArray[np.uint32], ts: Ints, seq: Ints, ids: Ints, n_codes: int) -> tuple[Ints, Ints]:
    """Where each event of the sorted log is found.

    Args:
        code: The user's place among the users, per event.
        ts: Microseconds.
        seq: The source's own order.
        ids: The last of the three keys.
        n_codes: Number of users.

    Returns:
        Places in order, and per user where theirs begin, shape (n_codes + 1,).
    """
    starts = np.zeros(n_codes + 1, np.int64)
    for each in code:
        starts[each + 1] += 1
    for user in range(n_codes):
        starts[user + 1] += starts[user]
    free = starts[:-1].copy()
    order = np.empty(len(code), np.int64)
    for place in range(len(code)):
        order[free[code[place]]] = place
        free[code[place]] += 1
    spare = np.empty(len(code), np.int64)
    for user in range(n_codes):
        _sort(order, spare, starts[user], starts[user + 1], ts, seq, ids)
    return order, starts


@compiled
def _sort(order: Ints, spare: Ints, low: int, high: int, ts: Ints, seq: Ints, ids: Ints) -> None:
    """One user's places, in place: runs of eight by insertion, then merged in pairs."""
    for start in range(low, high, RUN):
        for place in range(start + 1, min(start + RUN, high)):
            moved, hole = order[place], place
            while hole > start and _after(order[hole - 1], moved, ts, seq, ids):
                order[hole] = order[hole - 1]
                hole -= 1
            order[hole] = moved
    width = RUN
    while width < high - low:
        for start in range(low, high - width, 2 * width):
            _merge(order, spare, start, start + width, min(start + 2 * width, high), ts, seq, ids)
        width *= 2


@compiled
def _merge(order: Ints, spare: Ints, low: int, middle: int, high: int, ts: Ints, seq: Ints, ids: Ints) -> None:
    if not _after(order[middle - 1], order[middle], ts, seq, ids):
        return
    for place in range(low, middle):
        spare[place] = order[place]
    one, other = low, middle
    for place in range(low, high):
        if one < middle and (other == high or not _after(spare[one], order[other], ts, seq, ids)):
            order[place] = spare[one]
            one += 1
        else:
            order[place] = order[other]
            other += 1


@compiled
def _after(one: int, other: int, ts: Ints, seq: Ints, ids: Ints) -> bool:
    if ts[one] != ts[other]:
        return bool(ts[one] > ts[other])
    if seq[one] != seq[other]:
        return bool(seq[one] > seq[other])
    return bool(ids[one] > ids[other])
