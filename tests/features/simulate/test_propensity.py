from dataclasses import replace

import numpy as np
import pytest

from features.simulate.people import draw_people
from features.simulate.propensity import order_chance, roc_auc, visit_chance
from features.simulate.shop import Shift, Shop
from features.simulate.types import ACTIONS, LEVELS, TYPES
from features.simulate.visits import simulate_visits


@pytest.mark.parametrize("level", range(LEVELS))
@pytest.mark.parametrize("shift", [None, Shift(day=3, visits=1.5, buying=2.0)], ids=["as it is", "shifted"])
def test_the_exact_chance_agrees_with_the_process_run_many_times(level, shift):
    shop, n = Shop(users=len(TYPES), days=7, seed=311, shift=shift), 4_000
    few = draw_people(shop, 0, len(TYPES))
    few = replace(few, kind=np.arange(len(TYPES)), arrival=np.full(len(TYPES), -1), level=np.full(len(TYPES), level))
    exact = order_chance(shop, few, few.level, 0)
    many = few.take(np.repeat(np.arange(len(TYPES)), n))
    visits = simulate_visits(shop, many)
    ordered = np.zeros(len(many))
    ordered[visits.person[visits.session[visits.action == ACTIONS.index("order_completed")]]] = 1
    error = np.abs(ordered.reshape(-1, n).mean(axis=1) - exact) / np.sqrt(exact * (1 - exact) / n)
    assert error.max() < 4


@pytest.mark.parametrize("coming", [True, False])
def test_chances_of_days_that_follow_the_period_agree_too(coming):
    shop, n = Shop(users=len(TYPES), days=4, seed=321), 4_000
    few = draw_people(shop, 0, len(TYPES))
    few = replace(few, kind=np.arange(len(TYPES)), arrival=np.full(len(TYPES), 4 if coming else -1))
    exact = order_chance(shop, few, few.level, 4, within=3, coming=coming)
    comes = np.ones(len(TYPES)) if coming else visit_chance(shop, few, few.level, 4, within=3)
    visits = simulate_visits(shop, few.take(np.repeat(np.arange(len(TYPES)), n)), days=range(4, 7))
    ordered, came = np.zeros((2, n * len(TYPES)))
    came[visits.person] = 1
    ordered[visits.person[visits.session[visits.action == ACTIONS.index("order_completed")]]] = 1
    for seen, chance in ((ordered, exact), (came, comes)):
        error = np.abs(seen.reshape(-1, n).mean(axis=1) - chance)
        assert (error <= 4 * np.sqrt(chance * (1 - chance) / n) + 1e-12).all()


def test_no_days_no_order():
    shop = Shop(users=50, seed=312)
    people = draw_people(shop, 0, 50)
    assert (order_chance(shop, people, people.level, 10, within=0) == 0).all()


def test_roc_auc_equals_scikit_learns_with_ties():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(313)
    score, outcome = rng.integers(0, 9, 500).astype(float), rng.random(500) < 0.3
    assert roc_auc(score, outcome) == pytest.approx(roc_auc_score(outcome, score))
    assert np.isnan(roc_auc(score, np.zeros(500, np.bool_)))
