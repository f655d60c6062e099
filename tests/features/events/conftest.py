"""A small plan that the tests of events share."""

import pytest

from features.events.plan import TrackingPlan

PLAN = {
    "version": 1,
    "events": {
        "page_view": {"properties": {"path": {"type": "text"}}},
        "product_viewed": {"properties": {"product_id": {"type": "category"}, "price": {"type": "money", "min": 0}}},
        "order_completed": {
            "properties": {
                "revenue": {"type": "money", "min": 0, "missing": "discard"},
                "country": {"type": "category", "missing": "default", "default": "??"},
                "coupon": {"type": "text", "missing": "flag"},
                "gift": {"type": "flag"},
                "phone": {"type": "text", "personal": "drop"},
            }
        },
    },
    "traits": {
        "email": {"type": "text", "personal": "pseudonymise"},
        "plan": {"type": "category", "allowed": ["free", "paid"]},
    },
    "addresses": ["10.0.0.0/8", "2001:db8::/32"],
}


@pytest.fixture
def plan() -> TrackingPlan:
    """Three events and two traits."""
    return TrackingPlan.from_dict(PLAN)


@pytest.fixture
def key() -> bytes:
    """The project's secret."""
    return b"a test key"
