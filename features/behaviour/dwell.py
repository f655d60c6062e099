"""Dwell: how long people stayed with something: the time to whatever they did next."""

from collections.abc import Iterator

import numpy as np

from features.behaviour.compiled import Floats, compiled_inside, place
from features.behaviour.declarations import Declaration, Spans
from features.behaviour.feature import Feature
from features.behaviour.table import COLUMN, OPTION, STAT, Family, Table, User, asked, end_of, first_of, of_property
from features.behaviour.words import Names, Words
from features.document import Duration
from features.instants import MINUTE, SECOND

STATS = ("dwell", "mean_dwell")


class Dwell(Declaration):
    """`{dwell: page_viewed, mean_dwell: page_viewed, gap: 30m, windows: [7d]}`."""

    dwell: Names = ()
    mean_dwell: Names = ()
    gap: Duration = 30 * MINUTE
    windows: Spans

    def features(self, words: Words) -> Iterator[Feature]:
        """`dwell_<event>_s_<window>`, `mean_dwell_<event>_s_<window>`."""
        for text, window in self.windows:
            for stat in STATS:
                for name, kind in self.kinds(getattr(self, stat), words):
                    yield Feature(f"{stat}_{name}_s_{text}", "dwell", stat, name, kind, "", window, self.gap)


@compiled_inside
def dwell(user: User, at: int, table: Table, out: Floats) -> None:
    """A pass a stream; a stay counts once the next event, or the end of the gap, settles it."""
    for stream in range(len(table.sources)):
        gap, high = table.sources[place(stream), OPTION], end_of(user, stream, table)
        time, times = 0, 0
        for window in range(len(table.windows)):
            low = first_of(user, stream, window, table)
            for j in range(high - 1, low - 1, -1):
                k = user.members[place(j)]
                ts, goes_on = user.ts[place(k)], k == user.n - 1
                stay = min((at if goes_on else user.ts[place(k + 1)]) - ts, gap)
                settled = not (goes_on and stay < gap)
                time, times = time + (stay if settled else 0), times + settled
            high = low
            begin, end = asked(stream, window, table)
            for each in range(begin, end):
                column = place(table.features[place(each), COLUMN])
                if table.features[place(each), STAT] == 0:
                    out[column] = time / SECOND
                else:
                    out[column] = time / (times * SECOND) if times > 0 else np.nan


FAMILY = Family("dwell", (Dwell,), STATS, of_property)
