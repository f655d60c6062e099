"""No skew: batch over the log, appends one by one, and the answers of requests hold the same bits."""

from contextlib import nullcontext

import numpy as np
import pytest

from features.behaviour.matrix import FeatureMatrix
from features.instants import DAY, HOUR, MINUTE, SECOND
from serving.scorer import Scorer
from tests.serving import shop
from tests.serving.servers import redis_server
from tests.serving.test_store import House

VIEWED, PRICE, REVENUE = "product_viewed.product_id", "product_viewed.price", "order_completed.revenue"
KINDS, WINDOWS = ["page_viewed", "product_viewed", "order_completed"], ["1h", "1d", "7d", "30d"]
FEATURES = {
    "features": [
        {"count": ["any", *KINDS], "windows": [*WINDOWS, "lifetime"]},
        {**dict.fromkeys(("sum", "min", "max", "first", "last"), REVENUE), "windows": [*WINDOWS, "lifetime"]},
        {**dict.fromkeys(("mean", "std", "median"), PRICE), "distinct": VIEWED, "windows": WINDOWS},
        {"mode": VIEWED, "values": ["x", "y"], "windows": WINDOWS},
        {"top_share": VIEWED, "k": 2, "windows": WINDOWS},
        {"count": "product_viewed", "where": {"price": {"gt": 50}}, "as": "dear", "windows": WINDOWS},
        {"recency": ["any", *KINDS]},
        {"tenure": "any"},
        {"active_days": ["any", "order_completed"], "mean_interval": "any", "windows": WINDOWS[1:]},
        {"interval_variation": "any", "longest_streak": "any", "windows": WINDOWS[1:]},
        {"streak": "any"},
        {"sessions": {"gap": "30m", "pauses": True}, "in_session": {"count": KINDS}, "windows": WINDOWS},
        {"current_session": {"count": ["any"], "distinct": VIEWED}},
        {"dwell": "any", "mean_dwell": "product_viewed", "windows": WINDOWS},
        {"transitions": KINDS, "windows": ["7d"]},
        {"ngrams": [KINDS[:2], KINDS[1:]], "patterns": [KINDS], "entropy": KINDS, "windows": WINDOWS},
        {"funnel": KINDS, "within": "1d", "windows": WINDOWS[1:]},
        {"weekdays": "any", "hours": "any", "bands": {"night": [22, 6], "day": [6, 22]}, "windows": ["30d"]},
        {"decayed_count": "any", "decayed_sum": REVENUE, "half_life": "7d"},
        {"rage_clicks": VIEWED, "clicks": 2, "within": "5m", "dead_clicks": "any", "windows": ["7d"]},
        {"abandoned_carts": {"added": "product_viewed", "bought": "order_completed"}, "windows": WINDOWS[1:]},
        {"trend": ["any"]},
    ]
}


def arrivals(n_users, n_days, seed):
    """(when it arrives, message): visits, 5 % up to three days late, 2 % twice, the rest shuffled by ten minutes."""
    random, sent = np.random.default_rng(seed), []
    for user in range(n_users):
        for visit in random.integers(0, n_days * DAY, random.integers(2, 9)):
            for place, pause in enumerate(random.integers(SECOND, 20 * MINUTE, random.integers(1, 8)).cumsum()):
                ts, kind = shop.NOW + int(visit + pause), KINDS[random.integers(3)]
                given = {"revenue": random.integers(1, 9999) / 100} if kind == "order_completed" else {}
                if kind == "product_viewed":
                    given = {"product_id": "xyz"[random.integers(3)], "price": random.integers(1, 9999) / 100}
                late = random.integers(3 * DAY) if random.random() < 0.05 else random.integers(10 * MINUTE)
                message = shop.message(f"u{user}", kind, ts, given, messageId=f"{user}-{visit}-{place}")
                sent.append((ts + int(late), message))
                if random.random() < 0.02:
                    sent.append((ts + int(late) + int(random.integers(2 * DAY)), message))
    return sorted(sent, key=lambda each: each[0])


@pytest.mark.parametrize(
    ("n_users", "n_days", "step"), [(8, 4, 12 * HOUR), pytest.param(100, 40, 16 * HOUR, marks=pytest.mark.prove)]
)
def test_batch_appends_and_requests_hold_the_same_bits(tmp_path, record_property, n_users, n_days, step):
    bundle = shop.bundle_in(tmp_path, definitions=FEATURES)
    house = House(tmp_path / "house", shop.TrackingPlan.read(bundle.path / "plan.yaml"), bundle.features)
    house.fill()
    scorer, users, asked = Scorer(bundle, house.store), [f"u{k}" for k in range(n_users)], []
    due = shop.NOW + step
    for when, message in [*arrivals(n_users, n_days, seed=11), (shop.NOW + (n_days + 4) * DAY, None)]:
        while due < when:
            appended = house.online(users, due)
            asked.append((due, appended, [scorer.answer(user, due).values for user in users]))
            due += step
        if message:
            house.received = when
            house.take([message], after=0)
    house.roller.roll()
    log = house.log.histories(bundle.features.schema)
    n_values = sum(_compared(bundle.features.compute(log, at), *online) for at, *online in asked)
    house.store.close()
    record_property("values", n_values)
    assert n_values > (1_000_000 if n_users == 100 else 10_000)


@pytest.mark.integration
@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_answers_about_ten_thousand_users_are_what_batch_computes(tmp_path, kind):
    """Half of the events come from the log, half are appended: features to the bit, scores to 1e-6."""
    n_users, random = 10_000, np.random.default_rng(5)
    bundle = shop.bundle_in(tmp_path, definitions=FEATURES)
    plan = shop.TrackingPlan.read(bundle.path / "plan.yaml")
    with nullcontext() if kind == "sqlite" else redis_server() as server:
        house = House(tmp_path / "house", plan, bundle.features, f"{server[0]}?socket_timeout=10" if server else "")
        for part in range(4):
            if part == 2:
                house.roller.roll()
                house.fill()
            ages, events = random.integers(0, 80 * DAY, n_users), random.integers(3, size=n_users)
            sent = [
                shop.message(f"u{user}", KINDS[events[user]], shop.NOW - int(ages[user]), messageId=f"{part}-{user}")
                for user in range(n_users)
            ]
            house.take(sent)
        scorer, at = Scorer(bundle, house.store), house.received
        users = [f"u{user}" for user in range(n_users)]
        answers = [each for start in range(0, n_users, 64) for each in scorer.answers(users[start : start + 64], at)]
        house.roller.roll()
        house.store.close()
    histories = house.log.histories(bundle.features.schema, users=users)
    matrix = bundle.features.compute(histories, at)
    places = {user: row for row, user in enumerate(matrix.users)}
    rows = [places[answer.user] for answer in answers]
    assert {answer.source for answer in answers} == {"live"}
    np.testing.assert_array_equal(
        np.stack([answer.values for answer in answers]).view(np.int64), matrix.values[rows].view(np.int64)
    )
    scores = bundle.score_matrix(matrix)
    probability = [answer.verdict.scores["purchase_7d"]["probability"] for answer in answers]
    np.testing.assert_allclose(probability, scores["purchase_7d"].probability[rows], rtol=0, atol=1e-6)
    clusters = [answer.verdict.scores["behaviour"]["cluster"] for answer in answers]
    np.testing.assert_array_equal(clusters, scores["behaviour"].cluster[rows])


def _compared(batch: FeatureMatrix, appended: FeatureMatrix, answered: list) -> int:
    """Every bit of what was answered, and how many values that were."""
    rows = {user: row for row, user in enumerate(batch.users)}
    n_values = 0
    for row, values in enumerate(answered):
        if values is None:
            continue
        expected = batch.values[rows[appended.users[row]]].view(np.int64)
        np.testing.assert_array_equal(expected, appended.values[row].view(np.int64))
        np.testing.assert_array_equal(expected, values.view(np.int64))
        n_values += len(values)
    return n_values
