"""Clustering: how good it is, how stable, against what rows without structure give, and what to call what it finds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.assigner import Array, Assigner

Ints = NDArray[np.int64]
NOISE = -1

SAMPLE, QUICK_SAMPLE = 5_000, 2_500
"""Rows of which a silhouette is computed, for the result and for what is computed many times: it compares all pairs."""

DUNN_SAMPLE, GAP_SAMPLE = 2_000, 1_000
NOTABLE = 0.25
"""Standard deviations by which a cluster's mean must differ for its name to say so."""


@dataclass(frozen=True)
class Clustering:
    """Rows in clusters, numbered from the largest to the smallest.

    Attributes:
        labels: Shape (n_rows,); NOISE for a row of none.
        assigner: What places other rows; None where the algorithm cannot tell.
        bic: Schwarz's criterion of a mixture, less is better; NaN for others.
        tree: Of a hierarchy, as scipy links it.
    """

    labels: Ints
    assigner: Assigner | None = None
    bic: float = float("nan")
    tree: Array | None = None

    def __len__(self) -> int:
        return int(self.labels.max(initial=NOISE)) + 1

    @property
    def noise(self) -> float:
        """Share of the rows that are in no cluster."""
        return float((self.labels == NOISE).mean())

    @property
    def shares(self) -> Array:
        """Share of the rows per cluster."""
        return np.bincount(self.labels[self.labels != NOISE], minlength=len(self)) / len(self.labels)


Fit = Callable[[Array, int], Clustering]
"""(rows, seed) -> their clustering, by one algorithm with fixed parameters."""


def numbered(labels: Ints) -> Ints:
    """The same clusters, numbered from the largest; NOISE stays."""
    known, places = np.unique(labels[labels != NOISE], return_inverse=True)
    rank = np.empty(len(known), np.int64)
    rank[np.argsort(-np.bincount(places, minlength=len(known)), kind="stable")] = np.arange(len(known))
    found = np.full(len(labels), NOISE, np.int64)
    found[labels != NOISE] = rank[places]
    return found


@dataclass(frozen=True)
class Quality:
    """Internal figures of the rows that are in a cluster; Dunn's index is reported, never selected on.

    Attributes:
        silhouette: Of at most SAMPLE rows; more is better.
        davies_bouldin: Less is better.
        calinski_harabasz: More is better.
        dunn: Of at most DUNN_SAMPLE rows; more is better.
        inertia: Sum of squared distances to the cluster's mean.
        bic: Of a mixture; less is better.
        noise: Share of the rows in no cluster.
        shares: Of all rows, per cluster.
    """

    silhouette: float
    davies_bouldin: float
    calinski_harabasz: float
    dunn: float
    inertia: float
    bic: float
    noise: float
    shares: tuple[float, ...]

    def __str__(self) -> str:
        return (
            f"inertia {self.inertia:,.4f}, Davies-Bouldin {self.davies_bouldin:.4f}, "
            f"Calinski-Harabasz {self.calinski_harabasz:,.2f}, Dunn {self.dunn:.5f}"
            + (f", BIC {self.bic:,.0f}" if np.isfinite(self.bic) else "")
            + (f", {self.noise:.1%} in no cluster" if self.noise else "")
        )

    def to_dict(self) -> dict[str, float]:
        """The figures by name, with the number of clusters and the smallest share."""
        told = {name: float(value) for name, value in vars(self).items() if name != "shares"}
        told |= {"k": len(self.shares), "smallest_share": min(self.shares, default=0.0)}
        return {name: value for name, value in told.items() if np.isfinite(value)}


def quality(x: Array, clustering: Clustering, *, seed: int = 0, sample: int = SAMPLE) -> Quality:
    """The figures of a clustering of these rows; the silhouette of at most `sample` of them."""
    from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score

    shares, there = tuple(clustering.shares.tolist()), clustering.labels != NOISE
    x, labels = x[there], clustering.labels[there]
    spread, rest = inertia(x, labels), (clustering.bic, clustering.noise, shares)
    if not 1 < len(shares) < len(x):
        return Quality(-1.0, 1e9, 0.0, 0.0, spread, *rest)
    return Quality(
        silhouette(x, labels, seed=seed, sample=sample),
        float(davies_bouldin_score(x, labels)),
        float(calinski_harabasz_score(x, labels)),
        dunn(x, labels, seed=seed),
        spread,
        *rest,
    )


def inertia(x: Array, labels: Ints) -> float:
    """Sum of squared distances to the mean of each row's cluster."""
    return float(sum(((x[labels == each] - x[labels == each].mean(axis=0)) ** 2).sum() for each in np.unique(labels)))


def silhouette(x: Array, labels: Ints, *, seed: int = 0, sample: int = SAMPLE) -> float:
    """Mean silhouette of at most `sample` rows; -1 where they hold one cluster only."""
    from sklearn.metrics import silhouette_score

    rows = sampled(len(x), sample, seed)
    if not 1 < len(set(labels[rows].tolist())) < len(rows):
        return -1.0
    return float(silhouette_score(x[rows], labels[rows]))


def dunn(x: Array, labels: Ints, *, seed: int = 0) -> float:
    """Smallest distance between points of two clusters over the largest within one (Dunn 1974)."""
    from scipy.spatial.distance import cdist

    rows = sampled(len(x), DUNN_SAMPLE, seed)
    distances, apart = cdist(x[rows], x[rows]), labels[rows][:, None] != labels[rows][None, :]
    if not apart.any():
        return 0.0
    widest = float(distances[~apart].max())
    return float(distances[apart].min()) / widest if widest > 0 else float("inf")


def stability(x: Array, clustering: Clustering, fit: Fit, *, seed: int = 0, resamples: int = 20) -> Array:
    """Mean bootstrap Jaccard of every cluster (Hennig 2007): 0.75 is valid, 0.85 highly stable.

    Returns:
        Shape (k,): how much of a cluster a fit on resampled rows finds again among the rows drawn, on average.
    """
    rows = sampled(len(x), QUICK_SAMPLE, seed)
    x, labels, k = x[rows], clustering.labels[rows], len(clustering)
    random = np.random.default_rng(seed)
    found = np.zeros(k)
    for _ in range(resamples):
        drawn = random.integers(0, len(x), len(x))
        again = fit(x[drawn], int(random.integers(2**31)))
        seen, first = np.unique(drawn, return_index=True)
        found += _jaccard(labels[seen], again.labels[first], k, len(again))
    return found / resamples


def _jaccard(labels: Ints, others: Ints, k: int, n_others: int) -> Array:
    """Per cluster its overlap with the most similar of the others; noise is in none."""
    both = np.zeros((k + 1, n_others + 1))
    np.add.at(both, (labels, others), 1)
    union = both.sum(axis=1)[:, None] + both.sum(axis=0)[None, :] - both
    return np.asarray((both / np.maximum(union, 1))[:k, :n_others].max(axis=1, initial=0.0))


def gap(x: Array, fits: Sequence[Fit], *, seed: int = 0, draws: int = 5) -> tuple[Array, Array]:
    """How much smaller the logarithm of the inertia is than on rows strewn evenly (Tibshirani, Walther, Hastie 2001).

    Args:
        x: Rows; at most GAP_SAMPLE are looked at.
        fits: One for every number of clusters.
        seed: Of the rows.
        draws: Strewn sets of rows, in the box of the real ones.

    Returns:
        The gap per number of clusters, and its standard error.
    """
    random = np.random.default_rng(seed)
    x = x[sampled(len(x), GAP_SAMPLE, seed)]
    strewn = [random.uniform(x.min(axis=0), x.max(axis=0), x.shape) for _ in range(draws)]
    logs = np.log([[inertia(rows, fit(rows, seed).labels) for fit in fits] for rows in (x, *strewn)])
    return logs[1:].mean(axis=0) - logs[0], logs[1:].std(axis=0) * np.sqrt(1 + 1 / draws)


def profiles(x: Array, labels: Ints) -> Array:
    """How many standard deviations each cluster's mean lies from the mean of all, shape (k, n_features)."""
    spread = x.std(axis=0)
    means = np.stack([x[labels == each].mean(axis=0) for each in range(labels.max() + 1)])
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
        seen.setdefault(names[place].rpartition("_")[0] or names[place], place)
    return list(seen.values())


def _numbered(name: str, taken: list[str]) -> str:
    return next(f"{name} ({number})" for number in range(2, len(taken) + 3) if f"{name} ({number})" not in taken)


def sampled(n: int, most: int, seed: int) -> Ints:
    """At most so many of n rows, in order."""
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, most, replace=False))
