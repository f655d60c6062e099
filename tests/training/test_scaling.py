"""Against scikit-learn's own transforms."""

import numpy as np
import pytest
from sklearn.preprocessing import MinMaxScaler, PowerTransformer, RobustScaler, StandardScaler

from tests.training.matrices import matrix
from training.steps import fit


def rows(n, seed):
    random = np.random.default_rng(seed)
    values = np.column_stack(
        [random.lognormal(2, 1, n), random.normal(-3, 2, n), -random.gamma(1, 5, n), np.full(n, 0.1)]
    )
    values[:, :3][random.random((n, 3)) < 0.1] = np.nan
    return values


@pytest.mark.parametrize(
    ("step", "theirs"),
    [
        ("standardise", StandardScaler()),
        ("robust", RobustScaler()),
        ("min_max", MinMaxScaler()),
        ("power", PowerTransformer(standardize=False)),
    ],
)
def test_it_is_scikit_learn_s(step, theirs):
    train, served = rows(500, 1), rows(300, 2)
    ours = fit(matrix(train), [step]).apply(served)
    np.testing.assert_allclose(ours, theirs.fit(train).transform(served), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("power", [-1.0, 0.0, 0.5, 1.0, 2.0, 3.0])
def test_every_power_is_that_of_scipy_at_zero_and_on_both_sides(power):
    from scipy.stats import yeojohnson

    from training.stages import powers

    x = np.array([-50.0, -1.0, -1e-9, 0.0, 1e-9, 0.5, 1.0, 300.0])
    ours = powers(x[:, None], {"power": np.array([power])}).ravel()
    np.testing.assert_allclose(ours, yeojohnson(x, power), rtol=1e-12, atol=1e-15)


def test_log_keeps_signs():
    values = matrix([[np.e - 1], [1 - np.e], [0.0]])
    assert fit(values, ["log"]).transform(values).ravel() == pytest.approx([1, -1, 0])
