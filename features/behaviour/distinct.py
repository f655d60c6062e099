"""Distinct: how many different values, or local days, over nested windows."""

from collections.abc import Iterator

from features.behaviour.compiled import Floats, Ints, compiled_inside, place
from features.behaviour.declarations import Declaration, Spans
from features.behaviour.gather import MIX, freed
from features.behaviour.schema import MISSING, StateSchema
from features.behaviour.table import (
    COLUMN,
    DAY_SLOT,
    OF_STREAM,
    SLOT,
    STREAM,
    Family,
    Feature,
    Source,
    Table,
    User,
    of_property,
    value_of,
)
from features.behaviour.words import Names, Words
from features.instants import DAY, NEVER

STATS = ("distinct", "active_days")
COUNT, LATEST = 0, 1
"""Places in a stream's tally: values met, and the one met last."""


class Distinct(Declaration):
    """`{distinct: product_viewed.product_id, windows: [7d]}`, `{active_days: any, windows: [7d, 30d]}`.

    A missing value is none. Days are those of the project's zone.
    """

    distinct: Names = ()
    active_days: Names = ()
    windows: Spans

    def features(self, words: Words) -> Iterator[Feature]:
        """`distinct_<event>_<property>_<window>`, `active_days_<event>_<window>`."""
        for text, window in self.windows:
            for name, kind, prop in self.properties(self.distinct, words):
                yield Feature(f"distinct_{name}_{prop}_{text}", "distinct", "distinct", name, kind, prop, window)
            for name, kind in self.kinds(self.active_days, words):
                yield Feature(f"active_days_{name}_{text}", "distinct", "active_days", name, kind, "", window)


@compiled_inside
def distinct(user: User, at: int, table: Table, out: Floats) -> None:
    """One pass from the newest event back; a value counts where it is met first."""
    tally = user.tally
    n_windows, window = len(table.windows), 0
    if n_windows == 0:
        return
    mask, era = freed(user.seats, user.era, (user.n - user.past) * streams_per_event(table))
    for stream in range(len(table.sources)):
        tally[stream, COUNT] = 0
    edge = at - table.windows[0]
    step, day, since = len(user.zone_starts) - 1, MISSING, NEVER
    for k in range(user.n - 1, user.past - 1, -1):
        ts = user.ts[place(k)]
        while ts <= edge:
            _read_off(tally, table, window, out)
            window += 1
            if window == n_windows:
                return
            edge = at - table.windows[window]
        if ts < since:
            day, since, step = day_of(user, ts, step)
        code = place(user.codes[place(k)])
        for each in range(table.places[code], table.places[code + place(1)]):
            stream = place(table.entries[place(each), OF_STREAM])
            value = _value(user, k, each, table, day)
            if value == MISSING or (tally[stream, COUNT] > 0 and value == tally[stream, LATEST]):
                continue
            tally[stream, LATEST] = value
            if is_new(user.seats, mask, era, value, table.entries[place(each), OF_STREAM]):
                tally[stream, COUNT] += 1
    for rest in range(window, n_windows):
        _read_off(tally, table, rest, out)


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
def _value(user: User, k: int, entry: int, table: Table, day: int) -> int:
    """What is counted once: the event's property, or its local day."""
    value = value_of(user, k, entry, table)
    counts_days = table.sources[place(table.entries[place(entry), OF_STREAM]), SLOT] == DAY_SLOT
    return day if counts_days and value != MISSING else value


@compiled_inside
def streams_per_event(table: Table) -> int:
    """The most streams that one event enters."""
    most = 0
    for code in range(len(table.places) - 1):
        most = max(most, table.places[code + 1] - table.places[code])
    return most


@compiled_inside
def is_new(seats: Ints, mask: int, era: int, value: int, stream: int) -> bool:
    """Whether the stream meets the value for the first time; it is seated then."""
    owner = era + stream + 1
    seat = ((value + stream) * MIX >> 32) & mask
    while seats[place(seat), 1] > era:
        if seats[place(seat), 0] == value and seats[place(seat), 1] == owner:
            return False
        seat = (seat + 1) & mask
    seats[place(seat), 0], seats[place(seat), 1] = value, owner
    return True


@compiled_inside
def _read_off(tally: Ints, table: Table, window: int, out: Floats) -> None:
    for each in range(table.edges[window], table.edges[window + 1]):
        k = place(each)
        out[place(table.features[k, COLUMN])] = tally[place(table.features[k, STREAM]), COUNT]


def _source(feature: Feature, schema: StateSchema) -> Source:
    if feature.stat == "active_days":
        return Source((feature.kind,), DAY_SLOT)
    return of_property(feature, schema)


FAMILY = Family("distinct", (Distinct,), STATS, _source)
