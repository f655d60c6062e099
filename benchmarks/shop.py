"""A shop's events for benchmarks: made by numpy, seeded, in any number."""

from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl

from features.behaviour.feature_set import FeatureSet
from features.behaviour.histories import Histories
from features.events.plan import Codes, TrackingPlan
from features.instants import DAY, HOUR, MINUTE, parse_instant

AT = parse_instant("2026-06-01T12:00:00")
WINDOWS = {"1d": DAY, "7d": 7 * DAY, "30d": 30 * DAY, "90d": 90 * DAY}
EVENTS = ("page_viewed", "product_viewed", "product_added", "order_completed")
SHARES = (0.55, 0.30, 0.10, 0.05)
PRODUCTS = 2000
BLOCK = 2_000_000

PLAN = TrackingPlan.from_dict(
    {
        "events": {
            "page_viewed": {},
            "product_viewed": {"properties": {"product_id": {"type": "category"}}},
            "product_added": {"properties": {"product_id": {"type": "category"}}},
            "order_completed": {"properties": {"revenue": {"type": "money"}}},
        },
        "too_fast": None,
    }
)
DECLARED: list[dict[str, Any]] = [
    {"count": ["any", *EVENTS], "windows": list(WINDOWS)},
    dict.fromkeys(("sum", "mean", "min", "max"), "order_completed.revenue") | {"windows": list(WINDOWS)},
    {"distinct": "product_viewed.product_id", "active_days": "any", "windows": list(WINDOWS)},
    {"recency": ["any", "product_viewed", "order_completed"]},
    {"sessions": {"gap": "30m"}, "windows": list(WINDOWS)},
]


ALL = list(WINDOWS)
LONG = ["30d", "90d"]
MONEY, VIEWED = "order_completed.revenue", "product_viewed.product_id"
PAIRS = [EVENTS[:2], EVENTS[1:3], EVENTS[2:], ("page_viewed", "page_viewed")]
BANDS = {"night": [0, 6], "morning": [6, 12], "afternoon": [12, 18], "evening": [18, 24]}
EXPRESSED: list[dict[str, Any]] = [
    dict.fromkeys(("std", "median", "first", "last"), MONEY) | {"windows": ALL},
    {"count": ["any", "order_completed"], "sum": MONEY, "windows": ["lifetime"]},
    {"tenure": "any"},
    {"distinct": "product_added.product_id", "active_days": "order_completed", "windows": ALL},
    {"weekdays": "any", "windows": LONG},
    {"hours": "any", "bands": BANDS, "windows": LONG},
    {"mean_interval": "any", "dwell": "any", "mean_dwell": "any", "windows": ALL},
    {"decayed_count": "any", "decayed_sum": MONEY, "half_life": "7d"},
    {"ngrams": PAIRS, "windows": ALL},
    {"sessions": {"gap": "2h", "pauses": True}, "as": "long", "windows": ALL},
]
"""What the rivals are asked for beside DECLARED, but for the pauses."""
ADDED_OR_BOUGHT = {"added": "product_added", "bought": "order_completed"}
OURS: list[dict[str, Any]] = [
    {"in_session": {"count": EVENTS[1:3], "distinct": VIEWED}, "windows": ALL},
    {"current_session": {"count": ["any", "product_viewed"]}},
    {"mode": VIEWED, "values": ["product-1", "product-2"], "windows": ALL},
    {"share": VIEWED, "values": ["product-1", "product-2"], "windows": ALL},
    {"top_share": VIEWED, "k": 3, "windows": ALL},
    {"count": "order_completed", "where": {"revenue": {"gte": 100}}, "as": "dear", "windows": ALL},
    {"transitions": EVENTS, "windows": LONG},
    {"entropy": EVENTS, "windows": ALL},
    {"patterns": PAIRS, "has_patterns": PAIRS[:2], "windows": ALL},
    {"funnel": EVENTS, "within": "1d", "windows": ALL},
    {"interval_variation": "any", "longest_streak": "any", "windows": ALL},
    {"streak": "any"},
    {"rage_clicks": VIEWED, "clicks": 3, "within": "10s", "windows": ALL},
    {"dead_clicks": "any", "within": "10s", "windows": ALL},
    {"abandoned_carts": ADDED_OR_BOUGHT, "windows": ALL},
    {"trend": ["any", "order_completed"]},
]
WIDE = [*DECLARED, *EXPRESSED, *OURS]
"""Every family."""


def feature_set(declared: list[dict[str, Any]] = DECLARED) -> FeatureSet:
    """What all engines compute; nothing reaches the bound."""
    return FeatureSet.from_dict({"features": declared}, PLAN, Codes.of(PLAN), bound=1_000_000)


def events(n_events: int, n_users: int, *, seed: int = 7) -> pl.DataFrame:
    """Events of users in bursts over 120 days, sorted by (user, ts); users differ widely in how much they do.

    Returns:
        Columns user (number), event, ts, id, product_id, revenue.
    """
    random = np.random.default_rng(seed)
    weights = random.gamma(1.5, size=n_users)
    user = np.sort(random.choice(n_users, n_events, p=weights / weights.sum()).astype(np.uint32))
    visit = random.integers(0, 25, n_events)
    start = AT + HOUR - (120 * DAY * random.random((n_users, 25))).astype(np.int64)
    ts = start[user, visit] + random.integers(0, 40 * MINUTE, n_events)
    ts = ts[np.lexsort((ts, user))]
    kind = random.choice(len(EVENTS), n_events, p=SHARES).astype(np.uint8)
    product = np.where((kind == 1) | (kind == 2), random.integers(0, PRODUCTS, n_events), -1)
    cents = np.where(kind == 3, random.integers(100, 20_000, n_events), -1)
    return pl.DataFrame(
        {
            "user": user,
            "event": pl.Series(kind).replace_strict(dict(enumerate(EVENTS)), return_dtype=pl.Enum(EVENTS)),
            "ts": ts,
            "id": random.integers(-(2**62), 2**62, n_events),
            "product_id": pl.Series(product).replace(-1, None).cast(pl.Int16),
            "revenue": pl.Series(cents).replace(-1, None) / 100,
        }
    )


def log_frame(frame: pl.DataFrame) -> pl.DataFrame:
    """The same events as a log frame."""
    return frame.select(
        pl.format("user-{}", pl.col("user").cast(pl.String).str.zfill(8)).alias("user"),
        pl.col("event").cast(pl.String),
        "ts",
        pl.col("ts").alias("received"),
        pl.col("ts").alias("known"),
        pl.lit(None, pl.Int64).alias("until"),
        "id",
        pl.lit(0, pl.Int64).alias("seq"),
        pl.lit(0, pl.Int16).alias("offset"),
        pl.lit(None, pl.Int8).alias("consent"),
        pl.lit(None, pl.String).alias("mark"),
        pl.format("product-{}", "product_id").alias("p_product_id"),
        pl.col("revenue").alias("p_revenue"),
    )


def histories(frame: pl.DataFrame, features: FeatureSet) -> Histories:
    """The events in slots, made block by block of whole users to save memory."""
    users = frame["user"].to_numpy()
    cuts = [0, *np.searchsorted(users, users[BLOCK::BLOCK]).tolist(), len(users)]
    parts = [Histories.from_frame(features.schema, log_frame(frame[low:high])) for low, high in pairwise(cuts)]
    offsets = np.cumsum([0, *[part.n_records for part in parts[:-1]]])
    return Histories(
        features.schema,
        np.concatenate([part.users for part in parts]),
        np.concatenate([part.slots for part in parts]),
        np.concatenate([part.starts + offset for part, offset in zip(parts, offsets, strict=True)]),
        np.concatenate([part.ends + offset for part, offset in zip(parts, offsets, strict=True)]),
        settled=all(part.settled for part in parts),
    )
