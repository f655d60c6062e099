"""Distinct: how many different values, or local days, over nested windows."""

from collections.abc import Iterator

from features.behaviour.compiled import Floats, Ints, compiled
from features.behaviour.declarations import Declaration, Names, Windows, event_of, property_of
from features.behaviour.gather import MIX, seats_for
from features.behaviour.schema import MISSING, StateSchema
from features.behaviour.table import (
    COLUMN,
    DAY_SLOT,
    SLOT,
    STREAM,
    Family,
    Feature,
    Source,
    Table,
    User,
    of_property,
)
from features.errors import DefinitionError
from features.events.plan import TrackingPlan
from features.instants import DAY

STATS = ("distinct", "active_days")
COUNT, LATEST = 0, 1
"""Places in a stream's tally: values met, and the one met last."""


class Distinct(Declaration):
    """`{distinct: product_viewed.product_id, windows: [7d]}`, `{active_days: any, windows: [7d, 30d]}`."""

    distinct: Names = ()
    active_days: Names = ()
    windows: Windows

    def features(self, plan: TrackingPlan) -> Iterator[Feature]:
        """`distinct_<event>_<property>_<window>`, `active_days_<event>_<window>`."""
        for text, window in self.windows:
            if window < 0:
                raise DefinitionError(
                    "`distinct` and `active_days` have no life-time. Hint: name a window such as 90d."
                )
            for name in self.distinct:
                event, prop = property_of(name, plan)
                yield Feature(f"distinct_{event}_{prop}_{text}", "distinct", "distinct", event, prop, window)
            for name in self.active_days:
                yield Feature(f"active_days_{event_of(name, plan)}_{text}", "distinct", "active_days", name, "", window)


@compiled
def distinct(user: User, at: int, table: Table, out: Floats) -> None:
    """One pass from the newest event back; a value counts where it is met first."""
    tally = user.tally
    n_windows = len(table.windows)
    if n_windows == 0:
        return
    mask = _cleared(user, at, table)
    for stream in range(len(table.sources)):
        tally[stream, COUNT] = 0
    window = 0
    step = len(user.zone_starts) - 1
    for k in range(user.n - 1, user.past - 1, -1):
        ts = user.ts[k]
        while window < n_windows and ts <= at - table.windows[window]:
            _read_off(tally, table, window, out)
            window += 1
        if window == n_windows:
            return
        while ts < user.zone_starts[step]:
            step -= 1
        code = user.codes[k]
        for place in range(table.places[code], table.places[code + 1]):
            stream = table.streams[place]
            slot = table.sources[stream, SLOT]
            value = (ts + user.zone_offsets[step]) // DAY if slot == DAY_SLOT else user.slots[user.rows[k], slot]
            if value == MISSING or (tally[stream, COUNT] > 0 and value == tally[stream, LATEST]):
                continue
            tally[stream, LATEST] = value
            if _new(user.seats, mask, value, stream + 1):
                tally[stream, COUNT] += 1
    for rest in range(window, n_windows):
        _read_off(tally, table, rest, out)


@compiled
def _cleared(user: User, at: int, table: Table) -> int:
    """Free as many seats as the longest window's values can need; returns the mask of their places."""
    needed = 0
    for k in range(user.n - 1, user.past - 1, -1):
        if user.ts[k] <= at - table.windows[-1]:
            break
        needed += table.places[user.codes[k] + 1] - table.places[user.codes[k]]
    size = seats_for(needed)
    for seat in range(size):
        user.seats[seat, 1] = 0
    return size - 1


@compiled
def _new(seats: Ints, mask: int, value: int, owner: int) -> bool:
    """Whether the owner meets the value for the first time; it is seated then."""
    seat = ((value + owner) * MIX >> 32) & mask
    while seats[seat, 1] != 0:
        if seats[seat, 0] == value and seats[seat, 1] == owner:
            return False
        seat = (seat + 1) & mask
    seats[seat, 0], seats[seat, 1] = value, owner
    return True


@compiled
def _read_off(tally: Ints, table: Table, window: int, out: Floats) -> None:
    for k in range(table.edges[window], table.edges[window + 1]):
        out[table.features[k, COLUMN]] = tally[table.features[k, STREAM], COUNT]


def _source(feature: Feature, schema: StateSchema) -> Source:
    if feature.stat == "active_days":
        return feature.event, DAY_SLOT, 0, 0
    return of_property(feature, schema)


FAMILY = Family("distinct", (Distinct,), STATS, _source)
