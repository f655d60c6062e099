"""The laws of behaviour: batch, appends, one request and the naive oracle give the same numbers, bit for bit."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.behaviour.carry import fold_carry
from features.behaviour.histories import Histories
from features.behaviour.lifetime import boundary_of
from features.instants import DAY, HOUR, MINUTE, parse_instant
from tests.features.behaviour.oracle import Oracle
from tests.features.behaviour.shop import DECLARED, FEATURES, INPUTS, KINDS, PLAN, SETTINGS, histories

SPRING = parse_instant("2026-03-29T01:00:00")
"""London's clocks go forward; the logs lie around it."""

EDGES = [0, HOUR, DAY, 2 * DAY, 7 * DAY, 20 * DAY, 28 * DAY, 29 * DAY, 30 * MINUTE, 23 * HOUR]
ago = st.one_of(
    st.tuples(st.sampled_from(EDGES), st.sampled_from([-1, 0, 1])).map(sum),
    st.integers(0, 45 * 24).map(lambda hours: hours * HOUR),
    st.integers(0, 45 * DAY),
    st.integers(0, 4 * HOUR),
    st.integers(0, 40).map(lambda steps: steps * 10 * MINUTE),
)
prices = st.integers(-5, 2000).map(lambda cents: cents / 100)


@st.composite
def events(draw: st.DrawFn) -> dict:
    """One event, known at once or late."""
    name = draw(st.sampled_from(["page_viewed", "product_viewed", "order_completed", "order_completed", "identify"]))
    ts = SPRING + 2 * DAY - draw(ago)
    values = {
        "page_viewed": {"seconds": st.integers(0, 100)},
        "product_viewed": {
            "product_id": st.sampled_from("abc"),
            "price": prices,
            "pieces": st.integers(1, 30).map(lambda tenths: tenths / 10),
        },
        "order_completed": {"revenue": prices, "gift": st.booleans()},
        "identify": {"country": st.sampled_from(["de", "fr"]), "vip": st.booleans()},
    }[name]
    values["device"] = st.sampled_from(["mobile", "desktop", "tablet"])
    known = ts + draw(st.sampled_from([0, 0, 0, 1, HOUR, 3 * DAY, -HOUR]))
    removed = draw(st.sampled_from([None, None, None, None, 0, 1, DAY]))
    return {
        "event": name,
        "ts": ts,
        "known": known,
        "until": None if removed is None else known + removed,
        "seq": draw(st.integers(0, 2)),
        "consent": draw(st.sampled_from([None, None, 0, 5, 7])),
        "offset": draw(st.sampled_from([0, 60, -480])),
        "properties": {key: draw(value) for key, value in values.items() if draw(st.integers(0, 4))},
    }


@st.composite
def logs(draw: st.DrawFn, *, copies: bool = True) -> list[dict]:
    """One user's log in any order: late events, ties, removals, copies that say another ts."""
    log = [{**event, "id": place} for place, event in enumerate(draw(st.lists(events(), max_size=24)))]
    again = draw(st.lists(st.sampled_from(log), max_size=4)) if log and copies else []
    times = st.sampled_from([0, 1, -DAY, DAY])
    log += [redelivered(event, draw(st.integers(1, 3 * DAY)), ts=draw(times)) for event in again]
    return draw(st.permutations(log))


def redelivered(event: dict, later: int, *, ts: int = 0) -> dict:
    """The event once more: known later, its clock perhaps corrected otherwise."""
    return {**event, "known": event["known"] + later, "ts": event["ts"] + ts}


def edges(log: Sequence[dict]) -> np.ndarray:
    """Every instant at which something may change, and one microsecond to each side."""
    windows = [0, HOUR, DAY, 2 * DAY, 7 * DAY, 20 * DAY, 28 * DAY, 30 * MINUTE]
    at = {SPRING, SPRING + 2 * DAY}
    for event in log:
        at |= {event["ts"] + window for window in windows} | {event["known"]} | {event["until"] or SPRING}
        at.add((event["ts"] // DAY + 1) * DAY + SETTINGS["horizon"])
    return np.array(sorted({instant + step for instant in at for step in (-1, 0, 1)}), np.int64)


def oracle(log: Sequence[dict], at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(values, capped) of a row for each instant."""
    answers = [Oracle(log, int(instant), PLAN, kinds=KINDS, **SETTINGS) for instant in at]
    named = [answer.features(INPUTS + DECLARED) for answer in answers]
    rows = [[values[name] for name in FEATURES.names] for values in named]
    return np.array(rows), np.array([answer.capped for answer in answers])


def computed(log: Sequence[dict], at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same by the kernels; a user of whom nothing is kept has a row too."""
    return rows_of(histories(list(log)), at)


def rows_of(user: Histories, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(values, capped) of a user's only row, repeated for each instant."""
    if not len(user):
        user = Histories.from_states(FEATURES.schema, ["ann"], [b""])
    matrix = FEATURES.compute(user.take(np.zeros(len(at), np.int64)), at)
    return matrix.values, matrix.capped


def assert_same(one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> None:
    """Equal to the bit; the message names the features that are not."""
    rows, columns = np.nonzero(one[0].view(np.int64) != other[0].view(np.int64))
    differing = {FEATURES.names[c]: (one[0][r, c], other[0][r, c], int(r)) for r, c in zip(rows, columns, strict=True)}
    assert not differing
    assert one[1].tolist() == other[1].tolist()


@settings(max_examples=40, deadline=None)
@given(logs(), st.randoms(use_true_random=False))
def test_batch_equals_the_naive_oracle_around_edges(log: list[dict], random) -> None:
    at = edges(log).tolist()
    at = np.sort(random.sample(at, min(len(at), 60)))
    assert_same(computed(log, at), oracle(log, at))


@pytest.mark.integration
@settings(max_examples=10, deadline=None)
@given(logs())
def test_batch_equals_the_naive_oracle_at_all_edges(log: list[dict]) -> None:
    at = edges(log)
    assert_same(computed(log, at), oracle(log, at))


@pytest.mark.prove
@settings(max_examples=300, deadline=None)
@given(logs())
def test_batch_equals_the_naive_oracle_at_all_edges_of_many_logs(log: list[dict]) -> None:
    at = edges(log)
    assert_same(computed(log, at), oracle(log, at))


@settings(max_examples=60, deadline=None)
@given(logs(), st.randoms(use_true_random=False), st.integers(0, 30))
def test_states_appended_in_any_order_equal_batch(log: list[dict], random, cut: int) -> None:
    user = histories(log)
    at = edges(log)
    if not len(user):
        return
    records = [user.slots[k].tobytes() for k in range(user.n_records)]
    random.shuffle(records)
    base, tail = b"".join(records[:cut]), b"".join(records[cut:])
    state = Histories.from_states(FEATURES.schema, ["ann"], [base + tail])
    assert_same(rows_of(state, at), rows_of(user, at))


@settings(max_examples=60, deadline=None)
@given(logs(), st.data())
def test_splitting_the_log_and_merging_the_states_changes_nothing(log: list[dict], data: st.DataObject) -> None:
    side = data.draw(st.lists(st.booleans(), min_size=len(log), max_size=len(log)))
    parts = [[e for e, s in zip(log, side, strict=True) if s == which] for which in (True, False)]
    states = [user.state(0) if len(user := histories(part)) else b"" for part in parts]
    merged = Histories.from_states(FEATURES.schema, ["ann"], [b"".join(states)])
    at = edges(log)
    assert_same(rows_of(merged, at), computed(log, at))


@settings(max_examples=60, deadline=None)
@given(logs(), st.data())
def test_redelivering_any_event_changes_nothing(log: list[dict], data: st.DataObject) -> None:
    at = edges(log)
    again = data.draw(st.lists(st.sampled_from(log), max_size=5)) if log else []
    copies = [redelivered(e, data.draw(st.integers(0, 9 * DAY))) for e in again]
    assert_same(computed(log + copies, at), computed(log, at))


@settings(max_examples=60, deadline=None)
@given(logs(), logs(copies=False))
def test_what_happens_or_becomes_known_after_at_changes_nothing(log: list[dict], others: list[dict]) -> None:
    at = SPRING + DAY
    after = [at + 1 + abs(e["ts"] - at) for e in others]
    happened = [{**e, "id": 100 + k, "ts": ts} for k, (e, ts) in enumerate(zip(others, after, strict=True))]
    known = [{**e, "id": k, "known": ts, "until": None} for k, (e, ts) in enumerate(zip(others, after, strict=True))]
    assert_same(computed(log + happened + known, np.array([at])), computed(log, np.array([at])))


@settings(max_examples=60, deadline=None)
@given(logs(), st.integers(-25, 5))
def test_a_carry_and_what_came_after_it_equal_the_whole_history(log: list[dict], day: int) -> None:
    user = histories(log)
    boundary = boundary_of(SPRING + day * DAY, 0)
    folded = fold_carry(user, boundary)
    settled = max([e["known"] for e in log] + [e["until"] or 0 for e in log], default=SPRING)
    first = max(settled, boundary + SETTINGS["horizon"])
    at = np.unique(np.maximum(np.concatenate([edges(log), [first, first + DAY]]), first))
    if len(user):
        assert_same(rows_of(folded, at), rows_of(user, at))
        again = fold_carry(folded, boundary + 3 * DAY)
        at = at + 3 * DAY
        assert_same(rows_of(again, at), rows_of(user, at))


def test_threads_and_one_thread_give_the_same_matrix() -> None:
    random = np.random.default_rng(3)
    names = ["page_viewed", "product_viewed", "order_completed"]
    log = [
        {"user": f"u{random.integers(500)}", "event": names[random.integers(3)], "ts": SPRING - int(ago)}
        for ago in random.integers(0, 30 * DAY, 3000)
    ]
    many = histories(log)
    rows = many.take(random.integers(0, len(many), 60_000))
    at = SPRING - random.integers(0, 20 * DAY, len(rows))
    one, two = FEATURES.compute(rows, at, threads=1), FEATURES.compute(rows, at, threads=4)
    assert_same((one.values, one.capped), (two.values, two.capped))
