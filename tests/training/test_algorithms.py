"""Every algorithm finds what was planted, gives the published figures, and what is served places rows as it did."""

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_iris, make_moons
from sklearn.metrics import adjusted_rand_score, davies_bouldin_score
from sklearn.mixture import GaussianMixture

from training.algorithms import ALGORITHMS, KMeans, assigned, kmeans, null_silhouettes
from training.assigner import nearest
from training.clustering import NOISE, gap, numbered, quality, silhouette, stability

PARAMS = {
    "kmeans": {"k": 3},
    "ward": {"k": 3},
    "gaussian": {"k": 3, "full": 1},
    "dbscan": {"neighbours": 0.01, "reach": 0.95},
    "hdbscan": {"least": 0.1, "neighbours": 0.01},
}
PLAIN = sorted(PARAMS)


def blobs(n=600, seed=1):
    random = np.random.default_rng(seed)
    x = np.concatenate([random.normal(centre, 0.4, (n // 3, 3)) for centre in (0, 4, 8)])
    return x, np.repeat(range(3), n // 3)


def walks(n=400, seed=0, length=60):
    """Counts of moves of two kinds of people among three events, and who is which."""
    random = np.random.default_rng(seed)
    chains = np.array([[[0.8, 0.1, 0.1]] * 3, [[0.1, 0.1, 0.8], [0.8, 0.1, 0.1], [0.1, 0.8, 0.1]]])
    kind = np.repeat([0, 1], [n * 3 // 4, n - n * 3 // 4])
    moves = np.zeros((n, 3, 3))
    for row in range(n):
        state = 0
        for _ in range(random.poisson(length)):
            after = random.choice(3, p=chains[kind[row], state])
            moves[row, state, after] += 1
            state = after
    return moves.reshape(n, 9), kind


@pytest.mark.parametrize("name", PLAIN)
def test_three_planted_groups_are_found_again_and_beat_rows_without_structure(name):
    (x, planted), algorithm = blobs(), ALGORITHMS[name]
    fitted = algorithm.fit(x, PARAMS[name], seed=1)
    there = fitted.labels != NOISE
    assert adjusted_rand_score(planted[there], fitted.labels[there]) > 0.99
    assert fitted.noise < 0.1
    assert (np.diff(fitted.shares) <= 0).all()
    stable = stability(x, fitted, lambda rows, seed: algorithm.fit(rows, PARAMS[name], seed=seed), resamples=5)
    assert stable.min() > 0.75
    null = null_silhouettes(x, algorithm, PARAMS[name], draws=3)
    assert silhouette(x[there], fitted.labels[there]) > null.max() + 0.1


@pytest.mark.parametrize("name", PLAIN)
def test_columns_without_structure_are_no_better_than_when_they_are_shuffled(name):
    x, algorithm = np.random.default_rng(3).normal(size=(800, 4)), ALGORITHMS[name]
    null = null_silhouettes(x, algorithm, PARAMS[name], draws=6)
    assert quality(x, algorithm.fit(x, PARAMS[name], seed=1)).silhouette <= max(
        null.max(), null.mean() + 3 * null.std()
    )


def test_iris_gives_the_figures_that_scikit_learn_and_r_print_for_ward():
    data = load_iris()
    fitted = ALGORITHMS["ward"].fit(data.data, {"k": 3}, seed=0)
    assert f"{adjusted_rand_score(data.target, fitted.labels):.4f}" == "0.7312"
    assert sorted(np.bincount(fitted.labels)) == [36, 50, 64]
    assert f"{fitted.tree[-1, 2]:.4f}" == "32.4476"


def test_a_mixture_places_rows_with_scikit_learns_probabilities():
    x, _ = blobs()
    x = x * [1, 0.3, 0.3]
    theirs = GaussianMixture(3, covariance_type="full", n_init=3, reg_covar=1e-3, random_state=1).fit(x)
    ours = ALGORITHMS["gaussian"].fit(x, {"k": 3, "full": 1}, seed=1)
    order = [np.bincount(theirs.predict(x[ours.labels == each])).argmax() for each in range(3)]
    far = x + np.random.default_rng(0).normal(0, 1, x.shape)
    wanted = theirs.predict_proba(far)[:, order]
    assert np.allclose(np.exp(-ours.assigner.distances(far)), wanted, atol=1e-5)
    assert np.allclose(ours.assigner.confidence(ours.assigner.distances(far)), wanted.max(axis=1), atol=1e-5)
    assert ours.bic == pytest.approx(theirs.bic(x))
    assert ALGORITHMS["gaussian"].fit(x, {"k": 3, "full": 0}, seed=1).bic < ours.bic


def test_two_planted_chains_are_found_and_one_alone_is_not_worth_two():
    (moves, planted), markov = walks(), ALGORITHMS["markov"]
    found = {k: markov.fit(moves, {"k": k}, seed=1, starts=3) for k in (1, 2, 3)}
    assert adjusted_rand_score(planted, found[2].labels) > 0.99
    assert min(found, key=lambda k: found[k].bic) == 2
    chances = np.exp(-found[2].assigner.weights.reshape(2, 3, 3))
    assert chances[0] == pytest.approx(np.array([[0.8, 0.1, 0.1]] * 3), abs=0.03)
    one = markov.shuffled(moves, np.random.default_rng(5))
    assert one.sum(axis=1) == pytest.approx(moves.sum(axis=1))
    assert markov.fit(one, {"k": 1}, seed=1).bic < markov.fit(one, {"k": 2}, seed=1, starts=3).bic
    null = null_silhouettes(moves, markov, {"k": 2}, draws=3)
    assert silhouette(markov.view(moves), found[2].labels) > null.max() + 0.1


def test_the_likelihood_of_chains_never_falls_and_nobody_is_certain_without_a_move():
    moves, _ = walks(seed=3, length=4)
    found = ALGORITHMS["markov"].fit(moves, {"k": 2}, seed=0, starts=2).assigner
    nobody = found.distances(np.zeros((1, 9)))
    assert np.exp(-nobody[0]) == pytest.approx(np.exp(-found.bias), abs=1e-8)
    assert np.exp(-found.distances(moves)).sum(axis=1) == pytest.approx(1)


def test_points_place_what_an_algorithm_cannot_and_a_cluster_that_is_no_ball_gets_several():
    x, _ = make_moons(1500, noise=0.05, random_state=1)
    labels = ALGORITHMS["dbscan"].fit(x, {"neighbours": 0.005, "reach": 0.97}, seed=0).labels
    assert len(set(labels.tolist()) - {NOISE}) == 2
    points, fidelity = assigned(x, labels, seed=0)
    assert len(points.centres) > 2
    assert len(points) == 2
    assert fidelity > 0.99
    fresh, moon = make_moons(1000, noise=0.05, random_state=2)
    assert adjusted_rand_score(moon, nearest(points.distances(fresh))) > 0.95
    balls, _ = blobs()
    one, sure = assigned(balls, kmeans(balls, 3, seed=0).labels, seed=0)
    assert (len(one.centres), sure) == (3, 1.0)


def test_beyond_a_million_rows_batches_find_what_all_rows_find(monkeypatch):
    monkeypatch.setattr("training.algorithms.WHOLE", 500)
    x, planted = blobs()
    assert adjusted_rand_score(planted, KMeans().fit(x, {"k": 3}, seed=1, starts=3).labels) > 0.99


def test_the_gap_is_widest_at_the_planted_number_of_clusters():
    x, _ = blobs()
    gaps, errors = gap(x, [lambda rows, seed, k=k: kmeans(rows, k, seed=seed, n_init=3) for k in (1, 2, 3, 4, 5)])
    assert gaps.argmax() == 2
    assert (errors > 0).all()


def test_clusters_are_numbered_from_the_largest_and_noise_is_left_out_of_every_figure():
    labels = numbered(np.array([7, 7, 2, 2, 2, -1, 5]))
    assert labels.tolist() == [1, 1, 0, 0, 0, NOISE, 2]
    x, planted = blobs()
    fitted = ALGORITHMS["kmeans"].fit(x, {"k": 3}, seed=0)
    wild = np.concatenate([x, np.full((50, 3), 40.0)])
    with_noise = type(fitted)(np.concatenate([fitted.labels, np.full(50, NOISE)]))
    assert quality(wild, with_noise).davies_bouldin == pytest.approx(davies_bouldin_score(x, planted))
    assert quality(wild, with_noise).noise == pytest.approx(50 / 650)


def test_everything_being_noise_is_no_clustering():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = quality(np.zeros((20, 2)), type(kmeans(np.eye(3), 2, seed=0))(np.full(20, NOISE)))
    assert (found.silhouette, found.noise, found.shares) == (-1, 1, ())
