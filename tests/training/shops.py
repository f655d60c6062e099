"""Small hand-made logs: every event is written down, so that every label is known by hand."""

import polars as pl

from features.behaviour.feature_set import FeatureSet
from features.behaviour.histories import Histories
from features.events.plan import Codes, TrackingPlan
from features.instants import DAY, parse_instant

PLAN = TrackingPlan.from_dict(
    {
        "events": {
            "viewed": {"properties": {"page": {"type": "category"}}},
            "bought": {"properties": {"revenue": {"type": "money"}}},
        }
    }
)
CODES = Codes.of(PLAN)
START = parse_instant("2026-01-05")
FEATURES = {"version": 1, "features": [{"count": ["viewed", "bought"], "windows": ["7d", "30d"]}, {"recency": ["any"]}]}


def day(number, hour=0.0):
    """Midnight of a day of the log, or some hours later."""
    return START + int(number * DAY + hour * DAY / 24)


def feature_set(data=None):
    return FeatureSet.from_dict(data or FEATURES, PLAN, CODES)


def frame(events):
    """A log frame from (user, event, ts[, options]); known = ts unless given."""
    rows = [
        {
            "user": user,
            "event": event,
            "ts": ts,
            "received": more.get("known", ts),
            "known": more.get("known", ts),
            "until": more.get("until"),
            "id": more.get("id", place + 1),
            "seq": more.get("seq", place),
            "offset": 0,
            "consent": more.get("consent"),
            "device": None,
            "mark": more.get("mark"),
            "p_revenue": more.get("revenue"),
            "p_page": more.get("page"),
        }
        for place, (user, event, ts, more) in enumerate((*each, {})[:4] for each in events)
    ]
    schema = {"until": pl.Int64, "consent": pl.Int8, "mark": pl.String, "p_revenue": pl.Float64, "p_page": pl.String}
    return pl.DataFrame(rows, schema_overrides=schema)


class HandLog:
    """A log in memory, in as many buckets as asked."""

    def __init__(self, events, n_buckets=1):
        self.frame, self.n_buckets = frame(events), n_buckets

    def span(self):
        return self.frame["ts"].min(), self.frame["ts"].max()

    def histories_by_bucket(self, schema):
        users = sorted(set(self.frame["user"].to_list()))
        for bucket in range(self.n_buckets):
            yield Histories.from_frame(schema, self.frame.filter(pl.col("user").is_in(users[bucket :: self.n_buckets])))


def histories(events, features):
    return Histories.from_frame(features.schema, frame(events))
