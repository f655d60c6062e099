import numpy as np
import pytest

from features.errors import BundleError
from training.assigner import Mixture


def mixture(k=4, n=6, seed=1):
    random = np.random.default_rng(seed)
    return Mixture(random.normal(size=k), *(random.normal(size=shape) for shape in ((k, n), (k, n), (k, n, n))))


def test_a_row_alone_gives_the_bits_it_gives_among_many():
    made, x = mixture(), np.random.default_rng(2).normal(size=(200, 6))
    whole = made.distances(x)
    assert np.array_equal(np.concatenate([made.distances(x[i : i + 1]) for i in range(200)]), whole)
    assert np.array_equal(Mixture.from_dict(made.to_dict()).distances(x), whole)


def test_distances_are_minus_log_probabilities():
    made, x = mixture(), np.random.default_rng(3).normal(size=(50, 6))
    assert np.exp(-made.distances(x)).sum(axis=1) == pytest.approx(1)
    quadratic = ((np.einsum("kfn,rkn->rkf", made.factors, x[:, None, :] - made.means)) ** 2).sum(axis=2)
    cost = made.bias + x @ made.weights.T + quadratic
    assert made.distances(x) - made.distances(x)[:, :1] == pytest.approx(cost - cost[:, :1])
    assert np.array_equal(made.confidence(made.distances(x)), np.exp(-made.distances(x).min(axis=1)))


@pytest.mark.parametrize(
    "change", [{"bias": [1.0]}, {"factors": [[[None]]]}, {"means": [[1.0]]}, {"weights": "none"}, {"bias": []}]
)
def test_tables_that_do_not_fit_are_refused(change):
    with pytest.raises(BundleError, match=r"mixture\.json"):
        Mixture.from_dict({**mixture().to_dict(), **change})


def test_rows_of_another_width_are_refused():
    with pytest.raises(BundleError, match="6 columns"):
        mixture().distances(np.zeros((1, 3)))
