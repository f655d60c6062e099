"""Decay: counts and sums in which an event weighs half as much after each half-life."""

from collections.abc import Iterator
from math import exp, log

from features.behaviour.compiled import Floats, compiled_inside, place
from features.behaviour.declarations import Declaration
from features.behaviour.feature import Feature
from features.behaviour.schema import MISSING
from features.behaviour.table import (
    COLUMN,
    FACTOR,
    NO_SLOT,
    OPTION,
    SLOT,
    STREAM,
    Family,
    Table,
    User,
    end_of,
    first_of,
    of_property,
    value_at,
)
from features.behaviour.words import Names, Words
from features.document import Duration
from features.instants import format_duration

STATS = ("decayed_count", "decayed_sum")
LN_2 = log(2)


class Decay(Declaration):
    """`{decayed_count: [any, product_viewed], decayed_sum: order_completed.revenue, half_life: 7d}`."""

    decayed_count: Names = ()
    decayed_sum: Names = ()
    half_life: Duration

    def features(self, words: Words) -> Iterator[Feature]:
        """`decayed_count_<event>_<half-life>`, `decayed_sum_<event>_<property>_<half-life>`."""
        text = format_duration(self.half_life)
        for name, kind in self.kinds(self.decayed_count, words):
            yield Feature(f"{STATS[0]}_{name}_{text}", "decay", STATS[0], name, kind, option=self.half_life)
        for name, kind, prop in self.properties(self.decayed_sum, words, numeric=True):
            yield Feature(
                f"{STATS[1]}_{name}_{prop}_{text}", "decay", STATS[1], name, kind, prop, option=self.half_life
            )


@compiled_inside
def decay(user: User, at: int, table: Table, out: Floats) -> None:
    """A pass a stream, from the oldest event on: weighed values are added in this order everywhere, to the last bit."""
    for each in range(len(table.features)):
        k = place(each)
        stream, total = table.features[k, STREAM], 0.0
        slot, half_life = table.sources[place(stream), SLOT], table.sources[place(stream), OPTION]
        for j in range(first_of(user, stream, 0, table), end_of(user, stream, table)):
            event = user.members[place(j)]
            value = 1 if slot == NO_SLOT else value_at(user, event, slot)
            if value != MISSING:
                total += value * exp(-LN_2 * (at - user.ts[place(event)]) / half_life)
        out[place(table.features[k, COLUMN])] = total / table.features[k, FACTOR]


FAMILY = Family("decay", (Decay,), STATS, of_property)
