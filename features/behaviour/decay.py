"""Decay: counts and sums in which an event weighs half as much after each half-life."""

from collections.abc import Iterator
from math import exp, log

import numpy as np

from features.behaviour.compiled import Floats, compiled_inside, place
from features.behaviour.declarations import Declaration
from features.behaviour.schema import MISSING
from features.behaviour.table import (
    COLUMN,
    FACTOR,
    OF_STREAM,
    OPTION,
    STREAM,
    Family,
    Feature,
    Table,
    User,
    of_property,
    value_of,
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
    """One pass from the oldest event on: weighed values are added in this order everywhere, to the same last bit."""
    if len(table.features) == 0:
        return
    sums = user.tally.view(np.float64)
    for stream in range(len(table.sources)):
        sums[stream, 0] = 0.0
    for k in range(user.past, user.n):
        code = place(user.codes[place(k)])
        half_life, weight = 0, 0.0
        for each in range(table.places[code], table.places[code + place(1)]):
            value = value_of(user, k, each, table)
            if value == MISSING:
                continue
            stream = place(table.entries[place(each), OF_STREAM])
            if table.sources[stream, OPTION] != half_life:
                half_life = table.sources[stream, OPTION]
                weight = exp(-LN_2 * (at - user.ts[place(k)]) / half_life)
            sums[stream, 0] += value * weight
    for each in range(len(table.features)):
        out[table.features[each, COLUMN]] = sums[table.features[each, STREAM], 0] / table.features[each, FACTOR]


FAMILY = Family("decay", (Decay,), STATS, of_property)
