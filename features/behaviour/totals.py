"""Totals: count, sum, mean, min, max, first and last over nested windows."""

from collections.abc import Iterator

import numpy as np

from features.behaviour.compiled import Floats, Ints, compiled
from features.behaviour.declarations import Declaration, Names, Windows, event_of, property_of
from features.behaviour.schema import MISSING
from features.behaviour.table import COLUMN, FACTOR, SLOT, STAT, STREAM, Family, Feature, Table, User, of_property
from features.errors import DefinitionError
from features.events.plan import TrackingPlan

STATS = ("count", "sum", "mean", "min", "max", "first", "last")
COUNT, SUM, MEAN, MIN, MAX, FIRST, LAST = range(len(STATS))
PLACES, PLACE = 6, (0, 1, 1, 2, 3, 4, 5)
"""Where in a stream's tally a statistic is kept."""


class Totals(Declaration):
    """`{count: [any, product_viewed], windows: [1d, lifetime]}`, `{sum: order_completed.revenue, windows: [30d]}`."""

    count: Names = ()
    sum: Names = ()
    mean: Names = ()
    min: Names = ()
    max: Names = ()
    first: Names = ()
    last: Names = ()
    windows: Windows

    def features(self, plan: TrackingPlan) -> Iterator[Feature]:
        """`count_<event>_<window>`, `sum_<event>_<property>_<window>` and so on."""
        for stat in STATS:
            for name in getattr(self, stat):
                event, prop = (event_of(name, plan), "") if stat == "count" else property_of(name, plan, numeric=True)
                subject = f"{event}_{prop}" if prop else event
                for text, window in self.windows:
                    family = "totals" if window > 0 else "lifetime"
                    if family == "lifetime" and stat == "mean":
                        raise DefinitionError("`mean` has no life-time. Hint: use `sum` and `count`.")
                    yield Feature(f"{stat}_{subject}_{text}", family, stat, event, prop, window)


@compiled
def totals(user: User, at: int, table: Table, out: Floats) -> None:
    """One pass from the newest event back; a window's features are read off where its edge is crossed."""
    tally = user.tally
    n_windows = len(table.windows)
    for stream in range(len(table.sources)):
        for place in range(PLACES):
            tally[stream, place] = 0
    window = 0
    for k in range(user.n - 1, user.past - 1, -1):
        while window < n_windows and user.ts[k] <= at - table.windows[window]:
            _read_off(tally, table, window, out)
            window += 1
        if window == n_windows:
            return
        code = user.codes[k]
        for place in range(table.places[code], table.places[code + 1]):
            stream = table.streams[place]
            slot = table.sources[stream, SLOT]
            if slot < 0:
                tally[stream, COUNT] += 1
            elif user.slots[user.rows[k], slot] != MISSING:
                _add(tally, stream, user.slots[user.rows[k], slot])
    for rest in range(window, n_windows):
        _read_off(tally, table, rest, out)


@compiled
def _add(tally: Ints, stream: int, value: int) -> None:
    """Account for a value that is older than those before it."""
    if tally[stream, PLACE[COUNT]] == 0:
        for stat in (MIN, MAX, LAST):
            tally[stream, PLACE[stat]] = value
    tally[stream, PLACE[COUNT]] += 1
    tally[stream, PLACE[SUM]] += value
    tally[stream, PLACE[MIN]] = min(tally[stream, PLACE[MIN]], value)
    tally[stream, PLACE[MAX]] = max(tally[stream, PLACE[MAX]], value)
    tally[stream, PLACE[FIRST]] = value


@compiled
def _read_off(tally: Ints, table: Table, window: int, out: Floats) -> None:
    for k in range(table.edges[window], table.edges[window + 1]):
        stat, factor = table.features[k, STAT], table.features[k, FACTOR]
        stream, column = table.features[k, STREAM], table.features[k, COLUMN]
        n, value = tally[stream, PLACE[COUNT]], tally[stream, PLACE[stat]]
        if stat == COUNT:
            out[column] = value
        elif stat != SUM and n == 0:
            out[column] = np.nan
        else:
            out[column] = value / (factor * n if stat == MEAN else factor)


FAMILY = Family("totals", (Totals,), STATS, of_property)
