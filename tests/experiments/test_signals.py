"""Signals against scikit-learn and scipy, and what they promise of noise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import mutual_info_score, roc_auc_score
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from experiments.signals import FEWEST, compared, information, natural, rank, readable, signals, split
from tests.training.matrices import matrix


def shop(n=6_000, seed=1):
    """Who looks more than nine times buys three times as often; the rest is noise, skewed or missing."""
    random = np.random.default_rng(seed)
    looks, noise = random.geometric(0.12, n).astype(float), random.lognormal(2, 1, n)
    y = (random.random(n) < np.where(looks > 9, 0.6, 0.2)).astype(float)
    noise[random.random(n) < 0.2] = np.nan
    names = ("count_looks_7d", "noise_7d", "constant_7d", "empty_7d")
    return matrix(np.column_stack([looks, noise, np.full(n, 3.0), np.full(n, np.nan)]), names), y


def test_the_telling_feature_is_first_with_the_planted_cut_and_an_honest_lift():
    found = signals(*shop())
    assert found[0].feature == "count_looks_7d"
    assert "empty_7d" not in [each.feature for each in found]
    first = found[0]
    assert (first.split.threshold, first.split.above) == (10.0, True)
    assert first.inside == pytest.approx(0.6, abs=0.04)
    assert first.lift.low < 2.0 < first.lift.high
    assert first.lift.high - first.lift.low < 0.8
    noise = next(each for each in found if each.feature == "noise_7d")
    assert noise.missing == pytest.approx(0.2, abs=0.02)
    assert noise.bits < 0.003 < first.bits
    assert found[-1].split is None


def test_the_lift_of_a_cut_in_noise_covers_nothing_as_often_as_it_says():
    """The cut is chosen on the other half: its interval is not flattered."""
    hits = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        y = (random.random(1_500) < 0.3).astype(float)
        found = signals(matrix(random.normal(size=(1_500, 1))), y)[0]
        hits += found.lift.low <= 0 <= found.lift.high
    assert 53 <= hits <= 60


@pytest.mark.parametrize("n", [500, 20_000])
def test_information_is_scikit_learn_s_less_its_bias(n):
    random = np.random.default_rng(2)
    x = random.integers(0, 5, n).astype(float)
    y = (random.random(n) < 0.1 + 0.15 * x).astype(float)
    plug_in = mutual_info_score(x, y) / np.log(2)
    assert information(x, y) == pytest.approx(plug_in - 4 / (2 * n * np.log(2)))
    many = [information(random.normal(size=n), y) for _ in range(40)]
    assert np.mean(many) < 2 / n * 8  # noise says about nothing however many bins it falls into
    assert information(np.where(x > 2, np.nan, x), y) > 0.5 * plug_in  # that a value is missing may tell as well


def test_ranks_are_those_of_the_libraries():
    random = np.random.default_rng(3)
    x = random.integers(0, 20, 500).astype(float)
    y = (random.random(500) < x / 25).astype(float)
    assert rank(x, y) == pytest.approx(roc_auc_score(y, x))
    money = np.maximum(0, x + random.normal(0, 8, 500))
    assert rank(x, money) == pytest.approx(spearmanr(x, money).statistic)
    assert np.isnan(rank(np.ones(9), np.arange(9.0)))


def test_a_category_is_asked_for_the_value_that_tells_and_not_for_an_order():
    random = np.random.default_rng(7)
    page = random.integers(0, 5, 4_000).astype(float)
    y = (random.random(4_000) < np.where(page == 2, 0.5, 0.2)).astype(float)
    page[:200] = np.nan
    found = signals(matrix(page[:, None], ["mode_page_7d"]), y, {"mode_page_7d": ("a", "b", "cart", "d", "other")})[0]
    assert (found.told, found.split.threshold, found.split.above) == ("is cart", 2.0, True)
    assert found.share == pytest.approx(0.19, abs=0.02)
    assert found.lift.low < 1.5 < found.lift.high
    assert np.isnan(found.rank)
    assert found.breaks == ()
    assert found.bits > 0.03


def test_breaks_lie_in_the_unit_of_the_feature():
    values = np.concatenate([np.full(500, 2.0), np.full(400, 900.0), [1e9]])
    found = signals(matrix(values[:, None]), None)[0]
    assert found.breaks == (900.0,)
    assert found.percentiles[50] == 2.0
    assert found.split is None


def test_too_few_outcomes_give_no_lift():
    inside = np.arange(100) < 50
    assert compared(inside, (np.arange(100) % 25 == 0).astype(float)) is None
    assert compared(inside, (np.arange(100) % 10 == 0).astype(float)).value == 0


def test_natural_breaks_fall_into_the_gaps():
    random = np.random.default_rng(1)
    values = np.concatenate([random.normal(centre, 0.3, 2_000) for centre in (0, 10, 30)])
    breaks = natural(values)
    assert len(breaks) == 1  # two classes explain four fifths already
    assert 11 < breaks[0] < 30
    even = [each + random.normal(0, 0.3, 2_000) for each in (0, 10, 20, 30)]
    found = natural(np.concatenate(even))
    assert len(found) in (2, 3)
    assert all(min(abs(each - gap) for gap in (8.5, 18.5, 28.5)) < 1.5 for each in found)
    assert natural(np.ones(50)) == natural(np.empty(0)) == ()


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("seed", range(12))
def test_a_split_is_that_of_a_tree_of_depth_one(seed, binary):
    random = np.random.default_rng(seed)
    x = random.gamma(1, 5, 800).round(random.integers(0, 4))
    y = x * random.normal() + random.normal(0, 5, 800)
    y = (y > np.median(y)).astype(float) if binary else y
    tree = (DecisionTreeClassifier if binary else DecisionTreeRegressor)(max_depth=1, min_samples_leaf=FEWEST)
    theirs = tree.fit(x[:, None], y).tree_
    ours = split(x, y)
    assert np.array_equal(x >= ours.threshold, x > theirs.threshold[0])
    assert ours.inside(x).mean() == ours.share
    assert y[ours.inside(x)].mean() > y[~ours.inside(x)].mean()


def test_missing_values_are_on_no_side_and_small_sides_are_refused():
    x = np.array([np.nan] * 50 + [1.0] * 30 + [5.0] * 20)
    found = split(x, (x == 5).astype(float))
    assert (found.threshold, found.above, found.share) == (3.0, True, 0.2)
    assert found.inside(x).sum() == 20
    assert split(np.array([0.0] * 97 + [1.0] * 3), np.arange(100.0)) is None
    assert split(np.full(9, np.nan), np.arange(9.0)) is None


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e6))
def test_a_readable_threshold_parts_the_same_rows_with_few_digits(low, gap):
    high = low + gap
    if low < high:
        assert low < readable(low, high) <= high


def test_readable_thresholds_are_short():
    assert [
        readable(*ends) for ends in [(3, 4), (2, 3), (11.2, 12.9), (86_000.5, 87_900.3), (0.1234, 0.1299), (0, 1e-3)]
    ] == [
        4.0,
        3.0,
        12.0,
        87_000.0,
        0.127,
        0.001,
    ]
