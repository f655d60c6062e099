"""Streaks: consecutive days of the project's zone."""

from features.instants import DAY, HOUR, parse_instant
from tests.features.behaviour.shop import numbers

NOON = parse_instant("2026-03-20T12:00:00")
ENTRY = {"streak": "any", "longest_streak": "any", "windows": ["5d", "30d"]}


def found(days_ago: list[int], **settings: object) -> list[float]:
    return list(numbers(ENTRY, [("page_viewed", NOON - days * DAY) for days in days_ago], NOON, **settings).values())


def test_a_streak_is_alive_until_a_whole_day_has_passed_without_an_event() -> None:
    assert found([0, 1, 2]) == [3, 3, 3]
    assert found([1, 2, 3]) == [3, 3, 3]
    assert found([2, 3, 4]) == [0, 3, 3]


def test_the_longest_run_may_lie_behind_a_shorter_one() -> None:
    assert found([0, 1, 8, 9, 10, 11, 20]) == [2, 2, 4]
    assert found([0, 0, 3, 4, 5, 6]) == [1, 2, 4]
    assert found([40]) == [0, 0, 0]


def test_days_are_those_of_the_zone() -> None:
    log = [("page_viewed", NOON - 13 * HOUR), ("page_viewed", NOON - 11 * HOUR)]
    assert numbers(ENTRY, log, NOON)["streak_any_d"] == 2
    assert numbers(ENTRY, log, NOON, zone="America/New_York")["streak_any_d"] == 1
