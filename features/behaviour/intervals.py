"""Intervals: how long and how regular the time is from one event to the next of its kind."""

from collections.abc import Iterator

import numpy as np

from features.behaviour.compiled import Floats, compiled_inside, place
from features.behaviour.declarations import Declaration, Spans
from features.behaviour.schema import MISSING
from features.behaviour.table import (
    COLUMN,
    OF_STREAM,
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
from features.instants import SECOND

STATS = ("mean_interval", "interval_variation")
MEAN_INTERVAL = 0
AFTER, N, NEWEST, TOTAL, DIFFERENCES, SQUARES = range(6)
"""Places in a stream's tally: the event after, the number of intervals, the newest one, their sum; the sum of their
differences from the newest and, in floating point, of those differences' squares."""


class Intervals(Declaration):
    """`{mean_interval: [any, order_completed], interval_variation: order_completed, windows: [90d]}`."""

    mean_interval: Names = ()
    interval_variation: Names = ()
    windows: Spans

    def features(self, words: Words) -> Iterator[Feature]:
        """`mean_interval_<event>_s_<window>`, `interval_variation_<event>_<window>`."""
        for text, window in self.windows:
            for name, kind in self.kinds(self.mean_interval, words):
                yield Feature(f"mean_interval_{name}_s_{text}", "intervals", STATS[0], name, kind, window=window)
            for name, kind in self.kinds(self.interval_variation, words):
                yield Feature(f"interval_variation_{name}_{text}", "intervals", STATS[1], name, kind, window=window)


@compiled_inside
def intervals(user: User, at: int, table: Table, out: Floats) -> None:
    """One pass from the newest event back; an interval counts where both of its events are in the window."""
    tally, n_windows, window = user.tally, len(table.windows), 0
    if n_windows == 0:
        return
    for stream in range(len(table.sources)):
        tally[stream, AFTER] = MISSING
        for cell in range(N, SQUARES + 1):
            tally[stream, cell] = 0
    edge = at - table.windows[0]
    for k in range(user.n - 1, user.past - 1, -1):
        while user.ts[place(k)] <= edge:
            _read_off(user, table, window, out)
            window += 1
            if window == n_windows:
                return
            edge = at - table.windows[window]
        code = place(user.codes[place(k)])
        for each in range(table.places[code], table.places[code + place(1)]):
            if enters(user, k, each, table):
                _add(user, place(table.entries[place(each), OF_STREAM]), user.ts[place(k)])
    for rest in range(window, n_windows):
        _read_off(user, table, rest, out)


@compiled_inside
def _add(user: User, stream: int, ts: int) -> None:
    """An event that is older than those before it."""
    tally = user.tally
    after, tally[stream, AFTER] = tally[stream, AFTER], ts
    if after == MISSING:
        return
    interval = after - ts
    if tally[stream, N] == 0:
        tally[stream, NEWEST] = interval
    difference = interval - tally[stream, NEWEST]
    tally[stream, N] += 1
    tally[stream, TOTAL] += interval
    tally[stream, DIFFERENCES] += difference
    tally.view(np.float64)[stream, SQUARES] += float(difference) * float(difference)


@compiled_inside
def _read_off(user: User, table: Table, window: int, out: Floats) -> None:
    """Mean; standard deviation by the mean, of at least two intervals that are not all 0."""
    tally = user.tally
    for each in range(table.edges[window], table.edges[window + 1]):
        k = place(each)
        stream, column = place(table.features[k, STREAM]), place(table.features[k, COLUMN])
        n, total = tally[stream, N], tally[stream, TOTAL]
        if table.features[k, STAT] == MEAN_INTERVAL:
            out[column] = total / (n * SECOND) if n > 0 else np.nan
        elif n < 2 or total == 0:
            out[column] = np.nan
        else:
            mean = tally[stream, DIFFERENCES] / n
            square = tally.view(np.float64)[stream, SQUARES] / n - mean * mean
            out[column] = np.sqrt(max(square, 0.0)) / (total / n)


FAMILY = Family("intervals", (Intervals,), STATS, of_property)
