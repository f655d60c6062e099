"""Decay: an event is worth half after each half-life."""

import numpy as np
import pytest

from features.instants import DAY, parse_instant
from tests.features.behaviour.shop import numbers

AT = parse_instant("2026-03-01")
ENTRY = {"decayed_count": "any", "decayed_sum": "order_completed.revenue", "half_life": "7d"}


def test_what_is_a_half_life_old_weighs_a_half() -> None:
    log = [("order_completed", AT - weeks * 7 * DAY, {"revenue": 10.0}) for weeks in range(4)]
    count, total = numbers(ENTRY, log, AT).values()
    assert (count, total) == pytest.approx((1.875, 18.75), rel=1e-15)


def test_it_is_the_exponentially_weighted_sum() -> None:
    ages = np.random.default_rng(5).integers(0, 80 * DAY, 200)
    log = [("page_viewed", AT - int(age)) for age in ages]
    assert next(iter(numbers(ENTRY, log, AT).values())) == pytest.approx((0.5 ** (ages / (7 * DAY))).sum(), rel=1e-12)
