"""Standard deviation and median: numpy's, whatever the values look like."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.behaviour.feature_set import FeatureSet
from features.behaviour.histories import Histories
from features.instants import DAY, SECOND, parse_instant
from tests.features.behaviour.shop import CODES, PLAN, log_frame

AT = parse_instant("2026-03-01")
ENTRY = {"std": "order_completed.revenue", "median": "order_completed.revenue", "windows": ["1d"]}
FEATURES = FeatureSet.from_dict({"features": [ENTRY]}, PLAN, CODES)


def computed(cents: list[int]) -> np.ndarray:
    log = [
        {"event": "order_completed", "ts": AT - k * SECOND, "properties": {"revenue": value / 100}}
        for k, value in enumerate(cents)
    ]
    return FEATURES.compute(Histories.from_frame(FEATURES.schema, log_frame(log)), AT).values[0]


@given(st.lists(st.integers(-10_000_000, 10_000_000), min_size=1, max_size=40), st.integers(-(10**12), 10**12))
def test_they_are_those_of_numpy_far_from_zero_too(cents: list[int], offset: int) -> None:
    std, median = computed([value + offset for value in cents])
    assert std == pytest.approx(np.std(np.array(cents) / 100), rel=1e-9, abs=1e-9)
    assert median == pytest.approx(np.median(np.array(cents) + offset) / 100, rel=1e-14)


def test_equal_values_do_not_spread_and_an_outlier_in_front_costs_no_digits() -> None:
    assert computed([123456789] * 7)[0] == 0
    assert computed([100_000_000] + [0] * 99)[0] == pytest.approx(1e6 * np.sqrt(0.0099), rel=1e-13)
    assert np.isnan(FEATURES.compute(Histories.from_states(FEATURES.schema, ["ann"], [b""]), AT + DAY).values).all()
