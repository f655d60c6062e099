"""Against scikit-learn's own."""

import warnings

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.neural_network import MLPRegressor

from features.errors import StudyError
from tests.training.matrices import matrix
from training.stages import alone
from training.steps import fit


def rows(n=400, seed=1):
    """Two directions and some noise in eight columns."""
    random = np.random.default_rng(seed)
    return random.normal(size=(n, 2)) @ np.random.default_rng(0).normal(size=(2, 8)) + random.normal(0, 0.1, (n, 8)) + 5


@pytest.mark.parametrize("option", [{"components": 3}, {"share": 0.9}])
def test_components_are_scikit_learn_s(option):
    train, served = rows(), rows(seed=2)
    ours = fit(matrix(train), ["impute", {"pca": option}])
    theirs = PCA(next(iter(option.values())), svd_solver="full").fit(train)
    assert len(ours.outputs) == theirs.n_components_
    assert np.abs(ours.apply(served) - theirs.transform(served)).max() < 1e-12
    assert ours.told[0].startswith(f"pca: {theirs.n_components_} of 8 columns keep ")


def test_more_components_than_columns_are_refused():
    with pytest.raises(StudyError, match="9 components of 8 columns"):
        fit(matrix(rows()), ["impute", {"pca": {"components": 9}}])


def test_the_code_is_the_middle_layer_of_scikit_learn_s_network():
    train, served = rows(), rows(seed=2)
    options = {"components": 2, "hidden": 8, "rounds": 60, "seed": 3}
    ours = fit(matrix(train), ["impute", "standardise", {"autoencoder": options}])
    scale = ours.stages[1].learned
    scaled = alone("standardise", scale, train.shape[1])
    x = scaled(train)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = MLPRegressor(
            hidden_layer_sizes=(8, 2, 8), activation="tanh", early_stopping=True, max_iter=60, random_state=3
        ).fit(x, x)
    code = ours.apply(served)
    # Through scikit-learn's other half, our code gives scikit-learn's own answer.
    behind = np.tanh(code @ theirs.coefs_[2] + theirs.intercepts_[2]) @ theirs.coefs_[3] + theirs.intercepts_[3]
    assert np.abs(behind - theirs.predict(scaled(served))).max() < 1e-12
    assert ours.outputs == ("code#0", "code#1")


def test_two_directions_pass_through_a_code_of_two_and_not_of_one():
    told = [
        fit(matrix(rows(2000)), ["impute", "standardise", {"autoencoder": {"components": n, "rounds": 100}}]).told[0]
        for n in (1, 2)
    ]
    one, two = (float(each.split("repeat ")[1].split("%")[0]) for each in told)
    assert two > 90 > one


def test_a_handful_of_rows_trains_no_network():
    with pytest.raises(StudyError, match="10 rows are too few"):
        fit(matrix(rows(10)), ["impute", "standardise", "autoencoder"])
