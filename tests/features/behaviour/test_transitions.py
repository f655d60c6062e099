"""Transitions: smoothed chances, and entropy against scipy's."""

import math

import pytest
from scipy.stats import entropy

from features.errors import DefinitionError
from features.instants import DAY, HOUR, SECOND, parse_instant
from tests.features.behaviour.shop import numbers

AT = parse_instant("2026-03-01T12:00:00")
NAMES = {"p": "page_viewed", "v": "product_viewed", "o": "order_completed"}


def log(letters: str, *, start: int = AT - HOUR) -> list[tuple]:
    return [(NAMES[letter], start + k * SECOND) for k, letter in enumerate(letters)]


def test_chances_are_moves_and_alpha_over_departures_and_alpha_for_each_kind() -> None:
    entry = {"transitions": list(NAMES.values()), "alpha": 0.5, "windows": ["1d"]}
    found = numbers(entry, log("pvvpvo"), AT)
    assert found["transition_page_viewed_product_viewed_1d"] == 2.5 / 3.5
    assert found["transition_product_viewed_order_completed_1d"] == 1.5 / 4.5
    assert math.isnan(found["transition_order_completed_page_viewed_1d"])
    assert len(found) == 9


def test_moves_are_counted_and_nobody_has_none() -> None:
    entry = {"moves": ["page_viewed", "product_viewed"], "windows": ["1d"]}
    found = numbers(entry, log("pvvpvo"), AT)
    assert found == {
        "moves_page_viewed_page_viewed_1d": 0,
        "moves_page_viewed_product_viewed_1d": 2,
        "moves_product_viewed_page_viewed_1d": 1,
        "moves_product_viewed_product_viewed_1d": 1,
    }
    assert set(numbers(entry, log("o"), AT).values()) == {0}


def test_no_move_leads_from_one_session_to_the_next_and_other_events_are_passed_over() -> None:
    entry = {"transitions": ["page_viewed", "order_completed"], "alpha": 0, "windows": ["1d"]}
    assert numbers(entry, log("pvvo"), AT)["transition_page_viewed_order_completed_1d"] == 1
    apart = log("p", start=AT - 3 * HOUR) + log("o")
    assert math.isnan(numbers(entry, apart, AT)["transition_page_viewed_order_completed_1d"])


def test_entropies_are_those_of_scipy() -> None:
    found = numbers({"entropy": list(NAMES.values()), "windows": ["1d"]}, log("ppvvpvopvp"), AT)
    assert found["entropy_1d"] == pytest.approx(entropy([5, 4, 1], base=2))
    rows = {"p": [1, 3, 0], "v": [2, 1, 1], "o": [1, 0, 0]}
    expected = sum(sum(row) / 9 * entropy(row, base=2) for row in rows.values())
    assert found["transition_entropy_1d"] == pytest.approx(expected)


def test_one_kind_alone_has_no_transitions() -> None:
    with pytest.raises(DefinitionError, match="this takes 2 to 60 events"):
        numbers({"transitions": "page_viewed", "windows": ["1d"]}, log("p"), AT + DAY)
