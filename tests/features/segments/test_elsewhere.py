"""Audiences of other products as docs/segments-from-elsewhere.md writes them; members were worked out by hand."""

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from ruamel.yaml import YAML

from features.behaviour.feature_set import FeatureSet
from features.behaviour.histories import Histories
from features.errors import DefinitionError
from features.events.plan import Codes, TrackingPlan
from features.instants import DAY, HOUR, parse_instant
from features.segments.membership import Moments, States, Terms, fold
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
    assert len(WRITTEN) == PAGE.count("```yaml") == 28


@pytest.mark.parametrize(("text", "members"), WRITTEN)
def test_an_audience_has_the_members_that_were_worked_out_by_hand(text, members):
    made = SegmentSet.from_dict({"segments": {"s": YAML(typ="safe").load(text)}}, PLAN, CODES, FEATURES)
    schema = FEATURES.schema.union(made.schema)
    rows, rules, features = Histories.from_frame(schema, log()), made.on(schema), FEATURES.on(schema)
    inside = rules.evaluate(rows, NOW, features=features.compute(rows, NOW)).column("s")
    if made.segments[0].membership is not None:
        inside = folded(rows, rules, features)
    assert sorted(rows.users[inside].tolist()) == [name for name in members.split(", ") if name != "nobody"]


def folded(rows, rules, features):
    """Who is in as of now, of a membership that was applied ninety days ago and ever since."""
    n, begin = len(rows), NOW - 90 * DAY

    def judge(places, at):
        mine = rows.take(places)
        return rules.evaluate(mine, at, features=features.compute(mine, at), threads=1)

    moments = Moments.of(rows, rules.segments, begin, NOW, {})
    span = np.full(n, begin), np.full(n, NOW)
    states, _, _ = fold(States.new(n, 1), Terms.of(rules.segments), judge, moments, *span)
    return states.inside[:, 0]


@pytest.mark.parametrize(
    ("same", "told"),
    [
        (["product_id"], "`same` needs 'product_id'"),
        ([{"product_viewed": "product_id", "order_completed": "revenue"}], "same"),
    ],
)
def test_a_reference_between_properties_of_different_names_is_refused(same, told):
    steps = [{"event": "product_viewed"}, {"event": "order_completed"}]
    said = {"segments": {"s": {"when": {"sequence": {"same": same, "steps": steps}}}}}
    with pytest.raises(DefinitionError, match=told):
        SegmentSet.from_dict(said, PLAN, CODES, FEATURES)
