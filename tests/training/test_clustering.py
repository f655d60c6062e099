import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.metrics import adjusted_rand_score

from training.algorithms import kmeans
from training.clustering import profiles, propose_names, quality


def blobs(n=600, seed=1):
    random = np.random.default_rng(seed)
    return np.concatenate([random.normal(centre, 0.4, (n // 3, 3)) for centre in (0, 4, 8)])


def test_iris_gives_the_published_figures():
    data = load_iris()
    fitted = kmeans(data.data, 3, seed=0, n_init=20)
    found = quality(data.data, fitted)
    assert f"{found.inertia:.4f}" == "78.8514"
    assert f"{found.silhouette:.4f}" == "0.5528"
    assert f"{found.davies_bouldin:.4f}" == "0.6620"
    assert f"{found.calinski_harabasz:.2f}" == "561.63"
    assert f"{found.dunn:.5f}" == "0.09881"
    assert f"{adjusted_rand_score(data.target, fitted.labels):.4f}" == "0.7302"


def test_clusters_are_numbered_from_the_largest():
    x = np.concatenate([blobs(), np.full((300, 3), 20.0)])
    shares = kmeans(x, 4, seed=1).shares
    assert (np.diff(shares) <= 0).all()
    assert shares.sum() == pytest.approx(1)


def test_names_say_what_distinguishes_and_are_unique():
    names = ("count_order_7d", "count_order_30d", "count_view_7d", "recency_any_s")
    profile = np.array(
        [[2.0, 1.9, 0.5, -1], [2.0, 1.8, 0.4, 1.1], [2.0, 1.8, 0.4, 1.1], [0.1, 0.0, 0.1, 0.2], [0, 0, 0, 0]]
    )
    found = propose_names(profile, names)
    assert found[0] == "high count_order_7d, low recency_any_s"
    assert found[3] == "near the average"
    assert len(set(found)) == 5


def test_profiles_are_standard_deviations_from_the_mean():
    x = blobs()
    found = profiles(x, kmeans(x, 3, seed=1).labels)
    assert sorted(found[:, 0].round(1).tolist()) == [-1.2, 0.0, 1.2]
