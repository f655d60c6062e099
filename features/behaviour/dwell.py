"""Dwell: how long people stayed with something: the time to whatever they did next."""

from collections.abc import Iterator

import numpy as np

from features.behaviour.compiled import Floats, Ints, compiled_inside, place
from features.behaviour.declarations import Declaration, Spans
from features.behaviour.table import (
    COLUMN,
    OF_STREAM,
    OPTION,
    STAT,
    STREAM,
    Family,
    Feature,
    Table,
    User,
    enters,
    of_property,
)
from features.behaviour.words import Names, Words
from features.document import Duration
from features.instants import MINUTE, SECOND

STATS = ("dwell", "mean_dwell")
TIME, TIMES = 0, 1
"""Places in a stream's tally: microseconds, and how many stays they are."""


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
    """One pass from the newest event back; a stay counts once the next event, or the end of the gap, settles it."""
    tally, n_windows, window = user.tally, len(table.windows), 0
    if n_windows == 0:
        return
    for stream in range(len(table.sources)):
        tally[stream, TIME] = tally[stream, TIMES] = 0
    edge, until, goes_on = at - table.windows[0], at, True
    for k in range(user.n - 1, user.past - 1, -1):
        ts = user.ts[place(k)]
        while ts <= edge:
            _read_off(tally, table, window, out)
            window += 1
            if window == n_windows:
                return
            edge = at - table.windows[window]
        code = place(user.codes[place(k)])
        for each in range(table.places[code], table.places[code + place(1)]):
            stream = place(table.entries[place(each), OF_STREAM])
            gap = table.sources[stream, OPTION]
            if enters(user, k, each, table) and not (goes_on and until - ts < gap):
                tally[stream, TIME] += min(until - ts, gap)
                tally[stream, TIMES] += 1
        until, goes_on = ts, False
    for rest in range(window, n_windows):
        _read_off(tally, table, rest, out)


@compiled_inside
def _read_off(tally: Ints, table: Table, window: int, out: Floats) -> None:
    for each in range(table.edges[window], table.edges[window + 1]):
        k = place(each)
        stream, column = place(table.features[k, STREAM]), place(table.features[k, COLUMN])
        times = tally[stream, TIMES]
        if table.features[k, STAT] == 0:
            out[column] = tally[stream, TIME] / SECOND
        else:
            out[column] = tally[stream, TIME] / (times * SECOND) if times > 0 else np.nan


FAMILY = Family("dwell", (Dwell,), STATS, of_property)
