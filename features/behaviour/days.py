"""Days: on how many days, in the project's zone, something happened, over nested windows."""

import numpy as np

from features.behaviour.compiled import Floats, compiled_inside, place
from features.behaviour.table import Family, Table, User, end_of, first_of, of_property, read_off
from features.instants import DAY, NEVER

STATS = ("active_days",)
AGES = 50_000_000 * DAY
"""Before any instant; what is counted from there on is not negative, and divided in half the steps."""


@compiled_inside
def days(user: User, at: int, table: Table, out: Floats) -> None:
    """A pass a stream, which writes at each member on how many days something happened from there on."""
    for stream in range(len(table.sources)):
        first = first_of(user, stream, len(table.windows) - 1, table)
        _counted_back(user, first, end_of(user, stream, table))
        read_off(user, stream, table, out)


@compiled_inside
def _counted_back(user: User, first: int, end: int) -> None:
    """From the newest of the members `first:end` back; without a branch, as no day's length can be guessed.

    Days come in order but where clocks go back shortly after midnight: then the day after the least may come again.
    """
    count, least, latest, earlier, step = 0, NEVER, NEVER, NEVER, len(user.zone_starts) - 1
    while end > first:
        while user.ts[place(user.members[place(end - 1)])] < user.zone_starts[place(step)]:
            step -= 1
        low, offset = _since(user, first, end, user.zone_starts[place(step)]), user.zone_offsets[place(step)]
        for j in range(end - 1, low - 1, -1):
            day = int(np.int64(place(user.ts[place(user.members[place(j)])] + offset + AGES) // place(DAY)))
            count += (day != latest) & (day != least)
            latest, earlier = day, (earlier if day == latest else latest)
            user.heap[place(j - first)] = count
        end, least, latest = low, min(least, latest), earlier


@compiled_inside
def _since(user: User, first: int, end: int, start: int) -> int:
    """The first of the members `first:end`, the last of which is, that is not before an instant."""
    if user.ts[place(user.members[place(first)])] >= start:
        return first
    while user.ts[place(user.members[place(end - 1)])] >= start:
        end -= 1
    return end


@compiled_inside
def day_of(user: User, ts: int, step: int) -> tuple[int, int, int]:
    """The project's day of an instant, since when it is that day, and its step among the zone's offsets.

    Args:
        user: Knows the zone.
        ts: The instant.
        step: Of a later instant.
    """
    while ts < user.zone_starts[place(step)]:
        step -= 1
    offset = user.zone_offsets[place(step)]
    day = (ts + offset) // DAY
    return day, max(day * DAY - offset, user.zone_starts[place(step)]), step


FAMILY = Family("days", (), STATS, of_property)
"""Declared beside different values: see `distinct.Distinct`."""
