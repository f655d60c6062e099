"""Days: on how many days, in the project's zone, something happened, over nested windows."""

from features.behaviour.compiled import Floats, compiled_inside, place
from features.behaviour.table import COLUMN, OF_STREAM, STREAM, Family, Table, User, enters, of_property
from features.instants import DAY, NEVER

STATS = ("active_days",)


@compiled_inside
def days(user: User, at: int, table: Table, out: Floats) -> None:
    """A pass a stream, from the newest event back; what lies on a day that counts already is passed over at once.

    Days come in order but where clocks go back shortly after midnight: then the day after the least may come, once.
    """
    for stream in range(len(table.sources)):
        window, edge, step, since = 0, at - table.windows[0], len(user.zone_starts) - 1, NEVER
        count, least, next_too = 0, NEVER, False
        for k in range(user.n - 1, user.past - 1, -1):
            ts = user.ts[place(k)]
            while ts <= edge:
                _read_off(table, stream, window, count, out)
                window += 1
                edge = at - table.windows[window] if window < len(table.windows) else -NEVER
            if ts >= since or not _comes_in(user, k, stream, table):
                continue
            day, since, step = day_of(user, ts, step)
            if day < least:
                count, least, next_too = count + 1, day, day == least - 1
            elif day > least and not next_too:
                count += 1
        for rest in range(window, len(table.windows)):
            _read_off(table, stream, rest, count, out)


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


@compiled_inside
def _comes_in(user: User, k: int, stream: int, table: Table) -> bool:
    code = place(user.codes[place(k)])
    for each in range(table.places[code], table.places[code + place(1)]):
        if table.entries[place(each), OF_STREAM] == stream and enters(user, k, each, table):
            return True
    return False


@compiled_inside
def _read_off(table: Table, stream: int, window: int, count: int, out: Floats) -> None:
    for each in range(table.edges[window], table.edges[window + 1]):
        if table.features[each, STREAM] == stream:
            out[table.features[each, COLUMN]] = count


FAMILY = Family("days", (), STATS, of_property)
"""Declared beside different values: see `distinct.Distinct`."""
