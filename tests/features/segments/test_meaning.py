"""What conditions mean: every rule of the language with the case that pins it, and its neighbours by a microsecond."""

import numpy as np
import pytest

from features.behaviour.feature_set import FeatureSet
from features.errors import DefinitionError
from features.instants import DAY, HOUR, SECOND
from features.segments.program import TRUE
from features.segments.segment_set import SegmentSet
from tests.features.segments.shop import (
    ADDED,
    CODES,
    PLAN,
    SETTINGS,
    T,
    cart_at_risk,
    change_of,
    event,
    histories,
    holds,
    node_truth,
    segment_set,
    views,
)


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


def test_a_cycle_is_named() -> None:
    circle = {name: {"when": {"segment": other}} for name, other in (("a", "b"), ("b", "c"), ("c", "a"))}
    with pytest.raises(DefinitionError, match="a -> b -> c -> a"):
        segment_set(circle)


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
