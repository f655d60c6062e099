"""Event ids: histories hold the id alone, so the id holds the source."""

import polars as pl

from features.behaviour.feature_set import FeatureSet
from features.behaviour.histories import Histories
from features.events.batch import EventBatch
from features.events.cleaning import clean
from features.events.plan import Codes, TrackingPlan

PLAN = TrackingPlan.from_dict({"events": {"page_viewed": {}}})
NOON = 1_780_000_000_000_000


def test_one_message_id_from_two_sources_is_two_events_of_a_person() -> None:
    rows = {"user_id": "ann", "event": "page_viewed", "ts": NOON, "message_id": "7", "received": NOON}
    frame = pl.DataFrame([{**rows, "source": source} for source in ("web", "shop", "web")])
    cleaned = clean(EventBatch(frame, PLAN), PLAN, key=b"key").batch.frame
    features = FeatureSet.from_dict({"features": [{"count": "any", "windows": ["1d"]}]}, PLAN, Codes.of(PLAN))
    log = cleaned.with_columns(user=pl.col("user_id"), known=pl.col("received"))
    matrix = features.compute(Histories.from_frame(features.schema, log), NOON)
    assert matrix.values.tolist() == [[2.0]]
