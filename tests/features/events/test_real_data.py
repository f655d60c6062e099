"""Real public data, found through ETHOGRAM_DATA: counts that are published or were counted otherwise."""

import gzip
import os
import re
from pathlib import Path

import polars as pl
import pytest

from features.events.bots import declared
from features.events.log import EventLog
from features.events.mapping import Mapping
from features.events.plan import TrackingPlan

DATA = Path(os.environ.get("ETHOGRAM_DATA", "data"))
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="real data: set ETHOGRAM_DATA to its folder")
pytestmark = [pytest.mark.integration, needs_data]


def test_online_retail_gives_its_published_rows_and_customers(tmp_path):
    money = {"type": "money", "scale": 1000}
    bought = {"quantity": {"type": "number", "min": 1}, "price": {**money, "min": 0.001}, "revenue": money}
    cancelled = {"quantity": {"type": "number"}, "price": money, "revenue": money}
    events = {"line_bought": {"properties": bought}, "order_cancelled": {"properties": cancelled}}
    mapping = {
        "source": "online_retail",
        "user_id": {"column": "CustomerID", "as": "whole"},
        "ts": {"column": "InvoiceDate", "format": "%Y-%m-%d %H:%M:%S", "zone": "Europe/London"},
        "event": {
            "rules": [{"when": {"column": "InvoiceNo", "starts_with": "C"}, "event": "order_cancelled"}],
            "otherwise": "line_bought",
        },
        "properties": {"quantity": "Quantity", "price": "UnitPrice", "revenue": {"product": ["Quantity", "UnitPrice"]}},
    }
    log = EventLog(tmp_path, TrackingPlan.from_dict({"events": events}), key=b"k")
    report = log.ingest(DATA / "online_retail/online_retail.csv.gz", mapping=Mapping.from_dict(mapping))
    assert report.rows == 541_909
    assert report.quarantined == {"no_user": 135_080, "out_of_range": 40}
    bought_lines = log.frame().filter(pl.col("event") == "line_bought")
    assert (bought_lines.height, bought_lines["user"].n_unique()) == (397_884, 4_338)
    assert bought_lines["mark"].null_count() == 397_884
    merged = Mapping.from_dict({**mapping, "duplicates": True})
    again = log.ingest(DATA / "online_retail/online_retail.csv.gz", mapping=merged)
    assert again.duplicates + again.accepted == 397_884 + 8_905
    assert again.duplicates > 5_000


def test_rees46_quarantines_the_line_that_is_cut_off(tmp_path):
    properties = {"product_id": {"type": "category"}, "price": {"type": "money"}}
    plan = TrackingPlan.from_dict(
        {"events": {name: {"properties": properties} for name in ("view", "cart", "purchase")}}
    )
    mapping = {"user_id": "user_id", "ts": "event_time", "event": "event_type", "properties": {"price": "price"}}
    log = EventLog(tmp_path, plan, key=b"k")
    report = log.ingest(DATA / "rees46_sample/2019-Oct.csv.gz", mapping=Mapping.from_dict(mapping))
    assert (report.rows, report.accepted, dict(report.quarantined)) == (17_435, 17_434, {"bad_row": 1})


def test_a_fifth_of_the_web_log_says_that_it_is_a_bot():
    with gzip.open(DATA / "web_logs/apache_access.log.gz", "rt", encoding="utf-8", errors="replace") as file:
        lines = [
            re.fullmatch(r'\S+ \S+ \S+ \[[^]]+\] "[^"]*" \d+ \S+ "[^"]*" "([^"]*)"', line.rstrip("\n")) for line in file
        ]
    agents = pl.Series([match[1] for match in lines if match])
    assert len(agents) == 9_999
    assert abs(int(declared(agents).sum()) - 1_955) <= 20  # the list grows
