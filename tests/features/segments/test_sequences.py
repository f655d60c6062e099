"""Sequences: every rule of steps in order with the case that pins it."""

from features.instants import DAY, HOUR, MINUTE
from tests.features.segments.shop import (
    ADDED,
    T,
    cart_at_risk,
    change_of,
    event,
    holds,
    node_truth,
    views,
)


def test_the_last_anchor_whose_positive_steps_are_all_met_counts() -> None:
    again = [*ADDED, event("add", 3 * HOUR)]
    assert node_truth(cart_at_risk(), again, T + 20 * HOUR) == "unknown"  # still pending from the first
    assert change_of(cart_at_risk(), again, T + 20 * HOUR) == T + DAY
    assert node_truth(cart_at_risk(), again, T + DAY) == "true"


def test_a_purchase_ends_it_although_another_add_follows() -> None:
    bought = [*ADDED, event("buy", 2 * HOUR), event("add", 3 * HOUR)]
    assert node_truth(cart_at_risk(), bought, T + 2 * DAY) == "false"
    anew = [*bought, *views(4 * HOUR)]
    assert node_truth(cart_at_risk(), anew, T + 20 * HOUR) == "unknown"
    assert change_of(cart_at_risk(), anew, T + 20 * HOUR) == T + 27 * HOUR


def test_interleaved_carts_are_judged_apart() -> None:
    both = [event("add"), event("add", 1, cart="B"), *views(HOUR), *views(2 * HOUR, "B"), event("buy", 5 * HOUR)]
    assert node_truth(cart_at_risk(), both, T + DAY) == "unknown"  # B's day ends a microsecond later
    assert node_truth(cart_at_risk(), both, T + DAY + 1) == "true"
    assert node_truth(cart_at_risk(), [*both, event("buy", 6 * HOUR, cart="B")], T + DAY + 1) == "false"


def test_without_what_the_steps_share_an_event_takes_no_part() -> None:
    nameless = [event("add", cart=""), *views(HOUR, "")]
    assert node_truth(cart_at_risk(), nameless, T + 2 * DAY) == "false"
    assert node_truth(cart_at_risk(same=[]), nameless, T + 2 * DAY) == "true"
    elsewhere = [*ADDED, event("buy", 2 * HOUR, cart="")]
    assert node_truth(cart_at_risk(), elsewhere, T + 2 * DAY) == "true"


def test_with_any_an_old_abandonment_reads_as_abandoned() -> None:
    steps = [{"event": "add"}, {"not": {"event": "buy"}, "within": "24h"}]
    log = [event("add"), event("buy", 30 * HOUR), event("add", 31 * HOUR), event("buy", 32 * HOUR)]
    truths = {match: node_truth({"sequence": {"match": match, "steps": steps}}, log, T + 3 * DAY) for match in MATCHES}
    assert truths == {"any": "true", "first": "true", "last": "false"}


MATCHES = ("any", "first", "last")


def test_an_absence_is_pending_until_its_window_has_passed() -> None:
    when = {"sequence": {"steps": [{"event": "add"}, {"not": {"event": "buy"}, "within": "24h"}]}}
    early = [event("add"), event("buy", DAY - MINUTE)]
    assert [node_truth(when, early, T + at) for at in (HOUR, DAY - MINUTE, DAY)] == ["unknown", "false", "false"]
    late = [event("add"), event("buy", DAY + MINUTE)]
    assert [node_truth(when, late, T + at) for at in (DAY - 1, DAY, DAY + MINUTE)] == ["unknown", "true", "true"]
    exact = [event("add"), event("buy", DAY)]
    assert [node_truth(when, exact, T + at) for at in (DAY - 1, DAY)] == ["unknown", "false"]


def test_a_purchase_at_24_01_ends_the_segment_by_its_membership_not_by_its_condition() -> None:
    """At 24:00 in; what comes after the window is no part of the condition, so `did_not` says it where it is meant."""
    when = {"all": [cart_at_risk(), {"did_not": {"event": "buy", "last": "7d"}}]}
    late = [*ADDED, event("buy", DAY + MINUTE)]
    assert [holds(when, late, T + at) for at in (DAY - 1, DAY, DAY + MINUTE - 1, DAY + MINUTE)] == [
        False,
        True,
        True,
        False,
    ]


def test_a_steps_window_says_which_events_take_part() -> None:
    absent = {"not": {"event": "buy", "last": "2h"}, "within": "1d"}
    steps = [{"event": "add"}, {"event": "view", "calendar": "day"}, absent]
    when = {"sequence": {"same": ["cart_id"], "steps": steps}}
    log = [event("add"), event("view", 2 * HOUR), event("buy", 3 * HOUR)]
    assert node_truth(when, log[:2], T + 2 * HOUR) == "unknown"
    assert node_truth(when, log, T + 5 * HOUR - 1) == "false"
    assert change_of(when, log, T + 4 * HOUR) == T + 5 * HOUR
    assert node_truth(when, log, T + 5 * HOUR) == "unknown"  # what was bought two hours ago takes no part
    assert change_of(when, log, T + 5 * HOUR) == T + 15 * HOUR  # midnight in London
    assert node_truth(when, log, T + 15 * HOUR) == "false"  # the view was yesterday


def test_an_event_serves_one_step_only() -> None:
    twice = {"sequence": {"steps": [{"event": "view"}, {"event": "view"}]}}
    assert node_truth(twice, [event("view")], T + 1) == "false"
    assert node_truth(twice, [event("view"), event("view")], T + 1) == "true"


def test_steps_follow_the_total_order_within_a_microsecond() -> None:
    when = {"sequence": {"steps": [{"event": "add"}, {"event": "buy"}]}}
    assert node_truth(when, [event("add", seq=0), event("buy", seq=1)], T) == "true"
    assert node_truth(when, [event("add", seq=1), event("buy", seq=0)], T) == "false"
    assert node_truth(when, [event("add", id=2), event("buy", id=1)], T) == "false"


def test_steps_of_a_session_lie_in_one_session() -> None:
    steps = [{"event": "add"}, {"event": "view"}, {"not": {"event": "buy"}}]
    when = {"sequence": {"scope": "session", "steps": steps}}
    log = [event("add"), event("view", 10 * MINUTE)]
    over = 40 * MINUTE + 1
    assert [node_truth(when, log, T + at) for at in (10 * MINUTE, over - 1, over)] == ["unknown", "unknown", "true"]
    assert node_truth(when, [*log, event("buy", 2 * HOUR)], T + 2 * HOUR) == "true"
    assert node_truth(when, [*log, event("buy", 20 * MINUTE)], T + 2 * HOUR) == "false"
    assert node_truth(when, [event("add"), event("view", 31 * MINUTE)], T + 2 * HOUR) == "false"


def test_immediately_allows_nothing_between() -> None:
    when = {"sequence": {"steps": [{"event": "add"}, {"event": "buy", "immediately": True}]}}
    assert node_truth(when, [event("add"), event("buy", 1)], T + 1) == "true"
    assert node_truth(when, [event("add"), event("view", 1), event("buy", 2)], T + 2) == "false"
    assert node_truth(when, [event("add"), event("view", 1), event("add", 2), event("buy", 3)], T + 3) == "true"


def test_what_must_not_come_before_the_next_step() -> None:
    steps = [{"event": "add"}, {"not": {"event": "view"}, "until_next": True}, {"event": "buy"}]
    when = {"sequence": {"steps": steps}}
    assert node_truth(when, [event("add"), event("buy", 1)], T + 1) == "true"
    assert node_truth(when, [event("add"), event("view", 1), event("buy", 2)], T + 2) == "false"
    assert node_truth(when, [event("add"), event("buy", 1), event("view", 2)], T + 2) == "true"


def test_within_the_previous_step_is_found_wherever_there_is_one() -> None:
    steps = [{"event": "add"}, {"event": "view", "within": "1h"}, {"event": "buy", "within": "1h"}]
    log = [event("add"), event("view", 10 * MINUTE), event("view", 50 * MINUTE), event("buy", 80 * MINUTE)]
    assert node_truth({"sequence": {"steps": steps}}, log, T + 2 * HOUR) == "true"


def test_a_step_may_have_an_upper_count() -> None:
    steps = [{"event": "add"}, {"event": "view", "count": {"between": [1, 2]}, "within": "1h"}]
    when = {"sequence": {"steps": steps}}
    assert [node_truth(when, [event("add"), event("view", 1)], T + at) for at in (1, HOUR)] == ["unknown", "true"]
    assert node_truth(when, [event("add"), *views(MINUTE)], T + HOUR) == "false"
