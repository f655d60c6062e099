import polars as pl
import pytest

from features.errors import DefinitionError
from features.instants import DAY
from features.simulate import Shift, Shop, simulate

BASE = Shop(users=500, days=40, seed=611, dirt=0)


def events(shift):
    shop = Shop(users=BASE.users, days=BASE.days, seed=BASE.seed, dirt=0, shift=shift)
    frame = pl.concat([frame for frame, _ in simulate(shop)])
    return frame.with_columns(after=pl.col("ts") >= shop.start + 20 * DAY)


def test_without_a_shift_phases_are_alike():
    assert (BASE.chains[0] == BASE.chains[1]).all()
    assert BASE.traffic(25).shape == (5, 4)


def test_before_its_day_a_shift_changes_nothing():
    no_refunds = pl.col("event") != "order_refunded"  # one may follow an order that only the shift made
    plain, shifted = (events(shift).filter(no_refunds) for shift in (None, Shift(day=20, visits=2, buying=2)))
    counts = [
        frame.filter(~pl.col("after")).group_by("person", "event").len().sort("person", "event")
        for frame in (plain, shifted)
    ]
    assert counts[0].equals(counts[1])
    assert shifted.filter("after").height > 1.5 * plain.filter("after").height


def test_a_price_shift_scales_prices_from_its_day_on():
    plain, shifted = events(None), events(Shift(day=20, price=1.5))
    assert plain.height == shifted.height
    ratio = shifted["p_price"] / plain["p_price"]
    assert ratio.filter(~plain["after"]).drop_nulls().unique().to_list() == [1.0]
    assert ratio.filter(plain["after"]).drop_nulls().mean() == pytest.approx(1.5, abs=0.01)


def test_a_type_can_begin_to_behave_like_another():
    def searches(frame):
        after = frame.filter("after")
        return (after["event"] == "products_searched").mean()

    assert searches(events(Shift(day=20, of=("searcher",), becomes="stroller"))) < 0.4 * searches(events(None))


@pytest.mark.parametrize("given", [{"of": ("strolling",)}, {"becomes": "regulr"}, {"visits": 0.0}, {"price": -1.0}])
def test_a_shift_that_cannot_be_is_one_clear_error(given):
    with pytest.raises(DefinitionError, match=r"unknown behavioural type|more than 0"):
        Shift(day=3, **given)


@pytest.mark.parametrize("given", [{"users": 0}, {"days": 0}, {"seed": -1}, {"start": 1}, {"dirt": 11}])
def test_a_shop_that_cannot_be_is_one_clear_error(given):
    with pytest.raises(DefinitionError, match="simulated shop"):
        Shop(**given)
