"""Algorithms: how clusters are found, each behind one `fit`; and what places rows where an algorithm cannot tell."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from training.assigner import Array, Centroids, Mixture, nearest
from training.chains import Chains
from training.clustering import NOISE, QUICK_SAMPLE, Clustering, Ints, numbered, sampled, silhouette

Params = Mapping[str, float]

WHOLE = 1_000_000
"""Rows up to which k-means looks at all of them in every step."""
DIGITS = 9
"""Threads add in any order: the last digits are noise, and a model's digest must not depend on them."""
POINTS = (1, 4, 16)
"""Points per cluster that an assigner may have."""


class Algorithm(Protocol):
    """Finds clusters among prepared rows."""

    def fit(self, x: Array, params: Params, *, seed: int, starts: int = 10) -> Clustering:
        """The clusters of these rows.

        Args:
            x: Shape (n_rows, n_features).
            params: Its own, free of the number of rows.
            seed: Of the starts.
            starts: How many of them, where it needs any.
        """

    def view(self, x: Array) -> Array:
        """The rows where Euclidean distances mean something."""
        return x

    def shuffled(self, x: Array, random: np.random.Generator) -> Array:
        """Rows like these without structure: every column shuffled by itself."""
        return np.column_stack([random.permutation(column) for column in x.T])


class KMeans(Algorithm):
    """k-means; of more than WHOLE rows in batches."""

    def fit(self, x: Array, params: Params, *, seed: int, starts: int = 10) -> Clustering:
        """The best of the starts."""
        from sklearn import cluster

        k = int(params["k"])
        if len(x) > WHOLE:
            fitted = cluster.MiniBatchKMeans(k, n_init=starts, random_state=seed, batch_size=10_000).fit(x)
        else:
            fitted = cluster.KMeans(k, n_init=starts, random_state=seed).fit(x)
        order = np.argsort(-np.bincount(fitted.labels_, minlength=k), kind="stable")
        centroids = Centroids(np.round(fitted.cluster_centers_[order].astype(np.float64), DIGITS))
        return Clustering(nearest(centroids.distances(x)), centroids)


class Ward(Algorithm):
    """Ward's hierarchy, cut where k clusters are left."""

    def fit(self, x: Array, params: Params, *, seed: int, starts: int = 10) -> Clustering:
        """Nothing is left to chance."""
        from scipy.cluster.hierarchy import fcluster, linkage

        tree = linkage(x, "ward")
        return Clustering(numbered(fcluster(tree, int(params["k"]), "maxclust").astype(np.int64)), tree=tree)


class Dbscan(Algorithm):
    """DBSCAN: who has a share `neighbours` of all rows as near as a quantile `reach` of the rows have it."""

    def fit(self, x: Array, params: Params, *, seed: int, starts: int = 10) -> Clustering:
        """Nothing is left to chance."""
        from sklearn.cluster import DBSCAN
        from sklearn.neighbors import NearestNeighbors

        n = max(3, round(params["neighbours"] * len(x)))
        far = NearestNeighbors(n_neighbors=n).fit(x).kneighbors()[0][:, -1]
        eps = max(float(np.quantile(far, params["reach"])), 1e-9)
        return Clustering(numbered(DBSCAN(eps=eps, min_samples=n).fit(x).labels_.astype(np.int64)))


class Hdbscan(Algorithm):
    """HDBSCAN: clusters of at least a share `least` of the rows, whatever their density."""

    def fit(self, x: Array, params: Params, *, seed: int, starts: int = 10) -> Clustering:
        """Nothing is left to chance."""
        from sklearn.cluster import HDBSCAN

        least, n = max(5, round(params["least"] * len(x))), max(3, round(params["neighbours"] * len(x)))
        labels = HDBSCAN(min_cluster_size=least, min_samples=n, copy=True).fit(x).labels_
        return Clustering(numbered(np.maximum(labels, NOISE).astype(np.int64)))


class Gaussian(Algorithm):
    """A mixture of k Gaussians, each with its own variances and, where `full` is 1, covariances."""

    def fit(self, x: Array, params: Params, *, seed: int, starts: int = 10) -> Clustering:
        """The best of the starts."""
        from sklearn.mixture import GaussianMixture
        from threadpoolctl import threadpool_limits

        kind = "full" if params["full"] else "diag"
        options = {"n_init": max(1, starts // 3), "reg_covar": 1e-3, "random_state": seed}
        with threadpool_limits(1):  # its matrices are small: threads that wait for each other take ten times as long
            fitted = GaussianMixture(int(params["k"]), covariance_type=kind, **options).fit(x)
        roots = fitted.precisions_cholesky_
        factors = roots.transpose(0, 2, 1) if params["full"] else roots[:, :, None] * np.eye(x.shape[1])
        log_root = np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)
        bias = 0.5 * x.shape[1] * np.log(2 * np.pi) - np.log(fitted.weights_) - log_root
        mixture = Mixture(bias, np.zeros_like(fitted.means_), fitted.means_, factors / np.sqrt(2))
        return mixed(mixture, x, float(fitted.bic(x)))


class Markov(Algorithm):
    """A mixture of k Markov chains over counts of moves; every kind's moves to every kind, row by row."""

    def fit(self, x: Array, params: Params, *, seed: int, starts: int = 10) -> Clustering:
        """The best of the starts, each from clusters of the rows' chances of moving."""
        from sklearn.cluster import KMeans as Start

        k, view = int(params["k"]), self.view(x)
        begun = [Start(k, n_init=1, random_state=seed + start).fit(view).labels_ for start in range(starts)]
        found = max((Chains.fit(x, np.eye(k)[labels]) for labels in begun), key=lambda each: each.log_likelihood)
        weights = -np.log(found.chances).reshape(k, -1)
        mixture = Mixture(-np.log(found.shares), weights, np.zeros_like(weights), np.zeros((k, 1, weights.shape[1])))
        return mixed(mixture, x, found.bic(len(x)))

    def view(self, x: Array) -> Array:
        """Square roots of each row's chances: Hellinger's distance."""
        moves = _square(x)
        totals = moves.sum(axis=2, keepdims=True)
        return np.sqrt(moves / np.where(totals > 0, totals, 1)).reshape(x.shape)

    def shuffled(self, x: Array, random: np.random.Generator) -> Array:
        """As many departures of every row from every kind, all by the one chain of all rows."""
        moves = _square(x)
        chain = moves.sum(axis=0) + 1e-9
        chain /= chain.sum(axis=1, keepdims=True)
        drawn: Ints = random.multinomial(moves.sum(axis=2).astype(np.int64), chain)
        return drawn.astype(np.float64).reshape(x.shape)


def _square(x: Array) -> Array:
    n = round(x.shape[1] ** 0.5)
    return x.reshape(len(x), n, n)


def mixed(mixture: Mixture, x: Array, bic: float) -> Clustering:
    """The rows by their likeliest component, the largest first; components that are nobody's are left out."""
    counts = np.bincount(nearest(mixture.distances(x)), minlength=len(mixture))
    order = [place for place in np.argsort(-counts, kind="stable") if counts[place]]
    kept = Mixture(*(np.round(each[order], DIGITS) for each in vars(mixture).values()))
    return Clustering(nearest(kept.distances(x)), kept, bic)


ALGORITHMS: Mapping[str, Algorithm] = {
    "kmeans": KMeans(),
    "ward": Ward(),
    "dbscan": Dbscan(),
    "hdbscan": Hdbscan(),
    "gaussian": Gaussian(),
    "markov": Markov(),
}


def kmeans(x: Array, k: int, *, seed: int, n_init: int = 10) -> Clustering:
    """The best of `n_init` runs of k-means."""
    return KMeans().fit(x, {"k": k}, seed=seed, starts=n_init)


def null_silhouettes(
    x: Array, algorithm: Algorithm, params: Params, *, seed: int = 0, draws: int = 8
) -> NDArray[np.float64]:
    """Silhouettes of what the algorithm finds in rows without structure, shape (draws,)."""
    random = np.random.default_rng(seed)
    x, values = x[sampled(len(x), QUICK_SAMPLE, seed)], []
    for draw in range(draws):
        rows = algorithm.shuffled(x, random)
        labels = algorithm.fit(rows, params, seed=draw, starts=2).labels
        there = labels != NOISE
        values.append(silhouette(algorithm.view(rows)[there], labels[there]))
    return np.array(values)


def assigned(x: Array, labels: Ints, *, seed: int) -> tuple[Centroids, float]:
    """Points that place rows as the labels do, and how often they do so on rows that they were not made of.

    Args:
        x: Shape (n_rows, n_features).
        labels: Shape (n_rows,); what is noise is left out.
        seed: Of the halves, and of the points.

    Returns:
        As few points per cluster as are as good as any in POINTS, to a hundredth; and their fidelity.
    """
    x, labels = x[labels != NOISE], labels[labels != NOISE]
    mixed_up = np.random.default_rng(seed).permutation(len(x))
    sides = mixed_up[np.argsort(labels[mixed_up], kind="stable")]
    learned, held = sides[::2], sides[1::2]
    found = {}
    for n in POINTS:
        points = _points(x[learned], labels[learned], n, seed)
        found[n] = float((nearest(points.distances(x[held])) == labels[held]).mean())
    best = max(POINTS, key=lambda n: (round(found[n], 2), -n))
    return _points(x, labels, best, seed), found[best]


def _points(x: Array, labels: Ints, n: int, seed: int) -> Centroids:
    from sklearn.cluster import KMeans as Inner

    parts = {int(each): x[labels == each] for each in np.unique(labels)}
    centres = {
        each: Inner(min(n, len(np.unique(part, axis=0))), n_init=1, random_state=seed).fit(part).cluster_centers_
        for each, part in parts.items()
    }
    owners = tuple(each for each, points in centres.items() for _ in points)
    return Centroids(np.round(np.concatenate(list(centres.values())), DIGITS), owners)
