"""Active days: calendar days of the project's zone, each once, also where a clock goes back into the day before."""

from features.instants import DAY, HOUR, MINUTE, parse_instant
from tests.features.behaviour.shop import numbers

AT = parse_instant("2005-10-31T12:00:00")
BACK = parse_instant("2005-10-30T02:31:00")
"""In St. John's clocks went back one hour at a minute past midnight, into the day before."""


def active(*instants: int, zone: str = "America/St_Johns") -> float:
    log = [("page_viewed", instant) for instant in instants]
    return numbers({"active_days": "any", "windows": ["7d"]}, log, AT, zone=zone)["active_days_any_7d"]


def test_a_day_counts_once_when_clocks_go_back_into_the_one_before() -> None:
    before, second, after = BACK - 10 * MINUTE, BACK - 1, BACK + 1
    assert active(second) == active(after) == 1
    assert active(before, after) == 1
    assert active(second, after) == active(before, second, after) == active(before, second) == 2
    assert active(before, second - 1, second, after, BACK + HOUR) == 2
    assert active(second, after, BACK + DAY) == 2
    assert active(second, after, BACK + DAY + HOUR) == 3
    assert active(before, BACK + DAY) == 2


def test_days_are_of_the_zone() -> None:
    midnight = parse_instant("2005-10-30T00:00:00")
    assert active(midnight - 1, midnight, zone="UTC") == 2
    assert active(midnight - 1, midnight, midnight + HOUR) == 1
