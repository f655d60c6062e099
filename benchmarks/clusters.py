"""Clustering studies of a million users, a process of 6 GiB each: from the features to a judged, drawn, stored model.

Part of `benchmarks.studies`. Six kinds of users, of different size and spread, over 18 skewed features; for chains
their moves among four events.
"""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from time import process_time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Figure, at_least, at_most, note
from benchmarks.scale import confined, peak
from experiments import kinds, studies
from experiments.search import search
from experiments.studies import OF_DENSITY
from experiments.study import store
from features.behaviour.matrix import FeatureMatrix
from training.training_set import TrainingSet

ALGORITHMS = ("kmeans", "ward", "dbscan", "hdbscan", "gaussian", "markov")
KINDS, COLUMNS, EVENTS = 6, 18, 4
LIMIT, SECONDS = 6 << 30, 300
SHARES = np.array([0.3, 0.25, 0.15, 0.12, 0.1, 0.08])


class Done(NamedTuple):
    """Processor seconds of all cores, bytes at most resident, adjusted Rand index of what is served, and its kinds."""

    seconds: float
    peak: int
    agreement: float
    found: int


def figures(n_users: int) -> Iterator[Figure]:
    """What every algorithm takes, and what it finds."""
    for algorithm in ALGORITHMS:
        done = confined(partial(work, algorithm, n_users), limit=LIMIT)
        note(f"{algorithm}: {done.found} kinds of {KINDS}")
        told = f"{algorithm}, {n_users:,} users"
        yield at_most(f"{told}: processor time of all cores", done.seconds, "s", SECONDS)
        yield at_most(f"{told}: memory", done.peak / 2**30, "GiB", LIMIT / 2**30)
        agreement = (f"{told}: planted kinds found", done.agreement, "ARI")
        yield Figure(*agreement) if algorithm in OF_DENSITY else at_least(*agreement, 0.8)


def work(algorithm: str, n_users: int) -> Done:
    """One study."""
    from sklearn.metrics import adjusted_rand_score

    values, planted = walks(n_users) if algorithm == "markov" else users(n_users)
    names = tuple(f"moves_{one}_{other}_30d" for one in "abcd" for other in "abcd")
    names = names if algorithm == "markov" else tuple(f"f{column}" for column in range(COLUMNS))
    who, zeros = np.array([f"u{row}" for row in range(n_users)], object), np.zeros(n_users, np.int64)
    matrix = FeatureMatrix(values, who, zeros, names, "benchmark", np.zeros(n_users, np.bool_))
    rows = TrainingSet(matrix, None, np.zeros(n_users, np.int8), {})
    _, spec = studies.one({"kind": "clusters", "algorithm": algorithm, "k": [3, 8]})
    begun = process_time()
    with tempfile.TemporaryDirectory() as folder:
        fitted = kinds.clusters("benchmark", spec, rows, partial(_search, Path(folder) / "journal"))
        fitted.draw(Path(folder) / "report")
        store(Path(folder) / "models", fitted, rows, seed=1)
    seconds, some = process_time() - begun, np.arange(0, n_users, max(1, n_users // 20_000))
    found = fitted.model.score(matrix.take(some)).cluster
    return Done(seconds, peak(), float(adjusted_rand_score(planted[some], found)), len(fitted.model.ids))


def _search(storage: Path, objective, space, *, direction, first=(), most=25):  # noqa: ANN001, ANN202 - a Searcher
    options = {"trials": most, "seed": 7, "direction": direction, "first": first}
    return search(objective, space, storage=storage, name="benchmark", **options)


def users(n: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Counts around the mean of each user's kind, and the kinds."""
    random = np.random.default_rng(1)
    kind = random.choice(KINDS, n, p=SHARES)
    centres = np.exp(random.normal(1.5, 1.0, (KINDS, COLUMNS)))
    return random.poisson(random.gamma(8, centres[kind] / 8)).astype(np.float64), kind


def walks(n: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Counts of moves by the chain of each user's kind, and the kinds."""
    random = np.random.default_rng(2)
    kind = random.choice(KINDS, n, p=SHARES)
    chains = random.dirichlet(np.full(EVENTS, 0.7), (KINDS, EVENTS))
    departures = random.poisson(15, (n, EVENTS))
    return random.multinomial(departures, chains[kind]).reshape(n, -1).astype(np.float64), kind
