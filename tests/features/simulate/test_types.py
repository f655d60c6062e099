import numpy as np
import pytest

from features.simulate.shop import Shop
from features.simulate.types import ACTIONS, LEVELS, NAMES, START, TYPES, chain, hour_chances, outcome_chances
from features.simulate.visits import run_sessions


@pytest.mark.parametrize("kind", TYPES, ids=NAMES)
def test_every_chain_is_a_transition_matrix_that_can_end(kind):
    for level in range(LEVELS):
        matrix = chain(kind, level)
        assert np.allclose(matrix.sum(axis=1), 1)
        assert (matrix >= 0).all()
        assert outcome_chances(matrix).sum() == pytest.approx(1)
    assert hour_chances(kind).sum() == pytest.approx(1)


@pytest.mark.parametrize("kind", TYPES, ids=NAMES)
def test_warmer_people_order_more_often(kind):
    chances = [outcome_chances(chain(kind, level))[0] for level in range(LEVELS)]
    assert chances == sorted(chances)


def test_shares_sum_to_one():
    assert sum(kind.share for kind in TYPES) == pytest.approx(1)


def test_simulated_sessions_end_as_often_as_the_exact_chances_say():
    shop, n = Shop(users=1, seed=211), 40_000
    ordered, added = ACTIONS.index("order_completed"), ACTIONS.index("product_added")
    for kind in range(len(TYPES)):
        row, action = run_sessions(shop, shop.generator(99), 0, np.full(n, kind), np.full(n, 2))
        orders = np.unique(row[action == ordered])
        carts = np.setdiff1d(row[action == added], orders)
        exact = shop.outcomes[0, kind, 2]
        for count, chance in ((len(orders), exact[0]), (len(carts), exact[1])):
            assert abs(count - n * chance) < 4.5 * np.sqrt(n * chance * (1 - chance))


def test_sessions_follow_the_planted_chain():
    shop, n = Shop(users=1, seed=212), 30_000
    row, action = run_sessions(shop, shop.generator(99), 0, np.zeros(n, np.int64), np.ones(n, np.int64))
    first = np.diff(row, prepend=-1) != 0
    seen = np.bincount(action[first], minlength=len(ACTIONS)) / n
    assert np.abs(seen - shop.chains[0, 0, 1, START, : len(ACTIONS)]).max() < 0.01
