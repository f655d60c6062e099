"""Totals: count, sum, mean, min, max, first and last over nested windows."""

from collections.abc import Iterator

import numpy as np

from features.behaviour.compiled import Floats, Ints, compiled, place
from features.behaviour.declarations import Declaration, Names, Windows, event_of, property_of
from features.behaviour.schema import MISSING, StateSchema
from features.behaviour.table import (
    COLUMN,
    FACTOR,
    SLOT,
    STAT,
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
    n_windows, window = len(table.windows), 0
    if n_windows == 0:
        return
    _reset(user, table)
    edge = at - table.windows[0]
    for k in range(user.n - 1, user.past - 1, -1):
        while user.ts[place(k)] <= edge:
            _read_off(user, table, window, user.n - 1 - k, out)
            window += 1
            if window == n_windows:
                return
            edge = at - table.windows[window]
        code = place(user.codes[place(k)])
        user.counts[code] += 1
        for each in range(table.places[code], table.places[code + place(1)]):
            stream = place(table.streams[place(each)])
            value = user.slots[place(user.rows[place(k)]), place(table.sources[stream, SLOT])]
            if value != MISSING:
                _add(user.tally, stream, value)
    for rest in range(window, n_windows):
        _read_off(user, table, rest, user.n - user.past, out)


@compiled
def _reset(user: User, table: Table) -> None:
    for code in range(len(user.counts)):
        user.counts[code] = 0
    for stream in range(len(table.sources)):
        for kept in range(PLACES):
            user.tally[stream, kept] = 0


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
def _read_off(user: User, table: Table, window: int, n_events: int, out: Floats) -> None:
    """Write a window's features, when `n_events` events of any kind were met."""
    for each in range(table.edges[window], table.edges[window + 1]):
        k = place(each)
        stat, stream, column = (
            table.features[k, STAT],
            place(table.features[k, STREAM]),
            place(table.features[k, COLUMN]),
        )
        if stat == COUNT:
            out[column] = user.counts[stream] if stream > 0 else n_events
            continue
        n, value = user.tally[stream, PLACE[COUNT]], user.tally[stream, place(PLACE[stat])]
        if stat != SUM and n == 0:
            out[column] = np.nan
        else:
            out[column] = value / (table.features[k, FACTOR] * (n if stat == MEAN else 1))


def _source(feature: Feature, schema: StateSchema) -> Source | None:
    return None if feature.stat == "count" else of_property(feature, schema)


FAMILY = Family("totals", (Totals,), STATS, _source)
