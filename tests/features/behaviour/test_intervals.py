"""Intervals: numpy's mean and variation, and none at all of what is perfectly regular."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.instants import DAY, SECOND, parse_instant
from tests.features.behaviour.shop import numbers

AT = parse_instant("2026-03-01")
ENTRY = {"mean_interval": "any", "interval_variation": "any", "windows": ["90d"]}


def found(intervals: list[int]) -> list[float]:
    instants = AT - np.cumsum([0, *intervals])
    return list(numbers(ENTRY, [("page_viewed", int(ts)) for ts in instants], AT, bound=1000).values())


@given(st.lists(st.integers(0, 3 * DAY), min_size=2, max_size=25))
def test_they_are_those_of_numpy(intervals: list[int]) -> None:
    mean, variation = found(intervals)
    assert mean == pytest.approx(np.mean(intervals) / SECOND)
    if sum(intervals):
        assert variation == pytest.approx(np.std(intervals) / np.mean(intervals), rel=1e-7, abs=1e-12)
    else:
        assert math.isnan(variation)


def test_what_is_regular_does_not_vary_and_one_interval_says_nothing_about_it() -> None:
    assert found([7 * DAY - 1] * 12)[1] == 0
    assert math.isnan(found([DAY])[1])
