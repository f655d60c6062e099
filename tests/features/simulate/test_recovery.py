"""How hard the shop is, on seeds that were not tuned on."""

import numpy as np
import polars as pl
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from features.instants import DAY
from features.simulate import Shop, Truth, most_likely, simulate, type_posterior
from features.simulate.types import NAMES


@pytest.fixture(scope="module", params=[411, 412])
def shop_and_events(request):
    shop = Shop(users=1_500, seed=request.param)
    frames, truths = zip(*simulate(shop), strict=True)
    truth = Truth.concat(truths)
    frame = pl.concat(frames).filter(pl.col("bad").is_null()).unique("message_id")
    return shop, truth, frame.join(truth.people.select("person", "user", "type"), on="person")


def test_the_true_parameters_recover_the_types(shop_and_events):
    shop, truth, events = shop_and_events
    found = most_likely(type_posterior(shop, events.select("user", "event", "ts")))
    both = found.join(truth.people.select("user", planted="type"), on="user")
    assert both.height == shop.users
    assert adjusted_rand_score(both["planted"], both["type"]) >= 0.95


def test_recency_frequency_and_money_do_not_recover_the_types(shop_and_events):
    shop, _, events = shop_and_events
    rfm = events.group_by("user").agg(
        recency=(shop.end - pl.col("ts").max()) / DAY,
        visits=pl.len(),
        orders=(pl.col("event") == "order_completed").sum(),
        money=pl.col("p_revenue").sum(),
        type=pl.col("type").first(),
    )
    for frequency in ("visits", "orders"):
        values = np.log1p(rfm.select("recency", frequency, "money").to_numpy().astype(float))
        values = (values - values.mean(axis=0)) / values.std(axis=0)
        for k in (3, 5):
            labels = KMeans(k, n_init=2, random_state=0).fit_predict(values)
            assert adjusted_rand_score(rfm["type"], labels) <= 0.5


def test_a_posterior_sums_to_one_and_names_the_types(shop_and_events):
    shop, _, events = shop_and_events
    posterior = type_posterior(shop, events.select("user", "event", "ts").head(500))
    assert posterior.columns == ["user", *NAMES]
    assert np.allclose(posterior.select(NAMES).to_numpy().sum(axis=1), 1)


def test_no_events_no_posterior():
    empty = pl.DataFrame(schema={"user": pl.String, "event": pl.String, "ts": pl.Int64})
    assert type_posterior(Shop(users=1, seed=413), empty).height == 0
