"""A small shop: the plan and the features that the behaviour tests share."""

import polars as pl

from features.behaviour.feature_set import FeatureSet
from features.behaviour.histories import Histories
from features.events.plan import Codes, TrackingPlan
from features.instants import DAY

PLAN = TrackingPlan.from_dict(
    {
        "events": {
            "page_viewed": {"properties": {"seconds": {"type": "number"}}},
            "product_viewed": {
                "properties": {
                    "product_id": {"type": "category"},
                    "price": {"type": "money"},
                    "pieces": {"type": "number", "scale": 10},
                }
            },
            "order_completed": {"properties": {"revenue": {"type": "money"}, "gift": {"type": "flag"}}},
        },
        "traits": {"country": {"type": "category"}, "vip": {"type": "flag"}},
    }
)
CODES = Codes.of(PLAN)

INPUTS = [{"count": ["product_viewed", "order_completed"], "sum": "order_completed.revenue", "windows": ["2d"]}]
DECLARED = [
    {"count": ["any", "page_viewed", "order_completed"], "windows": ["1h", "1d", "7d", "20d", "lifetime"]},
    {"sum": "order_completed.revenue", "windows": ["1d", "7d", "20d", "lifetime"]},
    {"mean": ["order_completed.revenue", "any.price"], "windows": ["7d", "20d"]},
    {"min": "order_completed.revenue", "max": "product_viewed.price", "windows": ["2d", "20d", "lifetime"]},
    {"first": "product_viewed.price", "last": "order_completed.revenue", "windows": ["7d", "20d", "lifetime"]},
    {"distinct": ["product_viewed.product_id", "any.price"], "windows": ["1d", "7d", "20d"]},
    {"active_days": ["any", "order_completed"], "windows": ["7d", "20d"]},
    {"recency": ["any", "order_completed"]},
    {"tenure": ["any", "order_completed"]},
    {"sessions": {"gap": "30m"}, "windows": ["1d", "7d", "20d"]},
    {"sessions": {"gap": "2h", "pauses": True}, "as": "long", "windows": ["2d", "20d"]},
    {
        "in_session": {"count": ["any", "looked"], "distinct": ["any.product_id", "looked_at.product_id"]},
        "windows": ["1d", "20d"],
    },
    {"in_session": {"gap": "2h", "count": "dear", "distinct": ["dear.price"]}, "as": "long", "windows": ["20d"]},
    {"current_session": {"count": ["any", "dear"], "distinct": "product_viewed.price"}},
    {"current_session": {"gap": "2h", "count": ["looked"]}, "as": "long"},
    {"dwell": ["any", "dear"], "mean_dwell": "page_viewed", "windows": ["1h", "7d"]},
    {"mean_dwell": "page_viewed", "where": {"seconds": {"gt": 50}}, "as": "read", "gap": "2h", "windows": ["20d"]},
    {"rfm": {"event": "order_completed", "money": "revenue", "window": "20d"}},
    {"count": ["dear", "looked", "not_b", "unpriced"], "windows": ["1d", "20d", "lifetime"]},
    {"sum": ["dear.price", "gift.revenue"], "windows": ["7d"]},
    {"distinct": "not_b.price", "active_days": "looked", "windows": ["7d"]},
    {"recency": ["dear", "gift"]},
    {"tenure": "not_b"},
    {"count": "product_viewed", "where": {"product_id": {"contains": "b"}}, "as": "b_viewed", "windows": ["7d"]},
    {"max": "product_viewed.price", "where": {"product_id": "a", "price": {"gt": 0.5}}, "as": "a", "windows": ["20d"]},
    {"std": ["order_completed.revenue", "any.price"], "windows": ["1d", "7d", "20d"]},
    {"first": "product_viewed.product_id", "values": ["b", "a"], "windows": ["7d", "lifetime"]},
    {"last": ["looked_at.product_id"], "values": ["a"], "windows": ["1d", "20d", "lifetime"]},
    {"mode": ["any.product_id"], "values": ["c", "a"], "windows": ["1d", "7d", "20d"]},
    {"mode": ["page_viewed.seconds", "order_completed.gift"], "windows": ["20d"]},
    {"top_share": ["any.product_id", "page_viewed.seconds"], "k": 2, "windows": ["1d", "7d", "20d"]},
    {"share": ["any.product_id", "dear.product_id"], "values": ["a", "c"], "windows": ["1d", "20d"]},
    {"share": "order_completed.gift", "values": [True], "windows": ["20d"]},
    {"median": ["order_completed.revenue", "dear.price"], "windows": ["1d", "7d", "20d"]},
    {"last": "any.device", "values": ["mobile", "desktop"], "windows": ["1d", "20d", "lifetime"]},
    {"share": "order_completed.device", "values": ["mobile"], "windows": ["20d"]},
    {"count": "product_viewed", "where": {"device": {"ne": "mobile"}}, "as": "at_desk", "windows": ["7d"]},
    {"trait": "country", "values": ["de"]},
    {"trait": ["vip"]},
    {"ratio": {"of": "count_order_completed_2d", "by": "count_product_viewed_2d"}, "as": "conversion"},
    {"difference": {"of": "recency_any_s", "minus": "tenure_any_s"}, "as": "quiet"},
    {"score": {"weights": {"conversion": 2, "count_any_7d": 0.1, "quiet": -1e-6}}, "as": "engagement"},
    {"trend": ["any", "dear"]},
    {
        "rfm_score": {
            "event": "order_completed",
            "money": "revenue",
            "window": "2d",
            "cuts": {"r": [3600, 86400, 864000], "f": [0, 0, 1], "m": [0.5, 5, 20]},
        }
    },
    {"transitions": ["page_viewed", "product_viewed", "order_completed"], "alpha": 0.5, "windows": ["1d", "20d"]},
    {"transitions": ["dear", "looked", "any"], "gap": "2h", "alpha": 0, "windows": ["7d"]},
    {"moves": ["looked", "dear", "order_completed"], "windows": ["1d", "20d"]},
    {"entropy": ["dear", "product_viewed", "page_viewed"], "windows": ["1d", "20d"]},
    {"entropy": ["looked", "gift"], "as": "gifts", "gap": "2h", "windows": ["7d"]},
    {
        "ngrams": [["looked", "order_completed"], ["dear", "looked", "any"], ["any", "any"]],
        "patterns": [["page_viewed", "product_viewed", "order_completed"], ["looked", "dear"], ["any", "gift", "any"]],
        "has_patterns": [["looked", "looked", "looked"]],
        "windows": ["1d", "20d"],
    },
    {"ngrams": [["any", "dear"]], "patterns": [["any", "any", "any"]], "gap": "2h", "as": "long", "windows": ["7d"]},
    {"funnel": ["page_viewed", "product_viewed", "order_completed"], "within": "1h", "windows": ["1d", "7d", "20d"]},
    {"funnel": ["looked", "any", "dear", "order_completed"], "within": "1d", "as": "long", "windows": ["7d"]},
    {"hours": ["any", "dear"], "bands": {"night": [22, 6], "noon": [11, 14], "all": [0, 24]}, "windows": ["1d", "20d"]},
    {"hours": "order_completed", "weekdays": ["any", "looked"], "windows": ["7d"]},
    {"mean_interval": ["any", "dear"], "interval_variation": ["any", "looked"], "windows": ["1d", "20d"]},
    {"streak": ["any", "order_completed"], "longest_streak": ["any", "looked"], "windows": ["7d", "20d"]},
    {"decayed_count": ["any", "dear"], "decayed_sum": "order_completed.revenue", "half_life": "1d"},
    {"decayed_count": ["any", "looked"], "half_life": "7d"},
    {"rage_clicks": "any.product_id", "clicks": 2, "within": "1h", "windows": ["1d", "20d"]},
    {"rage_clicks": "dear.price", "clicks": 3, "within": "20d", "windows": ["7d"]},
    {"dead_clicks": "any", "within": "1h", "windows": ["1d", "7d", "20d"]},
    {"dead_clicks": "dear", "within": "1d", "windows": ["20d"]},
    {"abandoned_carts": {"added": "product_viewed", "bought": "order_completed"}, "windows": ["1d", "7d", "20d"]},
    {"abandoned_carts": {"added": "dear", "bought": "any", "within": "1h"}, "as": "dear", "windows": ["7d"]},
    {
        "cart_value": {
            "added": "dear",
            "removed": "cheap",
            "bought": "order_completed",
            "price": "price",
            "quantity": "pieces",
        }
    },
    {"cart_value": {"added": "any", "bought": "identify", "price": "price"}, "as": "plain"},
]
KINDS = {
    "cheap": {"event": "product_viewed", "where": {"price": {"lt": 7}}},
    "dear": {"event": "product_viewed", "where": {"price": {"gte": 5.01}}},
    "looked": {"event": ["page_viewed", "product_viewed"]},
    "not_b": {"event": "any", "where": {"product_id": {"ne": "b"}}},
    "looked_at": {"event": "product_viewed", "where": {"product_id": {"in": ["a", "b"]}}},
    "unpriced": {"event": "product_viewed", "where": {"price": {"exists": False}}},
    "gift": {"event": "order_completed", "where": {"gift": True, "revenue": {"between": [1, 15.5]}}},
}
SETTINGS = {"horizon": 28 * DAY, "bound": 6, "bounds": {"order_completed": 3}, "zone": "Europe/London"}
FEATURES = FeatureSet.from_dict({"events": KINDS, "inputs": INPUTS, "features": DECLARED}, PLAN, CODES, **SETTINGS)

COLUMNS = {
    "user": pl.String,
    "event": pl.String,
    "ts": pl.Int64,
    "received": pl.Int64,
    "known": pl.Int64,
    "until": pl.Int64,
    "id": pl.Int64,
    "seq": pl.Int64,
    "offset": pl.Int16,
    "consent": pl.Int8,
    "mark": pl.String,
    "device": pl.String,
    "p_seconds": pl.Float64,
    "p_product_id": pl.String,
    "p_price": pl.Float64,
    "p_pieces": pl.Float64,
    "p_revenue": pl.Float64,
    "p_gift": pl.Boolean,
    "p_country": pl.String,
    "p_vip": pl.Boolean,
}


def log_frame(events: list[dict]) -> pl.DataFrame:
    """A log frame; what an event does not say has its neutral value. Properties stand under `properties`."""
    rows = []
    for place, event in enumerate(events):
        neutral = {"user": "ann", "known": event["ts"], "id": place, "seq": 0, "offset": 0}
        given = event.get("properties", {}).items()
        properties = {name if name == "device" else f"p_{name}": value for name, value in given}
        rows.append({**neutral, **{k: v for k, v in event.items() if k in COLUMNS}, **properties})
    columns = {name: [row.get(name) for row in rows] for name in COLUMNS}
    return pl.DataFrame(columns, schema=COLUMNS)


def histories(events: list[dict], features: FeatureSet = FEATURES) -> Histories:
    """These events' histories."""
    return Histories.from_frame(features.schema, log_frame(events))


def numbers(entry: dict, log: list[tuple], at: int, *, kinds: dict = KINDS, **settings: object) -> dict[str, float]:
    """The features of one entry, by name, of one user's (event, ts) or (event, ts, properties)."""
    features = FeatureSet.from_dict({"events": kinds, "features": [entry]}, PLAN, CODES, **settings)
    events = [dict(zip(("event", "ts", "properties"), each, strict=False)) for each in log]
    matrix = features.compute(histories(events, features), at)
    return dict(zip(matrix.names, matrix.values[0].tolist(), strict=True))
