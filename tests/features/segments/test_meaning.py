"""What conditions mean: every rule of the language with the case that pins it, and its neighbours by a microsecond."""

import numpy as np
import pytest

from features.behaviour.feature_set import FeatureSet
from features.errors import DefinitionError
from features.instants import DAY, HOUR, MINUTE, NEVER, SECOND, parse_instant
from features.segments.program import TRUE
from features.segments.segment_set import SegmentSet
from tests.features.segments.shop import CODES, FEATURES, PLAN, SETTINGS, histories, holds, node_truth, segment_set

T = parse_instant("2026-05-04T08:00:00")
"""A Monday."""


def event(name, after=0, **more):
    """An event some microseconds after T, of cart A unless another is named."""
    properties = {"cart_id": more.pop("cart", "A"), **more.pop("properties", {})}
    return {"event": name, "ts": T + after, "properties": {k: v for k, v in properties.items() if v}, **more}


def cart_at_risk(**options):
    steps = [
        {"event": "add"},
        {"event": "view", "count": {"gt": 2}, "within": "24h"},
        {"not": {"event": "buy"}, "within": "24h", "of": "first"},
    ]
    return {"sequence": {"same": ["cart_id"], "max_duration": "72h", "steps": steps, **options}}


def views(first, cart="A"):
    return [event("view", first + k * MINUTE, cart=cart) for k in range(3)]


ADDED = [event("add"), *views(HOUR)]


def change_of(when, log, at):
    """The next change of a condition."""
    made = segment_set({"s": {"when": when}})
    rows = histories(log, made)
    found = made.evaluate(rows, at, features=FEATURES.on(made.schema).compute(rows, at))
    return int(found.changes[0, 0])


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


def test_a_count_of_zero_is_did_not() -> None:
    for log in ([event("add")], [event("add"), event("buy")]):
        zero = {"did": {"event": "buy", "count": {"eq": 0}, "last": "7d"}}
        assert node_truth(zero, log, T) == node_truth({"did_not": {"event": "buy", "last": "7d"}}, log, T)


@pytest.mark.parametrize("predicate", [{"ne": "DE"}, {"not_in": ["DE"]}, {"eq": "DE"}])
def test_without_the_property_nobody_is_everyone_except(predicate) -> None:
    log = [event("add")]
    assert node_truth({"trait": {"country": predicate}}, log, T) == "unknown"
    assert node_truth({"none": [{"trait": {"country": predicate}}]}, log, T) == "unknown"
    assert not holds({"not": {"trait": {"country": predicate}}}, log, T)
    assert holds({"not": {"trait": {"country": predicate}}, "unknown": False}, log, T)
    assert node_truth({"trait": {"country": {"exists": False}}}, log, T) == "true"


def test_a_missing_feature_is_unknown() -> None:
    assert node_truth({"feature": {"mean_add_price_7d": {"ne": 3}}}, [event("buy")], T) == "unknown"
    assert node_truth({"feature": {"recency_buy_s": {"lt": 60}}}, [event("add")], T) == "unknown"


def test_a_trait_is_what_was_said_last() -> None:
    log = [event("identify", k, cart="", properties={"country": c}) for k, c in enumerate(["DE", "UK"])]
    assert node_truth({"trait": {"country": "UK"}}, log, T + 1) == "true"
    assert node_truth({"trait": {"country": "DE"}}, log, T) == "true"
    silent = [*log, event("identify", 2, cart="", properties={"age": 30})]
    assert node_truth({"trait": {"country": "UK", "age": {"gte": 30}}}, silent, T + 90 * DAY) == "true"


def test_a_reference_to_a_segment_is_true_or_false() -> None:
    segments = {
        "employees": {"when": {"trait": {"country": "UK"}}},
        "customers": {"when": {"none": [{"segment": "employees"}]}},
    }
    made = segment_set(segments)
    found = made.evaluate(histories([event("add")], made), T)
    assert found.of(0) == ("customers",)


def test_a_bare_negation_is_taken_over_known_users_only() -> None:
    when = {"did_not": {"event": "buy"}}
    assert holds(when, [event("add")], T)
    assert not holds(when, [], T)
    assert not holds(when, [event("add")], T - 1)


def test_what_only_the_call_knows_holds_for_unknown_users_too() -> None:
    assert holds({"context": {"device": "mobile"}}, [], T, context={"device": "mobile"})
    assert holds({"bucket": {"salt": "all", "lt": 1}}, [], T)


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


def test_a_cycle_is_named() -> None:
    circle = {name: {"when": {"segment": other}} for name, other in (("a", "b"), ("b", "c"), ("c", "a"))}
    with pytest.raises(DefinitionError, match="a -> b -> c -> a"):
        segment_set(circle)


# -- windows


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


# -- the other leaves


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


def test_compare_two_figures() -> None:
    left, right = {"event": "view", "last": "7d"}, {"event": "buy", "last": "7d"}
    when = {"compare": {"left": left, "op": "gt", "right": right, "factor": 2}}
    log = [event("buy"), *views(HOUR)]
    assert holds(when, log, T + 2 * HOUR)
    assert not holds(when, log[:-1], T + 2 * HOUR)
    assert change_of(when, log[:-1], T + 2 * HOUR) == T + 7 * DAY  # the purchase leaves, two views are more than none
    money = {"event": "buy", "agg": "sum", "property": "revenue"}
    spent = [event("buy", properties={"revenue": 10.1}), event("buy", 1, properties={"revenue": 20.2})]
    assert holds({"compare": {"left": money, "op": "gte", "right": 30.3}}, spent, T + 1)


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


def test_buckets_are_stable_and_independent_of_one_another() -> None:
    made = segment_set({"s": {"when": {"bucket": {"salt": "global-holdout-2026", "lt": 0.05}}}})
    users = np.array([f"u{k}" for k in range(20_000)], dtype=object)
    rows = histories([event("add")], made).take(np.zeros(len(users), np.int64))
    rows = type(rows)(rows.schema, users, rows.slots, rows.starts, rows.ends, rows.carry)
    found = made.evaluate(rows, T).column("s")
    assert abs(found.mean() - 0.05) < 0.005
    alone = [made.evaluate(rows.take(np.array([k])), T).column("s")[0] for k in range(100)]
    assert alone == found[:100].tolist()


def test_context_is_what_the_call_says() -> None:
    when = {
        "context": {
            "device": "mobile",
            "continent": "EU",
            "local_time": {"between": ["09:00", "18:00"]},
            "weekday": {"in": ["mon", "tue"]},
        }
    }
    said = {"device": "mobile", "continent": "EU", "timezone": "Europe/Berlin"}
    assert holds(when, [], T, context=said)  # 10:00 in Berlin, a Monday
    assert not holds(when, [], T, context={**said, "timezone": "America/New_York"})
    assert not holds(when, [], T, context={**said, "device": "desktop"})
    assert not holds(when, [], T, context={"device": "mobile"})
    assert not holds({"none": [when]}, [], T, context={})
    assert holds({"context": {"page.path": {"starts_with": "/shop"}}}, [], T, context={"page": {"path": "/shop/1"}})


def test_an_edited_definition_is_a_new_version_and_so_is_one_that_refers_to_it() -> None:
    def versions(days):
        base = {"when": {"did": {"event": "buy", "last": f"{days}d"}}}
        made = segment_set(
            {"a": base, "b": {"when": {"not": {"segment": "a"}}}, "c": {"when": {"did": {"event": "add"}}}}
        )
        return [segment.version for segment in made.segments]

    one, again, other = versions(7), versions(7), versions(8)
    assert one == again
    assert [a == b for a, b in zip(one, other, strict=True)] == [False, False, True]


@pytest.mark.parametrize("window", ["7d", "14d"])
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
def test_what_a_feature_means_and_the_projects_zone_are_part_of_the_version(window, zone) -> None:
    """A formula over a window of days, under the same name."""

    def version(window, zone):
        counts = [{"count": ["view", "buy"], "windows": [window]}]
        ratio = {"ratio": {"of": f"count_view_{window}", "by": f"count_buy_{window}"}, "as": "ease"}
        declared = {"features": [ratio], "inputs": counts}
        features = FeatureSet.from_dict(declared, PLAN, CODES, **{**SETTINGS, "zone": zone})
        document = {"segments": {"s": {"when": {"feature": {"ease": {"gt": 1}}}}}}
        return SegmentSet.from_dict(document, PLAN, CODES, features).segments[0].version

    one, other = version("7d", "UTC"), version(window, zone)
    assert (one == other) == (window == "7d" and zone == "UTC")


def test_the_class_of_a_segment_is_its_worst_nodes() -> None:
    made = segment_set(
        {
            "r": {"when": {"context": {"device": "mobile"}}},
            "s": {"when": {"did": {"event": "buy"}, "context": {"device": "mobile"}}},
            "t": {"when": {"any": [{"did": {"event": "buy", "last": "7d"}}, {"segment": "s"}]}},
            "b": {"when": {"percentile": {"feature": "count_any_7d", "gte": 80}}},
            "c": {"when": {"not": {"segment": "b"}}},
        }
    )
    assert [segment.kind for segment in made.segments] == ["request", "stream", "timer", "batch", "batch"]


def test_a_time_as_a_threshold_changes_to_the_microsecond() -> None:
    when = {"feature": {"recency_any_s": {"gte": 90}}}
    assert change_of(when, [event("add")], T) == T + 90 * SECOND
    assert [holds(when, [event("add")], T + 90 * SECOND + k) for k in (-1, 0)] == [False, True]


def test_the_evidence_names_the_events() -> None:
    made = segment_set({"s": {"when": cart_at_risk()}})
    rows = histories(ADDED, made)
    told = made.explain(rows, T + 2 * HOUR)["s"]
    assert told["in"] is False
    (node,) = told["of"]
    assert node["truth"] == "unknown"
    assert node["pending_until"] == "2026-05-05T08:00:00Z"
    assert [(each["event"], each["at"]) for each in node["events"]] == [
        ("add", "2026-05-04T08:00:00Z"),
        ("view", "2026-05-04T09:02:00Z"),
    ]


def test_truths_over_many_users_equal_those_of_each() -> None:
    made = segment_set({"s": {"when": cart_at_risk()}, "t": {"when": {"did": {"event": "any", "last": "1h"}}}})
    logs = [[{**each, "user": f"u{k:02}", "ts": each["ts"] + k * HOUR} for each in ADDED] for k in range(24)]
    together = made.evaluate(histories([each for log in logs for each in log], made), T + DAY)
    alone = [made.evaluate(histories(log, made), T + DAY).values[0].tolist() for log in logs]
    assert together.values.tolist() == alone
    assert 0 < (together.values == TRUE).mean() < 1
