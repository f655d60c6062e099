"""A small shop: the plan and the features that the behaviour tests share."""

from features.behaviour.feature_set import FeatureSet
from features.events.plan import Codes, TrackingPlan
from features.instants import DAY

PLAN = TrackingPlan.from_dict(
    {
        "events": {
            "page_viewed": {"properties": {"seconds": {"type": "number"}}},
            "product_viewed": {"properties": {"product_id": {"type": "category"}, "price": {"type": "money"}}},
            "order_completed": {"properties": {"revenue": {"type": "money"}, "gift": {"type": "flag"}}},
        }
    }
)
CODES = Codes.of(PLAN)

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
    {"rfm": {"event": "order_completed", "money": "revenue", "window": "20d"}},
]
SETTINGS = {"horizon": 20 * DAY, "bound": 6, "bounds": {"order_completed": 3}, "zone": "Europe/London"}
FEATURES = FeatureSet.from_dict({"features": DECLARED}, PLAN, CODES, **SETTINGS)
