import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.metrics import adjusted_rand_score

from training.clustering import Quality, kmeans, null_silhouettes, profiles, propose_names, quality, select, stability


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


def test_real_clusters_are_found_again_in_resamples_and_beat_shuffled_columns():
    x = blobs()
    fitted = kmeans(x, 3, seed=1)
    assert stability(x, fitted, resamples=8).min() > 0.95
    assert quality(x, fitted).silhouette > null_silhouettes(x, 3, draws=4).max() + 0.1


def test_noise_is_no_better_than_shuffled_noise():
    x = np.random.default_rng(3).normal(size=(800, 4))
    null = null_silhouettes(x, 3, draws=6)
    assert quality(x, kmeans(x, 3, seed=1)).silhouette < null.mean() + 4 * max(null.std(), 0.005)


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
    found = profiles(x, kmeans(x, 3, seed=1))
    assert sorted(found[:, 0].round(1).tolist()) == [-1.2, 0.0, 1.2]


def test_a_better_silhouette_does_not_excuse_a_handful_of_outliers():
    def with_(silhouette, shares):
        return Quality(silhouette, 1, 1, 1, 1, shares)

    choices = {2: with_(0.9, (0.995, 0.005)), 3: with_(0.4, (0.5, 0.3, 0.2)), 4: with_(0.3, (0.4, 0.2, 0.2, 0.2))}
    assert select(choices, smallest_share=0.02) == 3
    assert select(choices, smallest_share=0.25) is None
