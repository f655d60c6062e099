"""Recency: how long ago something happened last; and RFM, its bundle with frequency and money."""

from collections.abc import Iterator

import numpy as np

from features.behaviour.compiled import Floats, compiled_inside, place
from features.behaviour.declarations import Declaration, Spans
from features.behaviour.table import COLUMN, OF_STREAM, STREAM, Family, Feature, Table, User, enters, of_property
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
    """Look back until every kind of event was met once; `tally` marks those that were."""
    met = 0
    for stream in range(len(table.sources)):
        user.tally[stream, 0] = -1
    for k in range(user.n - 1, user.past - 1, -1):
        code = place(user.codes[place(k)])
        for each in range(table.places[code], table.places[code + place(1)]):
            stream = place(table.entries[place(each), OF_STREAM])
            if user.tally[stream, 0] < 0 and enters(user, k, each, table):
                user.tally[stream, 0] = at - user.ts[place(k)]
                met += 1
        if met == len(table.sources):
            break
    for k in range(len(table.features)):
        since = user.tally[table.features[k, STREAM], 0]
        out[table.features[k, COLUMN]] = since / SECOND if since >= 0 else np.nan


FAMILY = Family("recency", (Recency, Rfm), STATS, of_property)
