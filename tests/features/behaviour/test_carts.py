"""Carts: by hand, and at the very instant at which one is left behind."""

import pytest

from features.behaviour.feature_set import FeatureSet
from features.errors import DefinitionError
from features.events.plan import Codes, TrackingPlan
from features.instants import DAY, HOUR, MINUTE, parse_instant
from tests.features.behaviour.shop import histories

AT = parse_instant("2026-03-10")
BOUGHT = {"properties": {"revenue": {"type": "money"}}}
MOVED = {"properties": {"price": {"type": "money"}, "pieces": {"type": "number"}}}
PLAN = TrackingPlan.from_dict({"events": {"added": MOVED, "removed": MOVED, "bought": BOUGHT}})
LEFT = {"abandoned_carts": {"added": "added", "bought": "bought", "within": "1h"}, "windows": ["7d"]}
MOVES = {"added": "added", "removed": "removed", "bought": "bought"}
VALUE = {"cart_value": {**MOVES, "price": "price", "quantity": "pieces"}}


def feature_set(*entries: dict) -> FeatureSet:
    return FeatureSet.from_dict({"features": list(entries)}, PLAN, Codes.of(PLAN))


FEATURES = feature_set(LEFT, VALUE)


def of(*events: tuple, at: int = AT) -> list[float]:
    log = [
        {"event": event, "ts": AT - ago, "properties": {"price": price, "pieces": pieces} if price else {}}
        for event, ago, price, pieces in ((*each, None, None)[:4] for each in events)
    ]
    return FEATURES.compute(histories(log, FEATURES), at).values[0].tolist()


def test_a_cart_is_left_once_its_time_has_passed_and_counts_once_however_much_was_added() -> None:
    cart = [("added", 2 * HOUR, 5.0, 1), ("added", 90 * MINUTE, 2.5, 2)]
    assert of(*cart) == [1, 10]
    assert of(*cart, at=AT - 30 * MINUTE)[0] == 1
    assert of(*cart, at=AT - 30 * MINUTE - 1)[0] == 0
    assert of(*cart, ("bought", 30 * MINUTE)) == [0, 0]
    assert of(*cart, ("bought", 30 * MINUTE - 1)) == [1, 0]


def test_what_was_removed_or_bought_lies_in_no_cart() -> None:
    assert of(("added", 2 * DAY, 5.0, 1), ("bought", DAY), ("added", HOUR, 7.5, 3), ("removed", 1, 7.5, 1))[1] == 15
    assert of(("added", 3, 5.0, None), ("removed", 2, 1.5, 2))[1] == 2


def test_a_price_that_an_event_lacks_is_a_fault() -> None:
    with pytest.raises(DefinitionError, match="unknown property 'prise' of 'added'"):
        feature_set({"cart_value": {**MOVES, "price": "prise"}})
    with pytest.raises(DefinitionError, match="`where` narrows one event"):
        feature_set({**LEFT, "where": {"price": 3}, "as": "x"})
