"""Ceiling and floor, on seeds that were not tuned on; what the truth says agrees with the events."""

import numpy as np
import polars as pl
import pytest

from features.instants import DAY
from features.simulate import Shop, Truth, simulate
from training.cuts import CutsSpec

SHOP = Shop(users=5_000, seed=511)


@pytest.fixture(scope="module")
def simulated():
    frames, truths = zip(*simulate(SHOP), strict=True)
    return pl.concat(frames).filter(pl.col("bad").is_null(), pl.col("person") >= 0).unique("message_id"), Truth.concat(
        truths
    )


def test_the_gap_between_floor_and_ceiling_is_clear(simulated):
    _, truth = simulated
    figures = [truth.difficulty(cut) for cut in truth.judged[-6:]]
    floor, ceiling = np.mean([each.floor for each in figures]), np.mean([each.ceiling for each in figures])
    assert 0.60 <= floor <= 0.70
    assert 0.77 <= ceiling <= 0.85
    assert all(0.04 <= each.base_rate <= 0.09 for each in figures)
    assert "the true chance" in str(figures[0])
    assert figures[0].to_dict()["n"] == figures[0].n


def test_true_chances_are_calibrated(simulated):
    _, truth = simulated
    known = truth.propensity.filter(pl.col("ordered").is_not_null())
    for (level,), rows in known.group_by("level"):
        expected, spread = rows["propensity"].sum(), np.sqrt((rows["propensity"] * (1 - rows["propensity"])).sum())
        assert abs(rows["ordered"].sum() - expected) < 5 * spread, level


def test_cuts_are_weekly_back_from_the_end_and_those_of_a_study(simulated):
    events, truth = simulated
    assert truth.cuts[-1] == SHOP.end
    assert set(range(SHOP.end, SHOP.start, -7 * DAY)) <= set(truth.cuts)
    spec = CutsSpec.from_dict({"every": "7d", "last": 6})
    of_study = spec.resolve((events["ts"].min(), events["ts"].max()), horizon=7 * DAY, blind_spot=0)
    assert {*of_study.train, *of_study.validation, *of_study.test} <= set(truth.judged)
    last = truth.propensity.filter(pl.col("cut") == SHOP.end)
    assert last["ordered"].null_count() == last.height


def test_who_ordered_is_who_has_an_order_among_the_events(simulated):
    events, truth = simulated
    cut = truth.judged[-1]
    orders = events.filter(pl.col("event") == "order_completed", pl.col("ts") > cut, pl.col("ts") <= cut + 7 * DAY)
    users = orders.join(truth.people.select("person", "user"), on="person")["user"].unique()
    said = truth.propensity.filter(pl.col("cut") == cut, pl.col("ordered"))["user"]
    before = truth.propensity.filter(pl.col("cut") == cut)["user"]
    assert set(said) == set(users) & set(before)


def test_everybody_has_one_row_and_their_ids_are_theirs_alone(simulated):
    events, truth = simulated
    assert truth.people.height == SHOP.users == events["person"].n_unique()
    ids = truth.people.explode("ids")["ids"]
    assert ids.n_unique() == ids.len()
    assert truth.people["user"].n_unique() == SHOP.users


def test_revenue_and_sessions_of_the_last_days_are_those_of_the_events(simulated):
    events, truth = simulated
    late = events.filter(pl.col("ts") >= SHOP.end - 28 * DAY)
    assert truth.people["revenue_28d"].sum() == pytest.approx(late["p_revenue"].sum())
    assert (
        truth.people.filter(pl.col("sessions_28d") > 0).height
        == late.filter(~pl.col("event").is_in(["order_refunded"]))["person"].n_unique()
    )
