"""Audiences of other products as docs/segments-from-elsewhere.md writes them; members were worked out by hand."""

import re
from pathlib import Path

import polars as pl
import pytest
from ruamel.yaml import YAML

from features.behaviour.feature_set import FeatureSet
from features.behaviour.histories import Histories
from features.events.plan import Codes, TrackingPlan
from features.instants import DAY, HOUR, parse_instant
from features.segments.segment_set import SegmentSet

PAGE = (Path(__file__).parents[3] / "docs" / "segments-from-elsewhere.md").read_text(encoding="utf-8")
NOW = parse_instant("2026-06-30T12:00:00")
ROWS = re.findall(r"^\| (\w+) \| ([\d.]+) \| (\w+) \| (?:(\w+): (\w+) )?\|$", PAGE, re.MULTILINE)
WRITTEN = re.findall(r"```yaml\n(.*?)```\nMembers: (.*?)\.\n", PAGE, re.DOTALL)

ID = {"properties": {"product_id": {"type": "category"}}}
PLAN = TrackingPlan.from_dict(
    {
        "events": {
            "signed_up": {},
            "page_viewed": {},
            "product_viewed": ID,
            "product_added": ID,
            "order_completed": {"properties": {"revenue": {"type": "money"}}},
        },
        "traits": {"plan": {"type": "category"}},
    }
)
CODES = Codes.of(PLAN)
FEATURES = FeatureSet.from_dict(
    {"features": [{"active_days": "page_viewed", "windows": ["7d"]}]}, PLAN, CODES, horizon=100 * DAY
)


def log():
    rows = []
    for place, (user, hours, event, name, value) in enumerate(ROWS):
        ts = NOW - int(float(hours) * HOUR)
        rows.append(
            {"user": user, "event": event, "ts": ts, "known": ts, "until": None, "id": place, "seq": 0, "offset": 0}
        )
        rows[-1] |= {"p_product_id": None, "p_plan": None, "p_revenue": None}
        if name:
            rows[-1][f"p_{name}"] = float(value) if name == "revenue" else value
    return pl.DataFrame(rows, schema_overrides={"until": pl.Int64, "consent": pl.Int8}).with_columns(
        consent=pl.lit(None, pl.Int8), mark=pl.lit(None, pl.String), received=pl.col("ts")
    )


def test_the_page_has_them_all():
    assert len(ROWS) == 20
    assert len(WRITTEN) == PAGE.count("```yaml") == 20


@pytest.mark.parametrize(("text", "members"), WRITTEN)
def test_an_audience_has_the_members_that_were_worked_out_by_hand(text, members):
    made = SegmentSet.from_dict({"segments": {"s": YAML(typ="safe").load(text)}}, PLAN, CODES, FEATURES)
    schema = FEATURES.schema.union(made.schema)
    rows = Histories.from_frame(schema, log())
    truths = made.on(schema).evaluate(rows, NOW, features=FEATURES.on(schema).compute(rows, NOW))
    assert sorted(truths.users[truths.column("s")].tolist()) == members.split(", ")
