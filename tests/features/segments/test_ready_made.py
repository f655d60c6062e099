"""The shop's ready-made segments: of each a hand-made user who is in and one who is not."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from features.behaviour.feature_set import FeatureSet
from features.behaviour.histories import Histories
from features.document import load
from features.events.plan import Codes, TrackingPlan
from features.instants import DAY, HOUR, MINUTE, SECOND, parse_instant
from features.segments.program import TRUE
from features.segments.segment_set import SegmentSet
from features.segments.snapshots import taken
from tests.features.segments.shop import log_frame

SHOP = Path(__file__).parents[3] / "examples" / "shop"
PLAN = TrackingPlan.read(SHOP / "plan.yaml")
CODES = Codes.of(PLAN)
FEATURES = FeatureSet.from_yaml(SHOP / "features.yaml", PLAN, CODES, horizon=180 * DAY)
STUDIES = {name: spec["kind"] for name, spec in load(SHOP / "studies.yaml")["studies"].items()}
SEGMENTS = SegmentSet.from_yaml(SHOP / "segments.yaml", PLAN, CODES, FEATURES, studies=STUDIES)
SCHEMA = FEATURES.schema.union(SEGMENTS.schema)
RULES, COMPUTED = SEGMENTS.on(SCHEMA), FEATURES.on(SCHEMA)

NOW = parse_instant("2026-05-06T10:00:00")
"""A Wednesday."""


def acts(*rows):
    """Events from (name, how long ago, times, properties): several come a minute apart, the last at that age."""
    events = []
    for name, ago, *rest in rows:
        times, properties = (rest[0] if rest else 1), (rest[1] if len(rest) > 1 else {})
        events += [
            {"event": name, "ts": NOW - ago - k * MINUTE, "properties": {"product_id": f"p{k}", **properties}}
            for k in range(times)
        ]
    return [
        {**e, "properties": {n: v for n, v in e["properties"].items() if n in properties_of(e["event"])}}
        for e in events
    ]


def properties_of(event):
    return PLAN.event(event).properties


def orders(*rows):
    """Orders from (how long ago, revenue)."""
    return [event for ago, money in rows for event in acts(("order_completed", ago, 1, {"revenue": money}))]


VIEW, ADD, CART, ORDER = "product_viewed", "product_added", "cart_viewed", "order_completed"
BUSY = [event for day in (1, 4, 9) for event in acts((VIEW, day * DAY, 4), (ADD, day * DAY - HOUR, 1))]
LONG = [
    event
    for day in (2, 8)
    for event in acts(
        ("page_viewed", day * DAY, 3), (VIEW, day * DAY - 8 * MINUTE, 3), ("video_played", day * DAY - 18 * MINUTE)
    )
]
ABANDONED = acts((ADD, 30 * HOUR), (CART, 29 * HOUR, 3))
WISH = acts((VIEW, DAY, 3), ("product_added_to_wishlist", 2 * DAY), (ADD, 40 * HOUR))

CASES = {
    "browsers": (acts((VIEW, 3 * DAY)), acts((VIEW, 3 * DAY, 9))),
    "engaged_shoppers": (BUSY, BUSY[:5]),
    "repeat_buyers": (orders(*((k * 40 * DAY, 5) for k in range(4))), orders(*((k * 70 * DAY, 5) for k in range(4)))),
    "active": (acts((VIEW, 6 * DAY, 11)), acts((VIEW, 6 * DAY, 10))),
    "dormant": (acts((VIEW, 20 * DAY)), acts((VIEW, 20 * DAY), (VIEW, 6 * DAY))),
    "churned": (acts((VIEW, 30 * DAY)), acts((VIEW, 30 * DAY - 1))),
    "highly_engaged": (LONG, [e for e in LONG if e["event"] != "video_played"]),
    "high_intent": (acts(("checkout_started", HOUR)), acts(("checkout_started", HOUR)) + orders((MINUTE, 9))),
    "low_intent": (acts((VIEW, DAY, 3)), acts((VIEW, DAY, 3), (ADD, 2 * DAY))),
    "potential_high_value": ([*WISH, *acts((CART, 10 * HOUR))], [*WISH, *acts((CART, 39 * HOUR + 50 * MINUTE))]),
    "cart_abandoners": (ABANDONED, ABANDONED + orders((7 * HOUR, 9))),
    "deep_readers": (acts(("scrolled", DAY, 5, {"depth": 75})), acts(("scrolled", DAY, 5, {"depth": 50}))),
    "scrolled_without_converting": (
        acts(("scrolled", DAY, 1, {"depth": 51})),
        acts(("scrolled", DAY, 1, {"depth": 51})) + orders((DAY - MINUTE, 5)),
    ),
    "video_lovers": (
        acts(
            ("page_viewed", DAY), ("video_played", DAY - MINUTE, 1), (VIEW, DAY - 2 * MINUTE), ("video_played", 2 * DAY)
        ),
        acts(("page_viewed", DAY), ("video_played", DAY - MINUTE, 1), (VIEW, HOUR), ("video_played", 2 * DAY)),
    ),
    "list_browsers": (
        acts(("product_list_viewed", DAY), (VIEW, DAY - MINUTE), ("product_list_viewed", DAY - 2 * MINUTE)),
        acts(
            ("product_list_viewed", DAY),
            (VIEW, DAY - MINUTE),
            ("products_searched", DAY - 90 * SECOND),
            ("product_list_viewed", DAY - 2 * MINUTE),
        ),
    ),
}


def evaluated(logs, *, rules=RULES, **options):
    """Truths of users by name, each with a list of events."""
    rows = Histories.from_frame(SCHEMA, log_frame([{**e, "user": who} for who, log in logs.items() for e in log], PLAN))
    matrix = COMPUTED.compute(rows, NOW)
    return rows, matrix, rules.evaluate(rows, NOW, features=matrix, **options)


@pytest.mark.parametrize("name", CASES)
def test_one_user_is_in_and_one_is_out(name):
    inside, outside = CASES[name]
    rows, _, truths = evaluated({"in": inside, "out": outside})
    assert dict(zip(rows.users, truths.column(name).tolist(), strict=True)) == {"in": True, "out": False}


def test_any_three_kinds_of_content_will_do_and_two_will_not():
    kinds = ("page_viewed", VIEW, "video_played", "product_list_viewed")
    logs = {
        ",".join(chosen): [
            event
            for day in (2, 8)
            for k, name in enumerate(chosen)
            for event in acts((name, day * DAY - 9 * k * MINUTE, 3))
        ]
        for n in (2, 3)
        for chosen in combinations(kinds, n)
    }
    rows, _, truths = evaluated(logs)
    told = dict(zip(rows.users, truths.column("highly_engaged").tolist(), strict=True))
    assert told == {chosen: chosen.count(",") == 2 for chosen in logs}


def test_highly_engaged_are_five_pages_a_session_however_many_events():
    """The same minutes and kinds of content; where a page is missing, many scrolls take its place."""
    views = [event for event in LONG if event["event"] == VIEW]
    fewer = {day: [event for event in LONG if event not in views[::3][:day]] for day in (1, 2)}
    scrolls = acts(*(("scrolled", day * DAY - 2 * MINUTE, 9, {"depth": 50}) for day in (2, 8)))
    logs = {"six": LONG, "five and a half": fewer[1], "five": fewer[2]}
    pages = [event for event in LONG if event["event"] == "page_viewed"]
    logs["four and a half"] = [event for event in fewer[2] if event is not pages[1]] + scrolls
    rows, matrix, truths = evaluated(logs)
    told = dict(zip(rows.users, truths.column("highly_engaged").tolist(), strict=True))
    assert matrix.column("session_count_page_30d").tolist() == [6, 5.5, 5, 4.5]
    assert (matrix.column("session_minutes_30d") >= 15).all()
    assert matrix.column("session_depth_30d")[3] > 13
    assert told == {"six": True, "five and a half": True, "five": True, "four and a half": False}


def test_a_cart_that_was_bought_was_not_left():
    logs = {"left": [*WISH, *acts((CART, 10 * HOUR))]}
    logs["bought"] = logs["left"] + orders((39 * HOUR, 5))
    rows, _, truths = evaluated(logs)
    told = dict(zip(rows.users, truths.column("potential_high_value").tolist(), strict=True))
    assert told == {"left": True, "bought": False}


@pytest.mark.parametrize(
    ("context", "inside"),
    [
        ({"device": "mobile", "continent": "EU", "timezone": "Europe/Rome"}, True),
        ({"device": "mobile", "continent": "EU", "timezone": "America/New_York"}, False),
        ({"device": "desktop", "continent": "EU", "timezone": "Europe/Rome"}, False),
        ({"device": "mobile", "timezone": "Europe/Rome"}, False),
    ],
)
def test_mobile_users_in_europe_in_business_hours(context, inside):
    _, _, truths = evaluated({"ann": acts((VIEW, DAY))}, context=context)
    assert truths.column("mobile_europe_business_hours").tolist() == [inside]


CUSTOMERS = {
    **{f"c{k}": orders(*((k * 3 * DAY + j * DAY, 10 * (25 - k)) for j in range(1 + (24 - k) // 5))) for k in range(25)},
    "late": orders((DAY, 400)),
    "looker": acts((VIEW, DAY)),
}
RFM = [
    *("champions", "loyal_customers", "potential_loyalists", "new_customers", "promising", "need_attention"),
    *("about_to_sleep", "at_risk", "cannot_lose_them", "hibernating", "lost"),
]


def test_recency_frequency_and_money_are_fifths_of_the_customers():
    """Scores by hand: the k-th most recent of 26 customers; who never ordered has none of the names."""
    rows, matrix, _ = evaluated(CUSTOMERS)
    fitted = RULES.fitted(taken(RULES, lambda work: [work(rows, matrix, {})], NOW))
    truths = fitted.evaluate(rows, NOW, features=matrix)
    named = {user: [name for name in RFM if truths.column(name)[row]] for row, user in enumerate(rows.users)}
    assert named["c0"] == ["champions"]
    assert named["late"] == ["new_customers"]
    assert named["c24"] == ["lost"]
    assert named["looker"] == []
    assert all(len(names) >= 1 for user, names in named.items() if user != "looker")
    snapshot = fitted.snapshots["fifths|recency_order_completed_s|recency_order_completed_s"]
    assert (snapshot.n, snapshot.at, snapshot.method) == (26, NOW, "inverted_cdf")


@pytest.mark.parametrize(
    ("name", "r", "f"),
    [
        ("champions", 5, 5),
        ("loyal_customers", 3, 4),
        ("potential_loyalists", 4, 3),
        ("new_customers", 5, 1),
        ("promising", 4, 1),
        ("need_attention", 3, 3),
        ("about_to_sleep", 3, 2),
        ("at_risk", 2, 3),
        ("cannot_lose_them", 1, 5),
        ("hibernating", 2, 2),
        ("lost", 1, 1),
    ],
)
def test_each_rfm_name_has_its_scores(name, r, f):
    """The bounds put a score s of recency at about (6 - s) * 10 days and of frequency at s orders."""
    cuts = {node.cut.feature: node.cut.key for node in RULES.nodes if node.cut and node.cut.what == "fifths"}
    recency, frequency = "recency_order_completed_s", "count_order_completed_90d"
    money = next(feature for feature in cuts if feature.startswith("sum_"))
    some = taken(RULES, lambda work: [work(*evaluated(CUSTOMERS)[:2], {})], NOW)
    blank = some[cuts[recency]]
    bounds = {recency: (15, 25, 35, 45), frequency: (1, 2, 3, 4), money: (10, 20, 30, 40)}
    bounds[recency] = tuple(days * 86_400.0 for days in bounds[recency])
    fixed = {
        key: type(blank)(tuple(map(float, bounds[feature])), *list(vars(blank).values())[1:])
        for feature, key in cuts.items()
    }
    rules = RULES.fitted({**some, **fixed})

    def names(r, f):
        log = orders(*(((6 - r) * 10 * DAY + k, 100) for k in range(f)))
        _, _, truths = evaluated({"ann": log}, rules=rules)
        return truths.of(0)

    assert name in names(r, f)
    assert name not in names(5 if r < 3 else 1, 3 if f != 3 else 5)


def test_percentiles_are_of_everybody_and_frozen():
    logs = {f"u{k}": acts((VIEW, DAY, k + 2)) for k in range(10)}
    rows, matrix, before = evaluated(logs)
    assert not before.column("longest_sessions").any()  # unknown until a snapshot is taken
    rules = RULES.fitted(taken(RULES, lambda work: [work(rows, matrix, {})], NOW))
    inside = rules.evaluate(rows, NOW, features=matrix).column("longest_sessions")
    assert set(rows.users[inside]) == {"u7", "u8", "u9"}  # the eighth of ten values is the 80th percentile
    (snapshot,) = rules.compared(rules.segment("longest_sessions"))
    assert (snapshot.population, snapshot.n, snapshot.at) == ("everybody", 10, NOW)
    alone = rows.take(np.flatnonzero(rows.users == "u9"))
    assert rules.evaluate(alone, NOW, features=COMPUTED.compute(alone, NOW)).column("longest_sessions").all()
    _, _, crossed = evaluated({"u0": acts((VIEW, DAY, 12))}, rules=rules)  # lives on against the bound as it was
    assert crossed.column("longest_sessions").all()


def test_valuable_customers_who_often_abandon():
    logs = {f"u{k}": orders((DAY, 10 * k)) + acts((ADD, 2 * DAY, 4 if k % 2 else 3)) for k in range(1, 11)}
    rows, matrix, _ = evaluated(logs)
    rules = RULES.fitted(taken(RULES, lambda work: [work(rows, matrix, {})], NOW))
    inside = rules.evaluate(rows, NOW, features=matrix).column("valuable_abandoners")
    assert set(rows.users[inside]) == {"u9"}


class Scores:
    threshold, cluster, distances, names, computed_at = 0.4, None, None, (), None

    def __init__(self, *probability):
        self.probability = np.array(probability)


def test_likely_buyers_reach_the_models_threshold_and_the_holdout_is_one_in_twenty():
    logs = {f"u{k}": acts((VIEW, DAY)) for k in range(2)}
    _, _, truths = evaluated(logs, scores={"purchase_7d": Scores(0.4, 0.39)})
    assert truths.column("likely_buyers").tolist() == [True, False]
    rows, _, _ = evaluated({"ann": acts((VIEW, DAY))})
    many = rows.take(np.zeros(4000, np.int64))
    many = type(many)(SCHEMA, np.array([f"u{k}" for k in range(4000)], object), many.slots, many.starts, many.ends)
    share = (RULES.evaluate(many, NOW).values[:, RULES.names.index("holdout")] == TRUE).mean()
    assert 0.035 < share < 0.065


def test_no_segment_of_the_shop_is_without_a_case():
    shown = {*CASES, *RFM, "mobile_europe_business_hours", "longest_sessions", "valuable_abandoners"}
    assert set(RULES.names) == shown | {"likely_buyers", "holdout"}
