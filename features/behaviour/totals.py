"""Totals: count, sum, mean, min, max, first and last over nested windows."""

from collections.abc import Iterator

from features.behaviour.compiled import Floats, Ints, compiled_inside, place
from features.behaviour.declarations import Listing, Windows
from features.behaviour.schema import MISSING, StateSchema
from features.behaviour.table import (
    COLUMN,
    FACTOR,
    OF_STREAM,
    STAT,
    STREAM,
    Family,
    Feature,
    Source,
    Table,
    User,
    of_property,
    put,
    value_of,
)
from features.behaviour.words import Names, Words
from features.errors import DefinitionError

STATS = ("count", "sum", "mean", "min", "max", "first", "last")
COUNT, SUM, MEAN, MIN, MAX, FIRST, LAST = range(len(STATS))
PLACES, PLACE = 6, (0, 1, 1, 2, 3, 4, 5)
"""Where in a stream's tally a statistic is kept."""


class Totals(Listing):
    """`{count: [any, product_viewed], windows: [7d, lifetime]}`, `{sum: order_completed.revenue, windows: [30d]}`.

    `{mean: order_completed.revenue, min: order_completed.revenue, max: order_completed.revenue, windows: [30d]}`,
    `{first: order_completed.revenue, last: any.device, windows: [30d, lifetime]}`. Values are in the property's own
    unit; an event that does not say the property has none. All but `mean` have a life-time.
    """

    count: Names = ()
    sum: Names = ()
    mean: Names = ()
    min: Names = ()
    max: Names = ()
    first: Names = ()
    last: Names = ()
    windows: Windows

    def features(self, words: Words) -> Iterator[Feature]:
        """`count_<event>_<window>`, `sum_<event>_<property>_<window>` and so on."""
        for text, window in self.windows:
            family = "totals" if window > 0 else "lifetime"
            if family == "lifetime" and self.mean:
                raise DefinitionError("`mean` has no life-time. Hint: use `sum` and `count`.")
            for name, kind in self.kinds(self.count, words):
                yield Feature(f"count_{name}_{text}", family, "count", name, kind, "", window)
            for stat in STATS[1:]:
                either = stat in ("first", "last")
                for name, kind, prop in self.properties(getattr(self, stat), words, numeric=not either):
                    listed = self.listed(kind, prop, words) if either else {}
                    yield Feature(f"{stat}_{name}_{prop}_{text}", family, stat, name, kind, prop, window, **listed)


@compiled_inside
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
            value = value_of(user, k, each, table)
            if value != MISSING:
                _add(user.tally, place(table.entries[place(each), OF_STREAM]), value)
    for rest in range(window, n_windows):
        _read_off(user, table, rest, user.n - user.past, out)


@compiled_inside
def _reset(user: User, table: Table) -> None:
    for code in range(len(user.counts)):
        user.counts[code] = 0
    for stream in range(len(table.sources)):
        for kept in range(PLACES):
            user.tally[stream, kept] = 0


@compiled_inside
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


@compiled_inside
def _read_off(user: User, table: Table, window: int, n_events: int, out: Floats) -> None:
    """Write a window's features, when `n_events` events of any kind were met."""
    for each in range(table.edges[window], table.edges[window + 1]):
        k = place(each)
        stat, column = table.features[k, STAT], place(table.features[k, COLUMN])
        if table.features[k, STREAM] < 0:
            code = ~table.features[k, STREAM]
            out[column] = user.counts[place(code)] if code > 0 else n_events
            continue
        stream = place(table.features[k, STREAM])
        n, value = user.tally[stream, PLACE[COUNT]], user.tally[stream, place(PLACE[stat])]
        factor = table.features[k, FACTOR] * (max(n, 1) if stat == MEAN else 1)
        put(out, column, MISSING if n == 0 and stat not in (COUNT, SUM) else value, factor)


def _source(feature: Feature, schema: StateSchema) -> Source | None:
    plain = feature.stat == "count" and not feature.kind.where and len(feature.kind.events) < 2
    return None if plain else of_property(feature, schema)


FAMILY = Family("totals", (Totals,), STATS, _source)
