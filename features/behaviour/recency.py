"""Recency: how long ago something happened last; and RFM, its bundle with frequency and money."""

from collections.abc import Iterator

import numpy as np

from features.behaviour.compiled import Floats, compiled_inside, place
from features.behaviour.declarations import Declaration, Spans
from features.behaviour.feature import Feature
from features.behaviour.table import COLUMN, STREAM, Family, Table, User, end_of, first_of, of_property
from features.behaviour.words import Names, Words
from features.instants import SECOND

STATS = ("recency",)


class Recency(Declaration):
    """`{recency: [any, order_completed]}`: within the horizon."""

    recency: Names

    def features(self, words: Words) -> Iterator[Feature]:
        """`recency_<event>_s`."""
        for name, kind in self.kinds(self.recency, words):
            yield Feature(f"recency_{name}_s", "recency", "recency", name, kind)


class RfmSpec(Declaration):
    """What is bought, the property that is its price, the window of frequency and money."""

    event: str
    money: str
    window: Spans

    def features(self, words: Words) -> Iterator[Feature]:
        """`recency_<event>_s`, `count_<event>_<window>`, `sum_<event>_<money>_<window>`."""
        event, prop = words.property(f"{self.event}.{self.money}", numeric=True)
        kind = words.kind(event)
        yield Feature(f"recency_{event}_s", "recency", "recency", event, kind)
        for text, window in self.window:
            yield Feature(f"count_{event}_{text}", "totals", "count", event, kind, "", window)
            yield Feature(f"sum_{event}_{prop}_{text}", "totals", "sum", event, kind, prop, window)


class Rfm(Declaration):
    """`{rfm: {event: order_completed, money: revenue, window: 90d}}`: recency, frequency and money in one entry."""

    rfm: RfmSpec

    def features(self, words: Words) -> Iterator[Feature]:
        """Recency, frequency and money."""
        return self.rfm.features(words)


@compiled_inside
def recency(user: User, at: int, table: Table, out: Floats) -> None:
    """A stream's newest event, where it is within the horizon."""
    for k in range(len(table.features)):
        stream = table.features[place(k), STREAM]
        newest, since = end_of(user, stream, table) - 1, np.nan
        if newest >= first_of(user, stream, 0, table):
            since = (at - user.ts[place(user.members[place(newest)])]) / SECOND
        out[place(table.features[place(k), COLUMN])] = since


FAMILY = Family("recency", (Recency, Rfm), STATS, of_property)
