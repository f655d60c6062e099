"""Rhythm: at which hours and on which weekdays people come, by their own clocks."""

from collections.abc import Iterator, Mapping
from typing import Annotated

import numpy as np
from pydantic import Field

from features.behaviour.compiled import Floats, Ints, compiled_inside, place
from features.behaviour.declarations import Declaration, Spans
from features.behaviour.schema import HEAD, OFFSET_BITS, OFFSET_SHIFT, OFFSET_ZERO
from features.behaviour.table import (
    COLUMN,
    OF_STREAM,
    PART,
    STREAM,
    Family,
    Feature,
    Source,
    Table,
    User,
    enters,
    of_property,
)
from features.behaviour.words import Names, Words
from features.instants import DAY, HOUR, MINUTE

STATS = ("hour_share", "weekday_share")
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
HOURS, THURSDAY = 24, 3
"""A stream's tally has the hours, then the weekdays, then all of them; the first day of the epoch was a Thursday."""
ALL = HOURS + len(WEEKDAYS)

Hour = Annotated[int, Field(ge=0, le=HOURS)]


class Rhythm(Declaration):
    """`{hours: any, bands: {night: [22, 6], day: [6, 22]}, weekdays: any, windows: [30d]}`; no bands, every hour."""

    hours: Names = ()
    bands: Mapping[str, tuple[Hour, Hour]] = {}
    weekdays: Names = ()
    windows: Spans

    def features(self, words: Words) -> Iterator[Feature]:
        """`hour_share_<event>_<band>_<window>`, `weekday_share_<event>_<mon to sun>_<window>`."""
        bands = self.bands or {f"{hour:02}": (hour, hour + 1) for hour in range(HOURS)}
        hours = {name: (begin, (end - begin) % HOURS or HOURS) for name, (begin, end) in bands.items()}
        days = {name: (HOURS + day, 1) for day, name in enumerate(WEEKDAYS)}
        for text, window in self.windows:
            for stat, names, parts in ((STATS[0], self.hours, hours), (STATS[1], self.weekdays, days)):
                for called, kind in self.kinds(names, words):
                    for name, (begin, length) in parts.items():
                        said = name if stat == STATS[1] else f"{begin:02}:00 to {(begin + length) % HOURS:02}:00"
                        yield Feature(
                            f"{stat}_{called}_{name}_{text}", "rhythm", stat, called, kind,
                            window=window, part=begin * ALL + length, said=said,
                        )  # fmt: skip


@compiled_inside
def rhythm(user: User, at: int, table: Table, out: Floats) -> None:
    """One pass from the newest event back; local time is by the offset that came with the event."""
    tally, n_windows, window = user.tally, len(table.windows), 0
    if n_windows == 0:
        return
    for stream in range(len(table.sources)):
        for cell in range(ALL + 1):
            tally[stream, cell] = 0
    edge = at - table.windows[0]
    for k in range(user.n - 1, user.past - 1, -1):
        while user.ts[place(k)] <= edge:
            _read_off(tally, table, window, out)
            window += 1
            if window == n_windows:
                return
            edge = at - table.windows[window]
        code = place(user.codes[place(k)])
        for each in range(table.places[code], table.places[code + place(1)]):
            if enters(user, k, each, table):
                local = user.ts[place(k)] + _offset(user.slots[place(user.rows[place(k)]), HEAD])
                stream = place(table.entries[place(each), OF_STREAM])
                tally[stream, place(local // HOUR % HOURS)] += 1
                tally[stream, place(HOURS + (local // DAY + THURSDAY) % len(WEEKDAYS))] += 1
                tally[stream, ALL] += 1
    for rest in range(window, n_windows):
        _read_off(tally, table, rest, out)


@compiled_inside
def _offset(head: int) -> int:
    """Microseconds that local time was ahead of UTC."""
    return ((head >> OFFSET_SHIFT & ((1 << OFFSET_BITS) - 1)) - OFFSET_ZERO) * MINUTE


@compiled_inside
def _read_off(tally: Ints, table: Table, window: int, out: Floats) -> None:
    for each in range(table.edges[window], table.edges[window + 1]):
        k = place(each)
        stream = place(table.features[k, STREAM])
        begin, length = table.features[k, PART] // ALL, table.features[k, PART] % ALL
        n = 0
        for cell in range(begin, begin + length):
            n += tally[stream, place(cell - HOURS if cell >= HOURS > begin else cell)]
        out[place(table.features[k, COLUMN])] = n / tally[stream, ALL] if tally[stream, ALL] > 0 else np.nan


def _cells(source: Source) -> int:
    return ALL + 1


FAMILY = Family("rhythm", (Rhythm,), STATS, of_property, _cells)
