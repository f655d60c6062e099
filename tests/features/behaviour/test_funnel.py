"""Funnels: how far, where left, how long from step to step."""

import math

from features.instants import DAY, HOUR, MINUTE, parse_instant
from tests.features.behaviour.shop import numbers

AT = parse_instant("2026-03-01T12:00:00")
PAGE, PRODUCT, ORDER = "page_viewed", "product_viewed", "order_completed"
ENTRY = {"funnel": [PAGE, PRODUCT, ORDER], "within": "2h", "as": "buying", "windows": ["1d", "20d"]}


def found(log: list[tuple], at: int = AT) -> tuple[float, ...]:
    values = numbers(ENTRY, log, at)
    names = ("furthest_buying_20d", "dropoff_buying_20d", "step_2_s_buying_20d", "step_3_s_buying_20d")
    return tuple(values[f"funnel_{name}"] for name in (*names, "since_incomplete_buying_s"))


def same(one: tuple[float, ...], *other: float) -> bool:
    return all(a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(one, other, strict=True))


NAN = math.nan


def test_the_steps_come_in_order_within_the_time_with_anything_between() -> None:
    day = AT - DAY
    all_three = [(PAGE, day), (PAGE, day + MINUTE), (PRODUCT, day + HOUR), (ORDER, day + HOUR + MINUTE)]
    assert same(found(all_three), 3, NAN, 59 * 60, 60, NAN)
    assert same(found([(ORDER, day), (PRODUCT, day), (PAGE, day)]), 1, 2, NAN, NAN, 24 * 3600)
    assert same(found([(PRODUCT, day), (ORDER, day)]), 0, NAN, NAN, NAN, NAN)


def test_an_attempt_is_incomplete_when_its_time_is_over() -> None:
    log = [(PAGE, AT - 2 * HOUR), (PRODUCT, AT - HOUR)]
    assert same(found(log, AT - 1), 2, NAN, 3600, NAN, NAN)
    assert same(found(log, AT), 2, 3, 3600, NAN, 3600)
    assert same(found([*log, (ORDER, AT)], AT), 3, NAN, 3600, 3600, NAN)


def test_beginning_again_in_time_leaves_no_incomplete_attempt() -> None:
    again = [(PAGE, AT - 5 * HOUR), (PAGE, AT - 4 * HOUR), (PRODUCT, AT - 4 * HOUR), (ORDER, AT - 3 * HOUR)]
    assert same(found(again), 3, NAN, 0, 3600, NAN)
    late = [(PAGE, AT - 9 * HOUR), *again[1:]]
    assert same(found(late), 3, 2, 0, 3600, 9 * 3600)


def test_an_event_serves_one_step_of_an_attempt() -> None:
    entry = {"funnel": ["looked", "any", "any"], "within": "1d", "windows": ["20d"]}
    for n in (1, 2, 3, 4):
        values = numbers(entry, [(PAGE, AT - HOUR)] * n, AT)
        assert values["funnel_furthest_looked_any_20d"] == min(n, 3)
