"""Proposals are YAML whatever events and features are called."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from experiments.inference import Estimate
from experiments.journeys import Cut
from experiments.proposals import flow, propose, text
from experiments.sequences import Trail
from experiments.signals import Signal, Split
from tests.training.shops import feature_set

LIFT = Estimate(1.0, 0.5, 1.5, 0.1, 0.001)


def signal(feature, split):
    return Signal(feature, 0.0, 0.0, 1.0, 1.0, {90: 4.0}, (), 0.1, 0.7, split, 0.25, 0.5, LIFT)


def test_what_is_proposed_is_read_back():
    signals = [
        signal("count_Order Completed_7d", Split(3.0, True, 0.25)),
        signal("recency_any_s", Split(490_000.0, False, 0.2)),
        signal("last_viewed_page_30d", Split(1.0, True, 0.2, "news: today")),
    ]
    trail = Trail(("page viewed", "off"), 0.3, 0.5, LIFT, 0.001)
    cut = Cut(34, 0.9, 90.0, np.array([[1.0, 0.1]]))
    found = propose(signals, [trail], cut, "Order Completed", feature_set())
    documents = {file: YAML(typ="safe").load(each) for file, each in text(found).items()}
    segments = documents["segments.yaml"]["segments"]
    assert segments["high_count_order_completed_7d"]["when"] == {"feature": {"count_Order Completed_7d": {"gte": 3}}}
    assert segments["low_recency_any_s"]["when"] == {"feature": {"recency_any_s": {"lt": 490_000}}}
    assert segments["last_viewed_page_30d_news_today"]["when"] == {"feature": {"last_viewed_page_30d": {"eq": 1}}}
    assert segments["dormant_order_completed"]["when"]["did_not"] == {"event": "Order Completed", "last": "34d"}
    assert segments["page_viewed_then_off"]["when"]["sequence"]["steps"][1] == {"event": "off", "immediately": True}
    assert segments["top_tenth_count_order_completed_7d"]["when"]["percentile"]["gte"] == 90
    assert documents["features.yaml"]["features"][1] == {"count": ["Order Completed"], "windows": ["34d"]}


def test_a_window_beyond_the_horizon_is_no_feature():
    cut = Cut(200, 0.9, 365.0, np.array([[1.0, 0.1]]))
    found = propose([], [], cut, "bought", feature_set())
    assert [each.text for each in found if each.file == "features.yaml"] == ["{recency: [bought]}"]


def test_nothing_found_is_nothing_proposed():
    assert text(propose([], [], None, None, feature_set())) == {}


letters = st.characters(categories=("L", "N", "P", "S", "Zs"))
values = st.floats(allow_nan=False, allow_infinity=False) | st.text(letters) | st.booleans()


@given(st.dictionaries(st.text(letters, min_size=1), values))
def test_any_names_survive_one_line_of_yaml(value):
    read = YAML(typ="safe").load(flow(value))
    numbers = {key: float(f"{each:.15g}") for key, each in value.items() if isinstance(each, float)}
    assert read == {**value, **numbers}
