import numpy as np
import polars as pl
import pytest

from experiments.ab import analyze
from experiments.arms import read
from features.draws import place
from features.errors import DefinitionError
from features.instants import DAY
from features.simulate import Shop, Truth, live_day, simulate

SHOP = Shop(users=9_000, days=10, seed=711)


@pytest.fixture(scope="module")
def truth():
    return Truth.concat([truth for _, truth in simulate(SHOP)])


@pytest.fixture(scope="module")
def day(truth):
    return live_day(SHOP, truth)


@pytest.fixture(scope="module")
def week(truth):
    return live_day(SHOP, truth, days=7, everybody=False, exposures=False)


def test_the_planted_effect_is_found(day, tmp_path):
    check_effect(day, tmp_path)


def test_the_planted_effect_is_found_over_a_week_as_people_come(week, tmp_path):
    check_effect(week, tmp_path)


def check_effect(day, tmp_path):
    day.write(tmp_path)
    result = analyze(
        read(tmp_path / "outcomes.csv"), variant="variant", control="A", metrics=["converted"], user="user"
    )
    assert result.sample_ratio.holds
    table = day.table.group_by("variant").agg(pl.col("converted").mean(), pl.len()).sort("variant")
    (control, treated), (n_a, n_b) = table["converted"], table["len"]
    error = np.sqrt(control * (1 - control) / n_a + treated * (1 - treated) / n_b)
    assert abs(treated - control - day.planted.difference) < 3 * error
    assert day.planted.difference > 2.5 * error
    assert abs(control - day.planted.control) < 4 * np.sqrt(control / n_a)


def test_without_a_lift_the_arms_are_alike(truth):
    day = live_day(SHOP, truth, lift=0)
    assert day.planted.difference == 0
    table = day.table.group_by("variant").agg(pl.col("converted").mean(), pl.len())
    low, high = sorted(table["converted"])
    assert high - low < 4 * np.sqrt(0.05 / table["len"].min())


def test_every_user_is_exposed_once_in_the_arm_that_the_hash_says(day):
    seen = day.frame.filter(pl.col("event") == "experiment_viewed").select("user_id", "p_variant")
    assert seen.height == day.table.height == day.table["user"].n_unique()
    said = dict(seen.iter_rows())
    assert all(said[user] == ("B" if place("live", user) >= 0.5 else "A") for user in day.table["user"])


def test_the_table_is_what_the_messages_say(day):
    orders = day.frame.filter(pl.col("event") == "order_completed")
    assert orders["user_id"].n_unique() == day.table["converted"].sum()
    assert orders["p_revenue"].sum() == pytest.approx(day.table["revenue"].sum())
    assert set(day.frame["user_id"]) == set(day.table["user"]) == set(day.people)
    assert day.frame["message_id"].is_unique().all()


def test_who_may_be_asked_about_came_lately_but_not_all_in_the_live_days(week, truth):
    came = set(week.table["user"])
    assert came < set(week.people)
    assert week.people.is_unique().all()
    before = truth.propensity.filter(pl.col("cut") == SHOP.end, pl.col("recency_d") <= 23)["user"]
    assert set(week.people) - came <= set(before)


def test_exposures_are_messages_only_where_asked_for(day, week):
    assert "experiment_viewed" in set(day.frame["event"])
    assert "experiment_viewed" not in set(week.frame["event"])


def test_people_who_come_as_they_do_come_no_oftener_than_before(week):
    rows = week.table.height
    assert 0.5 * rows < len(week.people) < 3 * rows
    days = (week.frame["ts"] - SHOP.end) // DAY
    assert days.is_between(0, 6).all()
    assert days.n_unique() == 7


def test_the_day_follows_the_period_and_its_messages_are_new(day):
    assert day.frame["ts"].is_between(SHOP.end, SHOP.end + DAY).all()
    assert not day.frame["message_id"].is_in(next(iter(simulate(SHOP)))[0]["message_id"].implode()).any()


def test_messages_of_a_few_users_are_theirs_in_order_of_time(day):
    few = list(day.messages(users=7))
    assert {message["userId"] for message in few} == set(day.people.head(7))
    times = [message["timestamp"] for message in few]
    assert times == sorted(times)
    assert not any("sentAt" in message for message in few)


def test_nobody_who_refused_personalisation_is_in_the_test(day, truth):
    refused = truth.people.filter((pl.col("consent").cast(pl.Int64) & 2) == 0)["user"]
    assert len(refused)
    assert not set(refused) & set(day.table["user"])


@pytest.mark.parametrize("lift", [-0.1, 50.0])
def test_an_impossible_lift_is_one_clear_error(truth, lift):
    with pytest.raises(DefinitionError, match="lift"):
        live_day(SHOP, truth, lift=lift, users=500)


def test_a_shop_without_known_people_has_no_live_day(truth):
    nobody = Truth(truth.people.head(0), truth.propensity.head(0), truth.planted)
    with pytest.raises(DefinitionError, match="signed in"):
        live_day(SHOP, nobody)
