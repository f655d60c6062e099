"""Membership: what its options mean, case by case, and the fold against an interpreter that looks at every instant."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.behaviour.schema import MISSING
from features.errors import DefinitionError
from features.instants import DAY, HOUR, parse_duration
from features.segments.membership import CAUSES, EDIT, Moments, States, Terms, fold, step
from features.segments.program import Snapshot
from tests.features.segments.naive import Naive
from tests.features.segments.shop import DECLARED, FEATURES, PLAN, SETTINGS, histories, segment_set
from tests.features.segments.test_laws import NOW, SPANS, counted, kinds, logs, ranges, spans

BEGIN, END = NOW - 3 * DAY, NOW + 2 * DAY


def folded(segments, log, *, begin=BEGIN, end=END, joined=(), bounds=None, probability=None):
    """(segment, instant, whether entered, cause) of one user; `bounds` by `Cut.key`, `probability` of an instant."""
    made = segment_set(segments).fitted(bounds or {})
    rows = histories(log, made)
    features = FEATURES.on(made.schema)

    def judge(places, at):
        mine, scores = rows.take(places), {}
        if probability is not None:
            chances = np.array([probability(each) for each in at.tolist()])
            scores["purchase_7d"] = SimpleNamespace(probability=chances, threshold=0.5)
        return made.evaluate(mine, at, features=features.compute(mine, at), scores=scores, threads=1)

    moments = Moments.of(rows, made.segments, begin, end, {"ann": joined})
    one = np.array([begin], np.int64), np.array([end], np.int64)
    states, found, _ = fold(States.new(1, len(made)), Terms.of(made.segments), judge, moments, *one)
    told = [
        (made.names[k], at, entered, CAUSES[cause])
        for _, k, at, entered, cause in zip(*map(np.ndarray.tolist, found), strict=True)
    ]
    assert states.inside[0].tolist() == [
        sum(1 if e else -1 for n, _, e, _ in told if n == name) == 1 for name in made.names
    ]
    return told


def event(name, ts, id_=0, **properties):
    return {"event": name, "ts": ts, "known": ts, "until": None, "seq": 0, "id": id_, "properties": properties}


def life(when, membership, *events, **options):
    """The changes of one segment, in hours since BEGIN."""
    log = [event(name, BEGIN + int(hours * HOUR), k) for k, (name, hours) in enumerate(events)]
    changes = folded({"s": {"when": when, "membership": membership}}, log, **options)
    return [((at - BEGIN) / HOUR, "in" if entered else "out", cause) for _, at, entered, cause in changes]


ADDED = {"did": {"event": "add", "last": "1d"}}


def test_without_options_a_membership_is_its_truth():
    assert life(ADDED, {"ttl": "30d"}, ("add", 1)) == [(1, "in", "event"), (25, "out", "time")]


def test_after_its_time_one_is_out_until_the_condition_becomes_true_anew():
    again = [("add", 1), ("add", 10), ("add", 40)]
    assert life(ADDED, {"ttl": "6h"}, *again) == [
        (1, "in", "event"),
        (7, "out", "time"),
        (40, "in", "event"),
        (46, "out", "time"),
    ]


def test_an_event_puts_out_at_once_and_only_if_it_came_later_than_the_entry():
    put_out = {"exit_on": [{"event": "buy"}]}
    assert life(ADDED, put_out, ("add", 1), ("buy", 3)) == [(1, "in", "event"), (3, "out", "event")]
    assert life(ADDED, put_out, ("buy", 0.5), ("add", 1)) == [(1, "in", "event"), (25, "out", "time")]


def test_a_cart_at_risk_is_in_a_day_after_it_was_filled_and_out_with_a_purchase_a_minute_later():
    steps = [
        {"event": "add"},
        {"event": "view", "count": {"gt": 2}, "within": "24h"},
        {"not": {"event": "buy"}, "within": "24h", "of": "first"},
    ]
    said = {"ttl": "7d", "exit_on": [{"event": "buy"}], "reentry": {"after": "1d"}}
    looked, minute = [("view", 2), ("view", 3), ("view", 4)], 1 / 64
    when = {"sequence": {"max_duration": "72h", "steps": steps}}
    late = life(when, said, ("add", 1), *looked, ("buy", 25 + minute))
    assert late == [(25, "in", "time"), (25 + minute, "out", "event")]
    assert life(when, said, ("add", 1), *looked, ("buy", 25 - minute)) == []


def test_a_purchase_ends_it_only_where_its_properties_pass():
    log = [
        event("add", BEGIN + HOUR, 0),
        event("buy", BEGIN + 2 * HOUR, 1, cart_id="a"),
        event("buy", BEGIN + 3 * HOUR, 2, cart_id="b"),
    ]
    said = {"when": ADDED, "membership": {"exit_on": [{"event": "buy", "where": {"cart_id": "b"}}]}}
    assert [at - BEGIN for _, at, _, _ in folded({"s": said}, log)] == [HOUR, 3 * HOUR]


def test_one_stays_for_the_minimum_although_the_condition_fails():
    when = {"did": {"event": "add", "last": "1h"}}
    assert life(when, {"min_dwell": "5h"}, ("add", 1)) == [(1, "in", "event"), (6, "out", "time")]
    assert life(when, {"min_dwell": "5h"}, ("add", 1), ("add", 5.5)) == [(1, "in", "event"), (6.5, "out", "time")]


def test_coming_back_waits_or_never_happens():
    when = {"did": {"event": "add", "last": "1h"}}
    twice = [("add", 1), ("add", 4)]
    first = [(1, "in", "event"), (2, "out", "time")]
    assert life(when, {"reentry": {"after": "1h"}}, *twice) == [*first, (4, "in", "event"), (5, "out", "time")]
    assert life(when, {"reentry": {"after": "3h"}}, *twice) == first
    assert life(when, {"reentry": {"after": "150m"}}, *twice) == [*first, (4.5, "in", "time"), (5, "out", "time")]
    assert life(when, {"reentry": {"never": True}}, *twice) == first


def test_a_figure_that_swings_round_its_threshold_gives_one_entry():
    when = {"feature": {"count_view_1d": {"gte": 3}}}
    views = [("view", hour) for hour in (1, 2, 3, 25.5, 26.5)]
    assert [change for *_, change, _ in life(when, {"min_dwell": "1m"}, *views)] == ["in", "out"] * 3
    assert life(when, {"hysteresis": {"exit": 1}}, *views) == [(3, "in", "event"), (50.5, "out", "time")]


def test_a_probability_that_oscillates_round_its_threshold_gives_one_entry():
    """It is looked at every hour, and each time on the other side of the bound to enter, until it is below both."""

    def probability(at):
        hours = (at - BEGIN) // HOUR
        return 0.2 if hours >= 30 else 0.36 if hours % 2 else 0.30

    when = {"model": {"study": "purchase_7d", "gte": 0.35}}
    bare = life(when, {"min_dwell": "1m"}, ("view", 0), probability=probability)
    assert [change for _, change, _ in bare] == ["in", "out"] * 15
    held = life(when, {"hysteresis": {"exit": 0.28}}, ("view", 0), probability=probability)
    assert [(int(hours), change) for hours, change, _ in held] == [(1, "in"), (30, "out")]


def test_a_percentile_that_oscillates_round_its_bound_gives_one_entry():
    when, views = {"percentile": {"feature": "count_view_1d", "gte": 80}}, [("view", h) for h in (1, 2, 3, 25.5, 26.5)]
    bounds = {
        cut.key: Snapshot((3.0 if cut.q == 80 else 2.0,), "", "everybody", 9, BEGIN)
        for said in (80, 60)
        for node in segment_set({"s": {"when": {"percentile": {**when["percentile"], "gte": said}}}}).nodes
        if (cut := node.cut) is not None
    }
    assert len(bounds) == 2
    bare = life(when, {"min_dwell": "1m"}, *views, bounds=bounds)
    assert [change for _, change, _ in bare] == ["in", "out"] * 3
    assert life(when, {"hysteresis": {"exit": 60}}, *views, bounds=bounds) == [
        (3, "in", "event"),
        (49.5, "out", "time"),
    ]


def test_an_id_that_joins_is_a_cause():
    log = [{**event("add", BEGIN - HOUR), "known": BEGIN + HOUR}]
    said = {"s": {"when": ADDED, "membership": {"ttl": "9d"}}}
    assert folded(said, log, joined=[BEGIN + HOUR])[0][3] == "merge"
    assert folded(said, log)[0][3] == "event"


def test_lists_hold_against_the_condition_and_in_references():
    listed = {"when": ADDED, "include": ["ann"]}
    out = {"when": {"did": {"event": "any"}}, "exclude": ["ann"]}
    others = {"when": {"none": [{"segment": "out"}], "all": [{"segment": "s"}]}}
    made = segment_set({"s": listed, "out": out, "others": others})
    truths = made.evaluate(histories([event("view", BEGIN)], made), END)
    assert truths.values[0].tolist() == [2, 0, 2]
    told = made.explain(histories([event("view", BEGIN)], made), END)
    assert told["s"]["in"]
    assert not told["out"]["in"]


def stepped(said, states, at):
    """Ann's states an instant later; she did nothing but add at BEGIN."""
    made = segment_set({"s": {"when": ADDED, **said}})
    rows, one = histories([event("add", BEGIN)], made), np.array([[MISSING]])
    return step(states, Terms.of(made.segments), made.evaluate(rows, at), one, np.array([EDIT]))[0]


def test_who_is_excluded_is_out_at_once_whatever_the_minimum():
    for dwell in ({"min_dwell": "30d"}, {"min_dwell": "30d", "reentry": {"after": "1d"}}, {"ttl": "60d"}):
        states = stepped({"membership": dwell}, States.new(1, 1), BEGIN)
        assert states.inside.all()
        assert stepped({"membership": dwell, "exclude": ["bob"]}, states, BEGIN + HOUR).inside.all()
        out = stepped({"membership": dwell, "exclude": ["ann"]}, states, BEGIN + HOUR)
        assert (out.inside.item(), out.left.item()) == (False, BEGIN + HOUR)
        assert not stepped({"membership": dwell, "exclude": ["ann"]}, out, BEGIN + 20 * DAY).inside.any()
    held = {"membership": {"min_dwell": "30d"}, "include": ["bob"], "exclude": ["eve"]}
    assert stepped(held, stepped(held, States.new(1, 1), BEGIN), BEGIN + 2 * DAY).inside.all()


def test_who_is_included_leaves_by_ttl_and_comes_back_once_taken_off_the_list_and_put_there_again():
    listed, bare = ({"membership": {"ttl": "6h"}, "include": each} for each in (["ann"], []))
    states, later = stepped(listed, States.new(1, 1), BEGIN), BEGIN + 2 * DAY
    assert states.inside.all()
    states = stepped(listed, states, BEGIN + 6 * HOUR)
    assert not states.inside.any()
    assert not stepped(listed, states, later).inside.any()
    assert stepped(listed, stepped(bare, states, later), later + HOUR).inside.all()
    put_out = {"include": ["ann"], "membership": {"exit_on": [{"event": "buy"}]}, "when": ADDED}
    bought = folded({"s": put_out}, [event("buy", BEGIN + hours * HOUR, hours) for hours in (1, 3, 4)])
    assert [(at - BEGIN, entered) for _, at, entered, _ in bought] == [(0, True), (HOUR, False)]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"membership": {}}, "says something"),
        ({"membership": {"ttl": "1h", "min_dwell": "1h"}}, "longer than `min_dwell`"),
        ({"membership": {"reentry": {}}}, "either {after: 1d} or {never: true}"),
        ({"membership": {"exit_on": [{"event": "buyy"}]}}, "did you mean 'buy'"),
        ({"membership": {"exit_on": [{"event": "buy", "count": 2}]}}, "unknown key 'count'"),
        ({"membership": {"hysteresis": {"exit": 1}}}, "needs one threshold"),
        (
            {"when": {"feature": {"count_any_7d": {"gte": 3}}}, "membership": {"hysteresis": {"exit": 4}}},
            "before one enters",
        ),
        ({"when": {"context": {"device": "mobile"}}, "membership": {"ttl": "1h"}}, "known at a call only"),
        ({"include": ["ann"], "exclude": ["ann"]}, "under `exclude`"),
    ],
)
def test_what_could_not_take_effect_is_refused(said, words):
    with pytest.raises(DefinitionError, match=words):
        segment_set({"s": {"when": ADDED, **said}})


def test_no_condition_refers_to_what_only_a_fold_knows():
    said = {"s": {"when": ADDED, "membership": {"ttl": "1h"}}, "t": {"when": {"none": [{"segment": "s"}]}}}
    for order in (said, dict(reversed(said.items()))):
        with pytest.raises(DefinitionError, match="'s' has a `membership`, which no condition knows"):
            segment_set(order)


durations = st.sampled_from(["30m", "2h", "5h", "1d"])
options = st.fixed_dictionaries(
    {},
    optional={
        "min_dwell": st.sampled_from(["20m", "25m"]),
        "ttl": durations,
        "exit_on": kinds().map(lambda kind: [kind]),
        "reentry": st.one_of(durations.map(lambda after: {"after": after}), st.just({"never": True})),
    },
).filter(bool)
sliding = st.builds(counted, kinds(), st.builds(lambda last: {"last": last}, spans), ranges).map(
    lambda did: {"did": did}
)
conditions = st.one_of(sliding, st.builds(lambda one, other: {"any": [one, {"not": other}]}, sliding, sliding))
swinging = st.just(({"feature": {"count_any_7d": {"gte": 3}}}, {"hysteresis": {"exit": 2}}))


def interpreted(when, said, log):
    """The same, told instant by instant: every one at which anything can happen, and every timer."""
    kept = [parse_duration(span) for span in SPANS]
    known = {max(each["ts"], each["known"]) for each in log} | {each["until"] for each in log if each["until"]}
    edges = known | {each["ts"] + span for each in log for span in kept}
    ttl, dwell = (parse_duration(said[key]) if key in said else 0 for key in ("ttl", "min_dwell"))
    again = said.get("reentry", {})
    lower = {"feature": {"count_any_7d": {"gte": said["hysteresis"]["exit"]}}} if "hysteresis" in said else when
    now, told, entered, left, ready = BEGIN, [], None, None, True
    while now <= END:
        user = Naive({"s": {"when": when}, "low": {"when": lower}}, log, now, PLAN, declared=DECLARED, **SETTINGS)
        enters, stays = user.member("s"), user.member("low")
        comes = [e for e in log if max(e["ts"], e["known"]) == now and e["until"] != now] if now > BEGIN else []
        ends = [e for e in comes for kind in said.get("exit_on", []) if user.is_a(e, kind)]
        wait = None if left is None else left + parse_duration(again.get("after", "1s")) * ("after" in again)
        if entered is not None:
            put_out = any(e["ts"] > entered for e in ends)
            if put_out or (ttl and now >= entered + ttl) or (not stays and now >= entered + dwell):
                told.append((now, False))
                entered, left, ready = None, now, False
        elif enters and ready and (left is None or ("never" not in again and now >= wait)):
            told.append((now, True))
            entered = now
        ready = ready or not enters
        timers = (
            [entered + ttl, entered + dwell]
            if entered is not None
            else []
            if left is None
            else [left + DAY, left + parse_duration(again.get("after", "1d"))]
        )
        now = min(each for each in [*edges, *timers, END + 1] if each > now)
    return told


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.one_of(st.tuples(conditions, options), swinging), logs)
def test_the_fold_agrees_with_an_interpreter_that_looks_at_every_instant(segment, log):
    when, said = segment
    changes = folded({"s": {"when": when, "membership": said}}, log)
    assert [(at, entered) for _, at, entered, _ in changes] == interpreted(when, said, log)


@pytest.mark.prove
@settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.one_of(st.tuples(conditions, options), swinging), logs)
def test_the_fold_agrees_with_an_interpreter_on_many_more(segment, log):
    when, said = segment
    changes = folded({"s": {"when": when, "membership": said}}, log)
    assert [(at, entered) for _, at, entered, _ in changes] == interpreted(when, said, log)
