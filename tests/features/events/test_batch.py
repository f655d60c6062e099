"""Batches: the Python door, from pandas and back."""

import pandas as pd
import polars as pl
import pytest

from features.errors import SourceError
from features.events.batch import EventBatch
from features.events.cleaning import clean
from features.instants import parse_instant


def test_a_pandas_frame_becomes_events_and_goes_back(plan, key):
    frame = pd.DataFrame(
        {
            "who": [1.0, 2.0, 3.0],
            "what": ["product_viewed", "order_completed", "order_completed"],
            "when": pd.to_datetime(["2026-07-01 10:00", "2026-07-01 11:00", "2026-07-01 12:00"]),
            "price": [2.5, None, None],
            "revenue": ["7", "many", "9"],
            "colour": ["red", None, None],
        }
    )
    batch = EventBatch.from_pandas(frame, plan, user="who", event="what", ts="when", zone="Europe/London")
    cleaned = clean(batch, plan, key=key)
    assert cleaned.batch.frame["user_id"].to_list() == ["1", "3"]
    assert cleaned.batch.frame["ts"][0] == parse_instant("2026-07-01T09:00:00Z")
    assert cleaned.quarantine.select("reason", "row").rows() == [("bad_value", 1)]
    assert cleaned.report.undeclared == {"colour": 1, "revenue": 1}  # a product_viewed carries no revenue
    back = batch.to_pandas()
    assert back["ts"].dt.tz is not None
    assert back["p_price"][0] == 2.5


def test_a_frame_without_a_column_says_which(plan):
    with pytest.raises(SourceError, match="no column 'ts'"):
        EventBatch.from_pandas(pd.DataFrame({"user_id": ["u"], "event": ["page_view"]}), plan)
    with pytest.raises(SourceError, match=r"unknown column 'price'. Hint: did you mean 'p_price'"):
        EventBatch(pl.DataFrame({"price": [1.0]}), plan)


def test_batches_of_one_plan_add_up(plan):
    one = EventBatch(pl.DataFrame({"event": ["page_view"]}), plan, undeclared={"x": 1})
    other = EventBatch(pl.DataFrame({"event": ["identify"], "p_price": [1.0]}), plan, undeclared={"x": 2})
    both = EventBatch.concat([one, other])
    assert (len(both), both.properties, both.undeclared) == (2, ["price"], {"x": 3})
    assert len(EventBatch.empty(plan)) == 0
