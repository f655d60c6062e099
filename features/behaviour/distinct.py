"""Distinct: how many different values, over nested windows."""

from collections.abc import Iterator

from features.behaviour.compiled import Floats, Ints, compiled_inside, place
from features.behaviour.declarations import Declaration, Spans
from features.behaviour.gather import MIX, freed
from features.behaviour.schema import MISSING
from features.behaviour.table import (
    COLUMN,
    OF_STREAM,
    STREAM,
    Family,
    Feature,
    Table,
    User,
    of_property,
    value_of,
)
from features.behaviour.words import Names, Words

STATS = ("distinct",)
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
                yield Feature(f"active_days_{name}_{text}", "days", "active_days", name, kind, "", window)


@compiled_inside
def distinct(user: User, at: int, table: Table, out: Floats) -> None:
    """One pass over what enters a stream, from the newest event back; a value counts where it is met first."""
    tally, mine = user.tally, user.spare
    n_windows, window = len(table.windows), 0
    if n_windows == 0:
        return
    n = _entering(user, table, mine)
    mask, era = freed(user.seats, user.era, n * streams_per_event(table))
    for stream in range(len(table.sources)):
        tally[stream, COUNT] = 0
    edge = at - table.windows[0]
    for j in range(n - 1, -1, -1):
        k = mine[place(j)]
        while user.ts[place(k)] <= edge:
            _read_off(tally, table, window, out)
            window += 1
            if window == n_windows:
                return
            edge = at - table.windows[window]
        code = place(user.codes[place(k)])
        for each in range(table.places[code], table.places[code + place(1)]):
            stream, value = place(table.entries[place(each), OF_STREAM]), value_of(user, k, each, table)
            if value == MISSING or (tally[stream, COUNT] > 0 and value == tally[stream, LATEST]):
                continue
            tally[stream, LATEST] = value
            if is_new(user.seats, mask, era, value, table.entries[place(each), OF_STREAM]):
                tally[stream, COUNT] += 1
    for rest in range(window, n_windows):
        _read_off(tally, table, rest, out)


@compiled_inside
def _entering(user: User, table: Table, mine: Ints) -> int:
    """Write which events may enter a stream; without a branch, as their order cannot be guessed."""
    n = 0
    for k in range(user.past, user.n):
        code = place(user.codes[place(k)])
        mine[place(n)] = k
        n += table.places[code] < table.places[code + place(1)]
    return n


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


FAMILY = Family("distinct", (Distinct,), STATS, of_property)
