"""Windows: what lies in them and what no longer does, to the microsecond."""

import pytest

from features.errors import DefinitionError
from features.instants import DAY, HOUR, MINUTE, NEVER, parse_instant
from tests.features.segments.shop import T, change_of, event, holds, node_truth, segment_set


@pytest.mark.parametrize(
    ("when", "hint"),
    [
        ({"did": {"event": "buy", "last": "41d"}}, "horizon: 41d"),
        ({"did": {"event": "buy", "ago": {"from": "180d", "to": "60d"}}}, "horizon: 180d"),
        ({"regularly": {"event": "any", "per": "1w", "in": {"min": 3, "of": 6}}}, "horizon: 42d"),
        ({"stopped": {"event": "any", "last": "30d", "before": "30d"}}, "horizon: 60d"),
        ({"resumed": {"event": "any", "last": "30d", "after_gap": "20d"}}, "horizon: 50d"),
        ({"compare": {"left": {"event": "any", "last": "50d"}, "op": "gt", "right": 1}}, "horizon: 50d"),
        ({"sequence": {"last": "50d", "steps": [{"event": "add"}]}}, "horizon: 50d"),
        (
            {"compare": {"left": {"event": "buy", "agg": "mean", "property": "revenue"}, "op": "gt", "right": 1}},
            "life-",
        ),
    ],
)
def test_what_looks_further_back_than_the_horizon_names_the_key(when, hint) -> None:
    with pytest.raises(DefinitionError, match=hint):
        segment_set({"s": {"when": when}})


def test_an_unbounded_count_is_life_time() -> None:
    log = [event("buy", k) for k in range(3)]
    when = {"did": {"event": "buy", "count": {"gte": 3}}}
    assert holds(when, log, T + 300 * DAY)
    assert change_of(when, log, T + 300 * DAY) == NEVER


def test_windows_are_half_open_to_the_microsecond() -> None:
    did = {"did": {"event": "add", "last": "1h"}}
    assert [holds(did, [event("add")], T + at) for at in (-1, 0, HOUR - 1, HOUR)] == [False, True, True, False]
    assert change_of(did, [event("add")], T) == T + HOUR
    ago = {"did": {"event": "add", "ago": {"from": "2h", "to": "1h"}}}
    assert [holds(ago, [event("add")], T + at) for at in (HOUR - 1, HOUR, 2 * HOUR - 1, 2 * HOUR)] == [
        False,
        True,
        True,
        False,
    ]
    assert change_of(ago, [event("add")], T) == T + HOUR


def test_a_span_between_instants_holds_its_first_and_not_its_last() -> None:
    said = {"event": "add", "between": {"from": "2026-05-04T08:00:00", "to": "2026-05-05"}}
    assert holds({"did": said}, [event("add")], T + 9 * DAY)
    assert not holds({"did": said}, [event("add", 16 * HOUR)], T + 9 * DAY)
    known_before = [event("view", -DAY), event("add")]
    assert node_truth({"did": said}, known_before, T + 40 * DAY - 1) == "true"
    assert node_truth({"did": said}, known_before, T + 40 * DAY) == "unknown"


def test_the_first_days_of_a_user() -> None:
    said = {"did": {"event": "add", "since_first_seen": "1d"}}
    assert holds(said, [event("view"), event("add", DAY)], T + 9 * DAY)
    assert not holds(said, [event("view"), event("add", DAY + 1)], T + 9 * DAY)
    assert node_truth(said, [event("view"), event("add", DAY)], T + 40 * DAY) == "unknown"


def test_the_current_session_ends_half_an_hour_after_its_last_event() -> None:
    said = {"did": {"event": "add", "session": "current"}}
    log = [event("add"), event("view", 30 * MINUTE)]
    assert holds(said, log, T + 60 * MINUTE)
    assert not holds(said, log, T + 60 * MINUTE + 1)
    assert change_of(said, log, T + 31 * MINUTE) == T + 60 * MINUTE + 1
    assert not holds(said, [event("add"), event("view", 30 * MINUTE + 1)], T + 31 * MINUTE)


@pytest.mark.parametrize(
    ("unit", "begins", "ends"),
    [
        ("day", "2026-03-29T00:00:00", "2026-03-29T23:00:00"),  # the day on which London's clocks go forward
        ("week", "2026-03-23T00:00:00", "2026-03-29T23:00:00"),
        ("month", "2026-03-01T00:00:00", "2026-03-31T23:00:00"),
        ("day", "2026-10-24T23:00:00", "2026-10-26T00:00:00"),
    ],
)
def test_calendar_windows_are_the_projects(unit, begins, ends) -> None:
    begins, ends = parse_instant(begins), parse_instant(ends)
    said = {"did": {"event": "add", "calendar": unit}}
    first = [{"event": "add", "ts": begins}]
    assert holds(said, first, ends - 1)
    assert not holds(said, first, ends)
    assert change_of(said, first, begins + HOUR) == ends
    assert not holds(said, [{"event": "add", "ts": begins - 1}], begins)


def test_the_third_purchase_ever() -> None:
    said = {"nth": {"event": "buy", "n": 3, "last": "30d"}}
    log = [event("buy", k * DAY) for k in range(3)]
    assert [holds(said, log, T + at) for at in (2 * DAY - 1, 2 * DAY, 32 * DAY - 1, 32 * DAY)] == [
        False,
        True,
        True,
        False,
    ]
    assert not holds(said, [event("buy", -50 * DAY), *log], T + 33 * DAY)


def test_regularly_counts_periods() -> None:
    said = {"regularly": {"event": "any", "at_least": 2, "per": "1d", "in": {"min": 2, "of": 3}}}
    log = [event("view"), event("view", HOUR), event("view", DAY), event("view", DAY + HOUR)]
    assert holds(said, log, T + DAY + HOUR)
    assert not holds(said, log[1:], T + DAY + HOUR)


def test_stopped_and_resumed() -> None:
    stopped = {"stopped": {"event": "buy", "last": "5d", "before": "10d"}}
    assert [holds(stopped, [event("buy")], T + at) for at in (5 * DAY - 1, 5 * DAY, 15 * DAY)] == [False, True, False]
    resumed = {"resumed": {"event": "buy", "last": "1d", "after_gap": "5d"}}
    assert holds(resumed, [event("buy"), event("buy", 5 * DAY)], T + 6 * DAY - 1)
    assert not holds(resumed, [event("buy"), event("buy", 5 * DAY)], T + 6 * DAY)
    assert not holds(resumed, [event("buy"), event("buy", 5 * DAY - 1)], T + 5 * DAY)
    assert not holds(resumed, [event("buy")], T)
