import warnings

import numpy as np
import pytest
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, SimpleImputer

from tests.training.matrices import matrix
from training.steps import fit


def rows(n=300, seed=1):
    """Columns that know of each other, a fifth missing."""
    random = np.random.default_rng(seed)
    base = random.normal(size=(n, 1))
    values = np.round(base * [1, -2, 3, 0.5] + random.normal(0, 0.3, (n, 4)), 1)
    values[random.random(values.shape) < 0.2] = np.nan
    return values


def test_missing_becomes_the_median_but_a_missing_recency_becomes_the_longest_seen():
    train = matrix([[1, 5], [3, np.nan], [np.nan, 9]], ["sum_x_7d", "recency_x_s"])
    assert fit(train, ["impute"]).transform(train).tolist() == [[1, 5], [3, 9], [2, 9]]


@pytest.mark.parametrize(("method", "strategy"), [("median", "median"), ("mode", "most_frequent")])
def test_simple_fills_are_those_of_scikit_learn(method, strategy):
    train, served = rows(), rows(seed=2)
    fitted = fit(matrix(train), [{"impute": {"method": method}}])
    assert np.array_equal(fitted.apply(served), SimpleImputer(strategy=strategy).fit(train).transform(served))


@pytest.mark.parametrize("nearest", [2, 100])
def test_iterative_fills_are_those_of_scikit_learn(nearest):
    train, served = rows(), np.concatenate([rows(seed=2), [[np.nan] * 4, [50.0, np.nan, np.nan, np.nan]]])
    theirs = IterativeImputer(
        max_iter=3,
        n_nearest_features=min(nearest, 3),
        initial_strategy="median",
        min_value=np.nanmin(train, axis=0),
        max_value=np.nanmax(train, axis=0),
        random_state=5,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs.fit(train)
    options = {"method": "iterative", "rounds": 3, "nearest": nearest, "seed": 5}
    ours = fit(matrix(train), [{"impute": options}]).apply(served)
    assert np.abs(ours - theirs.transform(served)).max() < 1e-12
    assert ours[-1, 2] == np.nanmax(train[:, 2])  # never beyond what was seen


def test_what_the_other_columns_say_is_nearer_than_the_median():
    whole = np.random.default_rng(3).normal(size=(500, 1)) * [1.0, 2.0, -1.0] + 3
    holes = whole.copy()
    holes[np.random.default_rng(4).random(whole.shape) < 0.2] = np.nan
    errors = [
        np.abs(fit(matrix(holes), [{"impute": {"method": method}}]).apply(holes) - whole).mean()
        for method in ("iterative", "median")
    ]
    assert errors[0] < 0.1 * errors[1]


def test_never_is_not_guessed_from_the_other_columns():
    train = matrix(
        np.column_stack([rows()[:, :2], np.where(np.arange(300) < 9, np.nan, 5.0)]), ["a", "b", "recency_c_s"]
    )
    fitted = fit(train, [{"impute": {"method": "iterative"}}])
    assert fitted.apply(np.array([[1.0, 2.0, np.nan]])).tolist() == [[1, 2, 5]]
