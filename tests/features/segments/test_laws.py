"""The laws of segments: the evaluator and the naive interpreter agree on random conditions, histories and instants."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.behaviour.carry import fold_carry
from features.behaviour.histories import Histories
from features.behaviour.lifetime import boundary_of
from features.instants import DAY, HOUR, MINUTE, NEVER, parse_instant
from features.segments.program import TRUE, Snapshot
from tests.features.segments.naive import Naive
from tests.features.segments.shop import DECLARED, FEATURES, PLAN, SETTINGS, histories, segment_set

NOW = parse_instant("2026-03-31T01:00:00")
"""London's clocks have just gone forward."""

SPANS = ["30m", "1h", "2h", "1d", "2d", "7d"]
EDGES = [0, 30 * MINUTE, HOUR, 2 * HOUR, DAY, 2 * DAY, 7 * DAY, 40 * DAY]
carts = st.sampled_from(["a", "b"])
prices = st.integers(0, 300).map(lambda cents: cents / 100)


@st.composite
def events(draw):
    name = draw(st.sampled_from(["page_viewed", "add", "view", "view", "buy", "identify"]))
    ago = draw(
        st.one_of(
            st.tuples(st.sampled_from(EDGES), st.sampled_from([-1, 0, 1])).map(sum),
            st.integers(0, 20).map(lambda n: n * 10 * MINUTE),
            st.integers(0, 45 * 24).map(lambda hours: hours * HOUR),
        )
    )
    values = {
        "page_viewed": {"section": st.sampled_from(["tech", "fun"]), "cart_id": carts},
        "add": {"cart_id": carts, "price": prices},
        "view": {"cart_id": carts},
        "buy": {"cart_id": carts, "revenue": prices},
        "identify": {"country": st.sampled_from(["DE", "UK"]), "age": st.integers(18, 20)},
    }[name]
    ts = NOW - ago
    known = ts + draw(st.sampled_from([0, 0, 0, 0, HOUR]))
    removed = draw(st.sampled_from([None] * 9 + [HOUR]))
    return {
        "event": name,
        "ts": ts,
        "known": known,
        "until": None if removed is None else known + removed,
        "seq": draw(st.integers(0, 1)),
        "properties": {key: draw(value) for key, value in values.items() if draw(st.integers(0, 5))},
    }


logs = st.lists(events(), max_size=14).map(lambda log: [{**event, "id": k} for k, event in enumerate(log)])

names = st.sampled_from(["page_viewed", "add", "view", "buy", "any", ["add", "view"]])
spans = st.sampled_from(SPANS)
floors = st.one_of(st.none(), st.sampled_from([{"gte": 2}, {"gt": 1}, {"gte": 1}, 2, {"eq": 0}, {"lt": 2}]))
ranges = st.sampled_from([{"gte": 2}, {"eq": 0}, {"lte": 1}, 1, {"ne": 1}, {"between": [1, 2]}, {"in": [0, 2]}])


texts = st.sampled_from(
    [{"contains": "e"}, {"starts_with": "te"}, {"ends_with": "n"}, {"regex": "^t.*h$"}, {"contains": "c", "ne": "tech"}]
)


@st.composite
def kinds(draw):
    said = {"event": draw(names)}
    if said["event"] == "add" and draw(st.booleans()):
        said["where"] = {"price": draw(st.sampled_from([{"gte": 1.5}, {"exists": False}, {"lt": 1}]))}
    if said["event"] == "page_viewed" and draw(st.booleans()):
        said["where"] = {"section": draw(texts)}
    if said["event"] in ("view", "buy") and draw(st.booleans()):
        said["where"] = {"cart_id": draw(st.sampled_from(["a", {"ne": "a"}, {"in": ["b"]}]))}
    return said


@st.composite
def windows(draw):
    kind = draw(st.sampled_from(["last", "last", "ago", "between", "since_first_seen", "session", "calendar", ""]))
    return {
        "last": {"last": draw(spans)},
        "ago": {"ago": draw(st.sampled_from([{"from": "7d", "to": "1d"}, {"from": "2d", "to": "1h"}]))},
        "between": {
            "between": draw(
                st.sampled_from(
                    [
                        {"from": "2026-03-24", "to": "2026-03-30T01:00:00"},
                        {"from": "2026-02-20", "to": "2026-03-29T00:00:00"},
                    ]
                )
            )
        },
        "since_first_seen": {"since_first_seen": draw(spans)},
        "session": {"session": "current"},
        "calendar": {"calendar": draw(st.sampled_from(["day", "week", "month"]))},
        "": {},
    }[kind]


def counted(said, window, count):
    return {**said, **window, **({} if count is None else {"count": count})}


dids = st.builds(counted, kinds(), windows(), st.one_of(st.none(), ranges))


@st.composite
def sequences(draw):  # noqa: C901 - every kind of step
    said = {
        "match": draw(st.sampled_from(["any", "first", "last"])),
        "scope": draw(st.sampled_from(["user", "session"])),
    }
    if draw(st.booleans()):
        said["same"] = draw(st.sampled_from(["cart_id", ["cart_id"]]))
    if draw(st.booleans()):
        said["max_duration"] = draw(spans)
    if draw(st.integers(0, 3)) == 0:
        said["last"] = draw(spans)
    steps = []
    for place in range(draw(st.integers(1, 4))):
        absent = place > 0 and draw(st.booleans())
        names = ["add", "view", "buy", "page_viewed"] if "same" in said else ["add", "view", "buy", "any"]
        event = {"event": draw(st.sampled_from(names))}
        if draw(st.integers(0, 4)) == 0:
            event |= draw(windows())
        if absent:
            count = draw(st.sampled_from([None, None, {"gte": 2}]))
            step = {"not": event if count is None else {**event, "count": count}}
            step |= draw(st.sampled_from([{"within": "1h"}, {"within": "1d"}, {"until_next": True}]))
            if "within" in step and draw(st.booleans()):
                step["of"] = "first"
        else:
            count = draw(st.sampled_from([None, None, None, {"gte": 2}, {"between": [1, 2]}, {"lt": 2}, {"eq": 0}]))
            step = counted(event, {}, count if place or count != {"eq": 0} else None)
            if place == 0 and count == {"lt": 2}:
                step.pop("count")
            if draw(st.booleans()) or (count in ({"between": [1, 2]}, {"lt": 2}, {"eq": 0})):
                step["within"] = draw(spans)
            if place and draw(st.integers(0, 2)) == 0:
                step["of"] = "first"
            if draw(st.integers(0, 4)) == 0 and count in (None, {"gte": 2}):
                step["immediately"] = True
        steps.append(step)
    positive = [k for k, s in enumerate(steps) if "not" not in s and s.get("count") not in ({"eq": 0}, {"lt": 2})]
    for k, step in enumerate(steps):
        if step.get("until_next") and k > positive[-1]:
            del step["until_next"]
            step["within"] = "1d"
    return {"sequence": {**said, "steps": steps}}


@st.composite
def figures(draw):
    window = draw(windows())
    agg = draw(st.sampled_from(["count", "sum", "min", "last", "first", "max", *(["mean"] if window else [])]))
    if agg == "count":
        return {**draw(kinds()), **window}
    return {"event": "buy", "agg": agg, "property": "revenue", **window}


@st.composite
def comparisons(draw):
    right = draw(st.one_of(st.integers(0, 3), figures()))
    op = draw(st.sampled_from(["gt", "gte", "lt", "lte", "eq", "ne"]))
    return {
        "compare": {"left": draw(figures()), "op": op, "right": right, "factor": draw(st.sampled_from([1, 2, 0.5]))}
    }


regular = st.fixed_dictionaries(
    {
        "event": st.sampled_from(["any", "view"]),
        "at_least": st.integers(1, 2),
        "per": spans,
        "in": st.sampled_from([{"min": 1, "of": 3}, {"min": 2, "of": 3}]),
    }
)
BOUNDS = {
    "count_any_7d": (0, 1, 1, 3),
    "count_buy_20d": (0, 1, 2, 3),
    "sum_buy_revenue_7d": (0.5, 1.0, 1.5, 2.0),
    "sum_buy_revenue_20d": (0.5, 1.0, 2.0, 4.0),
    "recency_any_s": (1800, 3600, 7200, 86400),
    "recency_buy_s": (3600, 86400, 86400, 604800),
    "tenure_any_s": (3600, 86400, 604800, 1209600),
}
"""The percentiles 20, 40, 60 and 80 of a population; of other features none were taken."""
CALLS = [
    {},
    {"device": "mobile", "timezone": "UTC", "page": {"path": "/cart/7", "depth": 3}},
    {"device": "tablet", "timezone": "America/New_York", "page": "home"},
    {"continent": "EU", "timezone": "Asia/Kathmandu", "weekday": "sun"},
]
calls = st.sampled_from(
    [
        {"device": "mobile"},
        {"device": {"ne": "mobile"}, "continent": {"exists": False}},
        {"device": {"contains": "bi"}},
        {"device": {"in": ["mobile", "desktop"]}, "page.path": {"ends_with": "7"}},
        {"page.path": {"starts_with": "/cart"}},
        {"page.path": {"regex": r"^/cart/\d+$"}},
        {"page.depth": {"gte": 3}},
        {"page.depth": {"lt": "3"}},
        {"local_time": {"between": ["09:00", "18:00"]}},
        {"local_time": {"between": ["22:00", "06:00"]}, "weekday": {"not_in": ["sat", "sun"]}},
        {"weekday": {"in": ["mon", "tue"]}},
    ]
)
fifths = st.sampled_from([5, {"gte": 4}, {"lte": 2}, {"in": [1, 3, 5]}])
percentiles = st.builds(
    lambda feature, key, q: {"feature": feature, key: q},
    st.sampled_from([*BOUNDS, "mean_add_price_7d"]),
    st.sampled_from(["gte", "lte"]),
    st.sampled_from([20, 40, 60, 80]),
)
named = st.sampled_from(["bargain", ["lookers"], ["bargain", "lookers"], "others"])
handed_in = st.one_of(
    st.builds(lambda said: {"percentile": said}, percentiles),
    st.builds(
        lambda said: {"rfm": said},
        st.fixed_dictionaries({}, optional=dict.fromkeys("rfm", fifths)).filter(bool),
    ),
    st.builds(
        lambda names, sure: {"cluster": {"study": "behaviour", "in": names, **sure}},
        named,
        st.sampled_from([{}, {"min_confidence": 0.6}, {"min_confidence": 1}]),
    ),
    st.builds(
        lambda bound: {"model": {"study": "purchase_7d", **bound}},
        st.sampled_from([{}, {"gte": 0.35}, {"gt": 0.35}, {"lt": 0.5}, {"gte": 0.2, "lte": 0.5}]),
    ),
    st.builds(
        lambda salt, bound: {"bucket": {"salt": f"s{salt}", **bound}},
        st.integers(0, 99),
        st.sampled_from([{"lt": 0.5}, {"gte": 0.5}, {"gte": 0.2, "lt": 0.8}]),
    ),
    st.builds(lambda said: {"context": said}, calls),
)
leaves = st.one_of(
    handed_in,
    handed_in,
    st.builds(lambda did: {"did": did}, dids),
    st.builds(lambda did: {"did_not": did}, dids),
    st.builds(lambda k, w, n: {"nth": {**k, **w, "n": n}}, kinds(), windows(), st.integers(1, 3)),
    st.builds(lambda said: {"regularly": said}, regular),
    st.builds(lambda k, a, b: {"stopped": {**k, "last": a, "before": b}}, kinds(), spans, spans),
    st.builds(lambda k, a, b: {"resumed": {**k, "last": a, "after_gap": b}}, kinds(), spans, spans),
    comparisons(),
    sequences(),
    sequences(),
    st.sampled_from(
        [
            {"trait": {"country": "DE"}},
            {"trait": {"country": {"ne": "DE"}}},
            {"trait": {"age": {"gte": 19}, "country": {"exists": True}}},
            {"trait": {"country": {"exists": False}}},
            {"trait": {"country": {"contains": "K"}}},
            {"trait": {"country": {"starts_with": "D", "ends_with": "E"}}},
            {"trait": {"country": {"regex": "^.K"}}},
            {"feature": {"count_any_7d": {"gte": 3}}},
            {"feature": {"recency_buy_s": {"lt": 86400}}},
            {"feature": {"recency_any_s": {"between": [3600, 7200]}}},
            {"feature": {"tenure_any_s": {"gt": 86400}}},
            {"feature": {"mean_add_price_7d": {"ne": 1}}},
            {"feature": {"sum_buy_revenue_7d": {"gt": 1}, "mean_add_price_7d": {"exists": False}}},
        ]
    ),
)


def joined(children):
    several = st.lists(children, min_size=1, max_size=3)
    return st.one_of(
        st.builds(lambda key, parts: {key: parts}, st.sampled_from(["all", "any", "none"]), several),
        st.builds(lambda part: {"not": part}, children),
        st.builds(lambda part: {"not": part, "unknown": False}, children),
        st.builds(lambda one, other: {**one, **other}, children, children),
    )


conditions = st.recursive(leaves, joined, max_leaves=4)


@st.composite
def documents(draw):
    """Four segments, of which the last refers to others."""
    segments = {f"s{k}": {"when": draw(conditions)} for k in range(3)}
    segments["s3"] = {"when": {"any": [{"none": [{"segment": "s0"}]}, {"segment": "s1"}]}}
    return segments


def scored(log, at):
    """What models say, by how much of the log is known: it changes with an event alone. One may not be served."""
    n = sum(event["known"] <= at for event in log)
    chance = {"probability": (0.1, 0.35, 0.5, 0.9)[n % 4], "threshold": 0.5}
    kind = {"name": ("bargain", "lookers")[n % 2], "confidence": (0.5, 0.6, 1.0)[n % 3]}
    told = {"purchase_7d": chance, "behaviour": kind}
    return {study: score for study, score in told.items() if len(log) % 5 != len(study) % 5}


def call_of(log):
    return CALLS[len(log) % len(CALLS)]


def naive(segments, log, at, call=None):
    given = {"cuts": BOUNDS, "scores": scored(log, at), "context": call_of(log), "call": call}
    found = Naive(segments, log, int(at), PLAN, declared=DECLARED, **given, **SETTINGS)
    return [found.member(name) for name in segments]


def given_of(log, at):
    """The same for the evaluator, of the rows of several instants."""
    said = [scored(log, each) for each in at]
    none, scores = dict.fromkeys(("probability", "cluster", "confidence", "distances", "computed_at")), {}
    for study in said[0]:
        told = {key: np.array([each[study][key] for each in said]) for key in said[0][study] if key != "name"}
        names = ("bargain", "lookers")
        if study == "behaviour":
            told["cluster"] = np.array([names.index(each[study]["name"]) for each in said])
        scores[study] = SimpleNamespace(**{**none, "names": names, **told})
    return {"scores": scores, "context": call_of(log)}


def bounded(segments):
    """These segments with the population's bounds."""
    made = segment_set(segments)
    taken = {
        cut.key: BOUNDS[cut.feature] if cut.what == "fifths" else (BOUNDS[cut.feature][int(cut.q) // 20 - 1],)
        for cut in {node.cut for node in made.nodes} - {None}
        if cut.feature in BOUNDS
    }
    return made.fitted({key: Snapshot(values, "", "everybody", 9, NOW) for key, values in taken.items()})


def evaluated(segments, log, at, until=NEVER):
    made = bounded(segments)
    rows = histories(log, made).take(np.zeros(len(at), np.int64))
    matrix = FEATURES.on(made.schema).compute(rows, at)
    return made.evaluate(rows, at, features=matrix, until=until, threads=1, **given_of(log, at.tolist()))


def instants(log):
    """Where something may change, and one microsecond to each side."""
    spans = [0, 30 * MINUTE, HOUR, 2 * HOUR, DAY, 2 * DAY, 7 * DAY, 14 * DAY, 40 * DAY]
    at = {NOW, NOW + HOUR, parse_instant("2026-03-30T23:00:00"), parse_instant("2026-04-01T00:00:00")}
    for event in log:
        at |= {event["ts"] + span for span in spans} | {event["known"]}
    return np.array(sorted({each + step for each in at for step in (-1, 0, 1)}), np.int64)


def assert_agreement(segments, log, at):
    found = evaluated(segments, log, at)
    wanted = [naive(segments, log, each) for each in at]
    assert (found.values == TRUE).tolist() == wanted
    untold = evaluated(segments, log, at, until=None)
    assert untold.values.tolist() == found.values.tolist()
    assert untold.stays.tolist() == found.stays.tolist()


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(documents(), logs, st.randoms(use_true_random=False))
def test_the_evaluator_agrees_with_the_naive_interpreter(segments, log, random):
    at = instants(log).tolist()
    assert_agreement(segments, log, np.sort(random.sample(at, min(len(at), 6))))


@pytest.mark.prove
@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
@given(documents(), logs)
def test_the_evaluator_agrees_with_the_naive_interpreter_at_all_edges(segments, log):
    assert_agreement(segments, log, instants(log))


def assert_stillness(segments, log, now, probes):
    """Between now and next_change no truth changes without an event."""
    log = [e for e in log if e["ts"] <= now and e["known"] <= now and (e["until"] is None or e["until"] <= now)]
    found = evaluated(segments, log, np.array([now], np.int64))
    changes, values = found.changes[0].tolist(), (found.values[0] == TRUE).tolist()
    assert min(changes) > now
    for at in {*(p for p in probes if now < p < max(changes)), *(change - 1 for change in changes if change < NEVER)}:
        told = naive(segments, log, at, call=now)
        for place, change in enumerate(changes):
            assert at >= change or told[place] == values[place], (place, change, at)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(documents(), logs, st.randoms(use_true_random=False))
def test_between_now_and_next_change_no_truth_changes_without_an_event(segments, log, random):
    at = instants(log).tolist()
    assert_stillness(segments, log, random.choice(at), random.sample(at, min(len(at), 6)))


@pytest.mark.prove
@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(documents(), logs, st.randoms(use_true_random=False))
def test_between_now_and_next_change_no_truth_changes_at_any_edge(segments, log, random):
    at = instants(log).tolist()
    assert_stillness(segments, log, random.choice(at), at)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(documents(), logs, st.randoms(use_true_random=False))
def test_changes_up_to_an_instant_are_exact_and_none_is_told_too_late(segments, log, random):
    at = np.array(random.sample(instants(log).tolist(), 4), np.int64)
    until = random.choice(instants(log).tolist())
    exact, told = evaluated(segments, log, at), evaluated(segments, log, at, until=until)
    assert (told.values == exact.values).all()
    soon = exact.changes <= until
    assert (told.changes[soon] == exact.changes[soon]).all()
    assert (told.changes[~soon] > until).all()
    assert (told.changes[~soon] <= exact.changes[~soon]).all()


sliding = st.builds(counted, kinds(), st.builds(lambda last: {"last": last}, spans), ranges)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(sliding, min_size=4, max_size=4), logs, st.randoms(use_true_random=False))
def test_the_next_change_of_a_count_is_exact(said, log, random):
    segments = {f"s{k}": {"when": {"did": did}} for k, did in enumerate(said)}
    now = random.choice(instants(log).tolist())
    log = [e for e in log if e["ts"] <= now and e["known"] <= now and e["until"] is None]
    found = evaluated(segments, log, np.array([now], np.int64))
    for place, change in enumerate(found.changes[0].tolist()):
        if change < NEVER and len(log):
            assert naive(segments, log, change)[place] != (found.values[0, place] == TRUE)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(documents(), logs, st.randoms(use_true_random=False))
def test_states_appended_in_any_order_and_folded_give_the_same_truths(segments, log, random):
    made = bounded(segments)
    user = histories(log, made)
    if not user.n_records:
        return
    at = np.array([NOW + HOUR, NOW + DAY], np.int64)
    records = [user.slots[k].tobytes() for k in range(user.n_records)]
    random.shuffle(records)
    state = Histories.from_states(made.schema, ["ann"], [b"".join(records)])
    folded = fold_carry(state, boundary_of(NOW + HOUR, SETTINGS["horizon"]))
    features = FEATURES.on(made.schema)
    answers = []
    for rows in (user, state, folded):
        rows = rows.take(np.zeros(2, np.int64))
        found = made.evaluate(rows, at, features=features.compute(rows, at), **given_of(log, at.tolist()))
        answers.append((found.values.tolist(), found.changes.tolist()))
    assert answers[0] == answers[1] == answers[2]
