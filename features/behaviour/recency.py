"""Recency: how long ago something happened last; and RFM, its bundle with frequency and money."""

from collections.abc import Iterator

import numpy as np

from features.behaviour.compiled import Floats, compiled, place
from features.behaviour.declarations import Declaration, Names, Windows, event_of, property_of
from features.behaviour.table import COLUMN, STREAM, Family, Feature, Table, User, of_property
from features.errors import DefinitionError
from features.events.plan import TrackingPlan
from features.instants import SECOND

STATS = ("recency",)


class Recency(Declaration):
    """`{recency: [any, order_completed]}`: seconds since the last one within the horizon."""

    recency: Names

    def features(self, plan: TrackingPlan) -> Iterator[Feature]:
        """`recency_<event>_s`."""
        for name in self.recency:
            yield Feature(f"recency_{event_of(name, plan)}_s", "recency", "recency", name)


class RfmSpec(Declaration):
    """What is bought, the property that is its price, the window of frequency and money."""

    event: str
    money: str
    window: Windows

    def features(self, plan: TrackingPlan) -> Iterator[Feature]:
        """`recency_<event>_s`, `count_<event>_<window>`, `sum_<event>_<money>_<window>`."""
        event, prop = property_of(f"{self.event}.{self.money}", plan, numeric=True)
        yield Feature(f"recency_{event}_s", "recency", "recency", event)
        for text, window in self.window:
            if window < 0:
                raise DefinitionError("`rfm` needs a window such as 90d, not `lifetime`.")
            yield Feature(f"count_{event}_{text}", "totals", "count", event, "", window)
            yield Feature(f"sum_{event}_{prop}_{text}", "totals", "sum", event, prop, window)


class Rfm(Declaration):
    """`{rfm: {event: order_completed, money: revenue, window: 90d}}`."""

    rfm: RfmSpec

    def features(self, plan: TrackingPlan) -> Iterator[Feature]:
        """Recency, frequency and money."""
        return self.rfm.features(plan)


@compiled
def recency(user: User, at: int, table: Table, out: Floats) -> None:
    """Look back until every kind of event was met once; `tally` marks those that were."""
    met = 0
    for stream in range(len(table.sources)):
        user.tally[stream, 0] = -1
    for k in range(user.n - 1, user.past - 1, -1):
        code = place(user.codes[place(k)])
        for each in range(table.places[code], table.places[code + place(1)]):
            stream = place(table.streams[place(each)])
            if user.tally[stream, 0] < 0:
                user.tally[stream, 0] = at - user.ts[place(k)]
                met += 1
        if met == len(table.sources):
            break
    for k in range(len(table.features)):
        since = user.tally[table.features[k, STREAM], 0]
        out[table.features[k, COLUMN]] = since / SECOND if since >= 0 else np.nan


FAMILY = Family("recency", (Recency, Rfm), STATS, of_property)
