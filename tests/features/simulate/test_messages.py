import polars as pl
import pytest

from features.instants import DAY, MINUTE
from features.simulate import Shop
from features.simulate.messages import message_frame, sign_ins
from features.simulate.people import JOINS, KNOWN, NEVER, draw_people
from features.simulate.visits import simulate_visits

SHOP = Shop(users=2_000, days=45, seed=811)


@pytest.fixture(scope="module")
def made():
    people = draw_people(SHOP, 0, SHOP.users)
    visits = simulate_visits(SHOP, people)
    return people, visits, message_frame(SHOP, people, visits, sign_ins(people, visits))


def test_no_person_does_two_things_at_once_and_all_within_the_period(made):
    _, _, frame = made
    acts = frame.filter(pl.col("event") != "order_refunded")
    gaps = acts.select(pl.col("ts").diff().over("person")).to_series().drop_nulls()
    assert gaps.min() > 0
    assert frame["ts"].is_between(SHOP.start, SHOP.end, closed="left").all()
    assert (frame["received"] > frame["ts"]).all()


def test_sessions_of_a_day_stay_apart_and_do_not_cross_midnight(made):
    people, visits, frame = made
    acts = frame.filter(~pl.col("event").is_in(["order_refunded", "identify", "alias"])).with_columns(
        day=(pl.col("ts") - SHOP.start) // DAY
    )
    gap = pl.col("ts").diff().over("person", "day")
    runs = (
        acts.with_columns(new=(gap.is_null() | (gap > 30 * MINUTE))).group_by("person", "day").agg(pl.col("new").sum())
    )
    planned = pl.DataFrame({"person": people.number[visits.person], "day": visits.day}).group_by("person", "day").len()
    both = runs.join(planned, on=["person", "day"])
    assert both.height == planned.height
    assert (both["new"] == both["len"]).all()


def test_people_are_anonymous_until_they_sign_in(made):
    people, _, frame = made
    joined = frame.filter(pl.col("event") == "identify").select("person", joined="ts")
    after = frame.join(joined, on="person", how="left").filter(pl.col("event") != "alias")
    assert after.filter(pl.col("joined").is_null() | (pl.col("ts") < pl.col("joined")))["user_id"].null_count() > 0
    early = after.filter(pl.col("joined").is_null() | (pl.col("ts") < pl.col("joined")))
    assert early["user_id"].null_count() == early.height
    kinds = dict(zip(people.number.tolist(), people.sign_in.tolist(), strict=True))
    assert {kinds[person] for person in joined["person"]} == {JOINS, KNOWN}
    assert NEVER not in {kinds[person] for person in frame.filter(pl.col("user_id").is_not_null())["person"]}


def test_a_second_id_is_joined_by_exactly_one_alias(made):
    _, _, frame = made
    aliases = frame.filter(pl.col("event") == "alias")
    assert aliases.height > 20
    assert aliases["previous_id"].is_unique().all()
    used = frame.filter(pl.col("anonymous_id").is_in(aliases["previous_id"].implode()))
    assert used.height > 20
    assert used["user_id"].null_count() == used.height
    both = used.join(aliases.select("person", aliased="ts"), on="person")
    assert (both["ts"] < both["aliased"]).all()


def test_an_order_has_what_an_order_has(made):
    _, _, frame = made
    orders = frame.filter(pl.col("event") == "order_completed")
    assert orders["p_order_id"].is_unique().all()
    assert orders["p_revenue"].min() > 0
    refunds = frame.filter(pl.col("event") == "order_refunded").join(
        orders.select("p_order_id", "p_revenue"), on="p_order_id"
    )
    assert (refunds["p_refund"] == refunds["p_revenue_right"]).all()
