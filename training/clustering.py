"""Clustering: k-means on prepared features, how good it is, how stable, and what to call what it finds."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.centroids import Centroids

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

SAMPLE, QUICK_SAMPLE = 5_000, 2_500
"""Rows of which a silhouette is computed, for the result and for what is computed many times: it compares all pairs."""

DUNN_SAMPLE = 2_000
NOTABLE = 0.25
"""Standard deviations by which a cluster's mean must differ for its name to say so."""


@dataclass(frozen=True)
class Clustering:
    """A fitted k-means; clusters are numbered from the largest to the smallest.

    Attributes:
        centroids: Shape (k, n_features).
        labels: Shape (n_rows,), the nearest centroid of each row.
        inertia: Sum of squared distances to the nearest centroid.
    """

    centroids: Centroids
    labels: Ints
    inertia: float

    @property
    def shares(self) -> Array:
        """Share of the rows per cluster."""
        return np.bincount(self.labels, minlength=len(self.centroids)) / len(self.labels)


def kmeans(x: Array, k: int, *, seed: int, n_init: int = 10) -> Clustering:
    """The best of `n_init` runs of k-means.

    Args:
        x: Shape (n_rows, n_features), prepared.
        k: Clusters.
        seed: Of the starts.
        n_init: Starts.
    """
    from sklearn.cluster import KMeans

    fitted = KMeans(n_clusters=k, n_init=n_init, random_state=seed).fit(x)
    order = np.argsort(-np.bincount(fitted.labels_, minlength=k), kind="stable")
    # Threads add in any order: the last digits are noise, and a model's digest must not depend on them.
    centroids = Centroids(np.round(fitted.cluster_centers_[order].astype(np.float64), 9))
    distances = centroids.distances(x)
    labels = centroids.nearest(distances)
    return Clustering(centroids, labels, float((distances.min(axis=1) ** 2).sum()))


@dataclass(frozen=True)
class Quality:
    """Internal figures; Dunn's index is reported, never selected on.

    Attributes:
        silhouette: Of at most SAMPLE rows; more is better.
        davies_bouldin: Less is better.
        calinski_harabasz: More is better.
        dunn: Of at most DUNN_SAMPLE rows; more is better.
        inertia: Sum of squared distances.
        shares: Of the rows, per cluster.
    """

    silhouette: float
    davies_bouldin: float
    calinski_harabasz: float
    dunn: float
    inertia: float
    shares: tuple[float, ...]

    def __str__(self) -> str:
        return (
            f"Davies-Bouldin {self.davies_bouldin:.3f}, Calinski-Harabasz {self.calinski_harabasz:,.0f}, "
            f"Dunn {self.dunn:.4f}"
        )

    def to_dict(self) -> dict[str, float]:
        """The figures by name, with the smallest share."""
        names = ("silhouette", "davies_bouldin", "calinski_harabasz", "dunn", "inertia")
        return {**{name: float(getattr(self, name)) for name in names}, "smallest_share": min(self.shares)}


def quality(x: Array, clustering: Clustering, *, seed: int = 0, sample: int = SAMPLE) -> Quality:
    """The figures of a clustering of these rows; the silhouette of at most `sample` of them."""
    from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score

    labels, shares = clustering.labels, tuple(clustering.shares.tolist())
    if len(set(labels.tolist())) < 2:
        return Quality(-1.0, float("inf"), 0.0, 0.0, clustering.inertia, shares)
    return Quality(
        silhouette=silhouette(x, labels, seed=seed, sample=sample),
        davies_bouldin=float(davies_bouldin_score(x, labels)),
        calinski_harabasz=float(calinski_harabasz_score(x, labels)),
        dunn=dunn(x, labels, seed=seed),
        inertia=clustering.inertia,
        shares=shares,
    )


def silhouette(x: Array, labels: Ints, *, seed: int = 0, sample: int = SAMPLE) -> float:
    """Mean silhouette of at most `sample` rows; -1 where they hold one cluster only."""
    from sklearn.metrics import silhouette_score

    rows = _sample(len(x), sample, seed)
    if not 1 < len(set(labels[rows].tolist())) < len(rows):
        return -1.0
    return float(silhouette_score(x[rows], labels[rows]))


def dunn(x: Array, labels: Ints, *, seed: int = 0) -> float:
    """Smallest distance between points of two clusters over the largest within one (Dunn 1974)."""
    from scipy.spatial.distance import cdist

    rows = _sample(len(x), DUNN_SAMPLE, seed)
    distances, apart = cdist(x[rows], x[rows]), labels[rows][:, None] != labels[rows][None, :]
    if not apart.any():
        return 0.0
    widest = float(distances[~apart].max())
    return float(distances[apart].min()) / widest if widest > 0 else float("inf")


def stability(x: Array, clustering: Clustering, *, seed: int = 0, resamples: int = 20) -> Array:
    """Mean bootstrap Jaccard of every cluster (Hennig 2007): 0.75 is valid, 0.85 highly stable.

    Returns:
        Shape (k,): how much of a cluster a fit on resampled rows finds again, on average.
    """
    rows = _sample(len(x), QUICK_SAMPLE, seed)
    x, labels, k = x[rows], clustering.labels[rows], len(clustering.centroids)
    random = np.random.default_rng(seed)
    found = np.zeros(k)
    for _ in range(resamples):
        drawn = random.integers(0, len(x), len(x))
        again = kmeans(x[drawn], k, seed=int(random.integers(2**31)), n_init=2).centroids
        found += _jaccard(labels, again.nearest(again.distances(x)), k)
    return found / resamples


def _jaccard(labels: Ints, others: Ints, k: int) -> Array:
    both = np.zeros((k, k))
    np.add.at(both, (labels, others), 1)
    union = both.sum(axis=1)[:, None] + both.sum(axis=0)[None, :] - both
    return np.asarray((both / np.maximum(union, 1)).max(axis=1))


def null_silhouettes(x: Array, k: int, *, seed: int = 0, draws: int = 8) -> Array:
    """Silhouettes of k-means on rows without structure: every column shuffled by itself, shape (draws,)."""
    random = np.random.default_rng(seed)
    x = x[_sample(len(x), QUICK_SAMPLE, seed)]
    values = []
    for draw in range(draws):
        shuffled = np.column_stack([random.permutation(column) for column in x.T])
        values.append(silhouette(shuffled, kmeans(shuffled, k, seed=draw, n_init=2).labels))
    return np.array(values)


def profiles(x: Array, clustering: Clustering) -> Array:
    """How many standard deviations each cluster's mean lies from the mean of all, shape (k, n_features)."""
    spread = x.std(axis=0)
    means = np.stack([x[clustering.labels == each].mean(axis=0) for each in range(len(clustering.centroids))])
    return np.asarray((means - x.mean(axis=0)) / np.where(spread > 0, spread, 1.0))


def propose_names(profile: Array, names: tuple[str, ...]) -> tuple[str, ...]:
    """A name per cluster from what distinguishes it most; no two are equal.

    Args:
        profile: As `profiles` gives it.
        names: The features'.
    """
    proposed: list[str] = []
    for row in profile:
        order = [int(place) for place in np.argsort(-np.abs(row)) if abs(row[place]) >= NOTABLE]
        words = [f"{'high' if row[place] > 0 else 'low'} {names[place]}" for place in _different(order, names)]
        lengths = range(min(2, len(words)), len(words) + 1)
        choices = [", ".join(words[:length]) or "near the average" for length in lengths]
        name = next((choice for choice in choices if choice not in proposed), "")
        proposed.append(name or _numbered(choices[0], proposed))
    return tuple(proposed)


def _different(order: list[int], names: tuple[str, ...]) -> list[int]:
    """The places whose features say something new: one window of each."""
    seen: dict[str, int] = {}
    for place in order:
        seen.setdefault(names[place].rpartition("_")[0], place)
    return list(seen.values())


def _numbered(name: str, taken: list[str]) -> str:
    return next(f"{name} ({number})" for number in range(2, len(taken) + 3) if f"{name} ({number})" not in taken)


def _sample(n: int, most: int, seed: int) -> Ints:
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, most, replace=False))


def select(qualities: Mapping[int, Quality], *, smallest_share: float) -> int | None:
    """The k with the best silhouette among those whose smallest cluster is large enough to act on; None if none is.

    Silhouette alone prefers isolating a handful of outliers.
    """
    able = {k: each.silhouette for k, each in qualities.items() if min(each.shares) >= smallest_share}
    return max(able, key=lambda k: able[k]) if able else None
