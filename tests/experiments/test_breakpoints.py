"""Breakpoints against scikit-learn and planted gaps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from experiments.breakpoints import FEWEST, natural, readable, split


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
