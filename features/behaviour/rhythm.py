"""Rhythm: at which hours and on which weekdays people come, by their own clocks."""

from collections.abc import Iterator, Mapping
from typing import Annotated

import numpy as np
from pydantic import Field

from features.behaviour.compiled import Floats, compiled_inside, place
from features.behaviour.declarations import Declaration, Spans
from features.behaviour.feature import Feature
from features.behaviour.schema import HEAD, OFFSET_BITS, OFFSET_SHIFT, OFFSET_ZERO
from features.behaviour.table import (
    COLUMN,
    PART,
    Family,
    Source,
    Table,
    User,
    asked,
    end_of,
    first_of,
    of_property,
    value_at,
)
from features.behaviour.words import Names, Words
from features.instants import DAY, HOUR, MINUTE, WEEK

STATS = ("hour_share", "weekday_share")
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
HOURS = 24
CELLS = HOURS + len(WEEKDAYS)
"""A tally has the hours, then the weekdays."""
THURSDAY = 3
ALIGNED = 10_000_000 * WEEK + THURSDAY * DAY
"""Added to an instant it leaves no negative one, which takes longer to divide, and the first day of the epoch, a
Thursday, its place in the week."""

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
                            window=window, part=begin * CELLS + length, said=said,
                        )  # fmt: skip


@compiled_inside
def rhythm(user: User, at: int, table: Table, out: Floats) -> None:
    """A pass a stream, from the newest event back; local time is by the offset that came with the event."""
    for stream in range(len(table.sources)):
        tally, end = user.tally[0], end_of(user, stream, table)
        high = end
        for cell in range(CELLS):
            tally[place(cell)] = 0
        for window in range(len(table.windows)):
            low = first_of(user, stream, window, table)
            for j in range(high - 1, low - 1, -1):
                k = user.members[place(j)]
                hour = place(user.ts[place(k)] + _offset(value_at(user, k, HEAD)) + ALIGNED) // place(HOUR)
                day = hour // place(HOURS)
                tally[hour - day * place(HOURS)] += 1
                tally[place(HOURS) + day % place(len(WEEKDAYS))] += 1
            high = low
            begin, until = asked(stream, window, table)
            for each in range(begin, until):
                k = place(each)
                first, length, n = table.features[k, PART] // CELLS, table.features[k, PART] % CELLS, 0
                for cell in range(first, first + length):
                    n += tally[place(cell - HOURS if cell >= HOURS > first else cell)]
                out[place(table.features[k, COLUMN])] = n / (end - low) if end > low else np.nan


@compiled_inside
def _offset(head: int) -> int:
    """Microseconds that local time was ahead of UTC."""
    return ((head >> OFFSET_SHIFT & ((1 << OFFSET_BITS) - 1)) - OFFSET_ZERO) * MINUTE


def _cells(source: Source) -> int:
    return CELLS


FAMILY = Family("rhythm", (Rhythm,), STATS, of_property, _cells)
