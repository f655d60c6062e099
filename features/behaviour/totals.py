"""Totals: count, sum, mean, min, max, first and last over nested windows."""

from collections.abc import Iterator

from features.behaviour.compiled import Floats, compiled_inside, place
from features.behaviour.declarations import Listing, Windows
from features.behaviour.feature import Feature
from features.behaviour.schema import MISSING
from features.behaviour.table import (
    COLUMN,
    FACTOR,
    KIND,
    NO_SLOT,
    SLOT,
    SPAN,
    STAT,
    Family,
    Table,
    User,
    asked,
    end_of,
    first_of,
    of_property,
    put,
    value_at,
)
from features.behaviour.words import Names, Words
from features.errors import DefinitionError

STATS = ("count", "sum", "mean", "min", "max", "first", "last")
SUM, MEAN, MIN, MAX, FIRST = range(1, 6)


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
    """Events are as many as their kind has members in a window; values take a pass."""
    for stream in range(len(table.sources)):
        if table.sources[place(stream), SLOT] == NO_SLOT:
            kind, end = place(table.sources[place(stream), KIND]), end_of(user, stream, table)
            begin, _ = asked(stream, 0, table)
            _, until = asked(stream, len(table.windows) - 1, table)
            for each in range(begin, until):
                first = user.firsts[kind, place(table.features[place(each), SPAN])]
                out[place(table.features[place(each), COLUMN])] = end - first
        else:
            _of_values(user, stream, table, out)


@compiled_inside
def _of_values(user: User, stream: int, table: Table, out: Floats) -> None:
    """From the newest event back; a window's features are read off where it ends."""
    slot, high = table.sources[place(stream), SLOT], end_of(user, stream, table)
    n, total, least, most, oldest, newest = 0, 0, MISSING, MISSING, MISSING, MISSING
    for window in range(len(table.windows)):
        low = first_of(user, stream, window, table)
        for j in range(high - 1, low - 1, -1):
            value = value_at(user, user.members[place(j)], slot)
            if value == MISSING:
                continue
            least, most = min(value, least) if n else value, max(value, most)
            newest, oldest = newest if n else value, value
            n, total = n + 1, total + value
        high = low
        begin, until = asked(stream, window, table)
        for each in range(begin, until):
            k = place(each)
            stat, factor = table.features[k, STAT], table.features[k, FACTOR]
            if stat <= MEAN:
                value = total if n or stat == SUM else MISSING
                factor *= max(n, 1) if stat == MEAN else 1
            elif stat <= MAX:
                value = least if stat == MIN else most
            else:
                value = oldest if stat == FIRST else newest
            put(out, place(table.features[k, COLUMN]), value, factor)


FAMILY = Family("totals", (Totals,), STATS, of_property)
