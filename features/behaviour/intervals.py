"""Intervals: how long and how regular the time is from one event to the next of its kind."""

from collections.abc import Iterator

import numpy as np

from features.behaviour.compiled import Floats, compiled_inside, place
from features.behaviour.declarations import Declaration, Spans
from features.behaviour.feature import Feature
from features.behaviour.schema import StateSchema
from features.behaviour.table import CODE, COLUMN, Family, Source, Table, User, asked, begin_of, end_of, first_of
from features.behaviour.words import Names, Words
from features.instants import SECOND

STATS = ("mean_interval", "interval_variation")
MEAN_INTERVAL = 0


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
    """An interval counts where both of its events are in the window; the newest event ends the first of them.

    Mean; standard deviation by the mean, of at least two intervals that are not all 0. Squares are of the differences
    from the newest interval, from the newest back, in floating point.
    """
    for stream in range(len(table.sources)):
        varies, end = table.sources[place(stream), CODE] != MEAN_INTERVAL, end_of(user, stream, table)
        squares, newest, j = 0.0, 0, end - 2
        if j >= begin_of(user, stream, table):
            newest = _instant(user, end - 1) - _instant(user, j)
        for window in range(len(table.windows)):
            low = first_of(user, stream, window, table)
            while varies and j >= low:
                difference = float(_instant(user, j + 1) - _instant(user, j) - newest)
                squares += difference * difference
                j -= 1
            n = max(end - low - 1, 0)
            total = _instant(user, end - 1) - _instant(user, low) if n else 0
            begin, until = asked(stream, window, table)
            for each in range(begin, until):
                column = place(table.features[place(each), COLUMN])
                if not varies:
                    out[column] = total / (n * SECOND) if n > 0 else np.nan
                elif n < 2 or total == 0:
                    out[column] = np.nan
                else:
                    mean = (total - n * newest) / n
                    out[column] = np.sqrt(max(squares / n - mean * mean, 0.0)) / (total / n)


@compiled_inside
def _instant(user: User, member: int) -> int:
    return int(user.ts[place(user.members[place(member)])])


def _source(feature: Feature, schema: StateSchema) -> Source:
    return Source((feature.kind,), code=STATS.index(feature.stat))


FAMILY = Family("intervals", (Intervals,), STATS, _source)
