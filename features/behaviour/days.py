"""Days: on how many days, in the project's zone, something happened, over nested windows."""

from features.behaviour.compiled import Floats, compiled_inside, place
from features.behaviour.table import COLUMN, Family, Table, User, asked, end_of, first_of, of_property
from features.instants import DAY, NEVER

STATS = ("active_days",)


@compiled_inside
def days(user: User, at: int, table: Table, out: Floats) -> None:
    """A pass a stream, from the newest event back; what lies on a day that counts already is passed over at once.

    Days come in order but where clocks go back shortly after midnight: then the day after the least may come, once.
    """
    for stream in range(len(table.sources)):
        step, since, high = len(user.zone_starts) - 1, NEVER, end_of(user, stream, table)
        count, least, next_too = 0, NEVER, False
        for window in range(len(table.windows)):
            low = first_of(user, stream, window, table)
            for j in range(high - 1, low - 1, -1):
                ts = user.ts[place(user.members[place(j)])]
                if ts >= since:
                    continue
                day, since, step = day_of(user, ts, step)
                if day < least:
                    count, least, next_too = count + 1, day, day == least - 1
                elif day > least and not next_too:
                    count += 1
            high = low
            begin, end = asked(stream, window, table)
            for each in range(begin, end):
                out[place(table.features[place(each), COLUMN])] = count


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
