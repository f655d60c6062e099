"""Streaks: consecutive days of the project's zone."""

from datetime import UTC, datetime, timedelta
from itertools import combinations, product
from zoneinfo import ZoneInfo

from features.instants import DAY, HOUR, MINUTE, SECOND, parse_instant
from tests.features.behaviour.shop import numbers
from tests.features.behaviour.test_days import BACK

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


def test_a_day_counts_where_clocks_go_back_into_the_one_before() -> None:
    """All that may happen around that night, against the set of dates."""
    zone, noon = ZoneInfo("America/St_Johns"), BACK + 36 * HOUR
    around = [
        BACK - 3 * DAY,
        BACK - 2 * DAY,
        BACK - DAY,
        BACK - 10 * MINUTE,
        BACK - 1,
        BACK + 1,
        BACK + HOUR,
        BACK + DAY,
    ]
    logs = [log for n in range(1, 6) for log in combinations(around, n)]
    for log, now in product(logs, (noon, BACK, BACK + 30 * MINUTE, BACK + HOUR)):
        log = [ts for ts in log if ts <= now]
        if not log:
            continue
        days = {datetime.fromtimestamp(ts / SECOND, UTC).astimezone(zone).date() for ts in log}
        runs = [sum(all(day - timedelta(k) in days for k in range(n)) for n in range(1, 9)) for day in days]
        values = numbers(ENTRY, [("page_viewed", ts) for ts in log], now, zone=zone.key)
        assert values["longest_streak_any_d_30d"] == max(runs)
        today = datetime.fromtimestamp(now / SECOND, UTC).astimezone(zone).date()
        last = today if today in days else today - timedelta(1)
        assert values["streak_any_d"] == sum(all(last - timedelta(k) in days for k in range(n)) for n in range(1, 9))
