"""Validation: how good a propensity is, with bootstrap intervals over users; points and replicates share one code."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from features.errors import StudyError

Array = NDArray[np.float64]

METRICS: Mapping[str, bool] = {
    "roc_auc": True,
    "average_precision": True,
    "log_loss": False,
    "brier": False,
    "calibration_error": False,
    "lift_top_decile": True,
}
"""Name: whether more is better."""

TITLES: Mapping[str, str] = {
    "roc_auc": "ROC-AUC",
    "average_precision": "average precision",
    "log_loss": "log-loss",
    "brier": "Brier",
    "calibration_error": "calibration error",
    "lift_top_decile": "lift, top decile",
}
"""What people call them."""

BINS = 10
ERROR = "calibration_error"
TOP = 0.1
LEAST = 1e-15
BLOCK = 4_000_000


@dataclass(frozen=True)
class Estimate:
    """A figure and its bootstrap interval, of 95 per cent where nothing else is said."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


@dataclass(frozen=True)
class Figures:
    """All metrics of one set of predictions.

    Attributes:
        n_rows: Rows judged.
        base_rate: Share of ones; of several classes that of the most frequent.
        estimates: One per metric.
        replicates: Shape (n_replicates,) per metric; the same resamples for every model judged together.
    """

    n_rows: int
    base_rate: float
    estimates: Mapping[str, Estimate]
    replicates: Mapping[str, Array]

    def __getitem__(self, metric: str) -> Estimate:
        return self.estimates[metric]

    def minus(self, other: "Figures", *, level: float = 0.05) -> dict[str, Estimate]:
        """Paired differences: the interval of self - other over the same resamples of users."""
        return {
            name: _estimate(self[name].value - other[name].value, self.replicates[name] - other.replicates[name], level)
            for name in METRICS
        }

    def to_dict(self) -> dict[str, object]:
        """Plain values without the replicates."""
        return {
            "n_rows": self.n_rows,
            "base_rate": self.base_rate,
            **{name: asdict(estimate) for name, estimate in self.estimates.items()},
        }


def judge(
    y: Array, predictions: Mapping[str, Array], users: NDArray[np.object_], *, replicates: int = 500, seed: int = 0
) -> dict[str, Figures]:
    """Figures of several predictions of the same rows, from the same resamples of users.

    Args:
        y: Shape (n_rows,), 0 or 1; or a place among the classes, where predictions are of several.
        predictions: Per model, probabilities of shape (n_rows,), or (n_rows, n_classes): then every figure is the mean
            over the classes that occur, each against the rest.
        users: Shape (n_rows,); all rows of a user are drawn together.
        replicates: Bootstrap resamples.
        seed: Of the resamples.

    Raises:
        StudyError: the rows hold one class only, or a prediction is not a probability.
    """
    _check(y, predictions)
    rankings = {name: _rankings(y, p) for name, p in predictions.items()}
    points = {name: _means(each, np.ones((1, len(y)))) for name, each in rankings.items()}
    drawn: dict[str, dict[str, list[Array]]] = {name: {m: [] for m in METRICS} for name in rankings}
    for weights in _resamples(users, replicates, seed):
        for name, each in rankings.items():
            for metric, values in _means(each, weights).items():
                drawn[name][metric].append(values)
    return {name: _figures(y, points[name], drawn[name]) for name in rankings}


def _rankings(y: Array, p: Array) -> "list[Ranking]":
    if p.ndim == 1:
        return [Ranking.of(y, p)]
    return [Ranking.of((y == place).astype(np.float64), p[:, place]) for place in np.unique(y).astype(np.int64)]


def _means(rankings: "Sequence[Ranking]", weights: Array) -> dict[str, Array]:
    each = [ranking.metrics(weights) for ranking in rankings]
    return {name: np.mean([figures[name] for figures in each], axis=0) for name in METRICS}


def _check(y: Array, predictions: Mapping[str, Array]) -> None:
    if len(np.unique(y)) < 2:
        raise StudyError(
            f"{int((y > 0).sum())} of {len(y)} rows are positive: one class alone cannot be judged. "
            "Hint: choose a longer `within`, a wider population, or a later test cut."
        )
    for name, p in predictions.items():
        if len(p) != len(y) or not ((p >= 0) & (p <= 1)).all():
            raise StudyError(f"the predictions of {name!r} are not {len(y)} probabilities.")


def _resamples(users: NDArray[np.object_], replicates: int, seed: int) -> Iterator[Array]:
    random = np.random.default_rng(seed)
    _, group = np.unique(users.astype(str), return_inverse=True)
    n_users = int(group.max()) + 1
    block = max(1, min(replicates, BLOCK // len(users)))
    for start in range(0, replicates, block):
        rows = range(min(block, replicates - start))
        counts = [np.bincount(random.integers(0, n_users, n_users), minlength=n_users) for _ in rows]
        yield np.stack(counts).astype(np.float64)[:, group]


def _figures(y: Array, points: Mapping[str, Array], drawn: Mapping[str, list[Array]]) -> Figures:
    replicates = {metric: np.concatenate(parts) if parts else np.empty(0) for metric, parts in drawn.items()}
    values = {metric: float(each[0]) for metric, each in points.items()}
    if len(replicates[ERROR]):
        # Gaps count whichever way they go, so chance adds to their sum: once to the value, twice to a resample's.
        bias = float(np.nanmean(replicates[ERROR])) - values[ERROR]
        values[ERROR] = max(values[ERROR] - bias, 0.0)
        replicates[ERROR] = np.maximum(replicates[ERROR] - 2 * bias, 0.0)
    estimates = {metric: _estimate(values[metric], replicates[metric]) for metric in METRICS}
    return Figures(
        len(y),
        float(y.mean() if y.max() <= 1 else np.bincount(y.astype(np.int64)).max() / len(y)),
        estimates,
        replicates,
    )


def _estimate(value: float, replicates: Array, level: float = 0.05) -> Estimate:
    sound = replicates[~np.isnan(replicates)]
    low, high = np.quantile(sound, [level / 2, 1 - level / 2]) if len(sound) else (value, value)
    return Estimate(value, float(low), float(high))


@dataclass(frozen=True)
class Ranking:
    """Predictions sorted once, best first, so that a resample is a few cumulative sums.

    Attributes:
        order: Rows from the highest probability down.
        starts: Where each run of equal probabilities begins in that order.
        y: Labels in that order.
        p: Probabilities in that order.
        bins: Per row in that order, its bin of the calibration error: ten groups of about equal size.
    """

    order: NDArray[np.int64]
    starts: NDArray[np.int64]
    y: Array
    p: Array
    bins: NDArray[np.int64]

    @classmethod
    def of(cls, y: Array, p: Array) -> "Ranking":
        """Sort; equal probabilities stay together in ranks and in bins."""
        order = np.argsort(-p, kind="stable")
        y, p = y[order], p[order]
        starts = np.flatnonzero(np.concatenate([[True], p[1:] != p[:-1]]))
        first = np.repeat(starts, np.diff([*starts, len(p)]))
        return cls(order, starts, y, p, first * BINS // len(p))

    def metrics(self, weights: Array) -> dict[str, Array]:
        """Every metric for several weightings of the rows.

        Args:
            weights: Shape (n_weightings, n_rows), in the rows' own order.

        Returns:
            Per metric, shape (n_weightings,); NaN where a weighting leaves one class only.
        """
        weights = weights[:, self.order]
        positive = weights * self.y
        pos, every = (np.add.reduceat(each, self.starts, axis=1) for each in (positive, weights))
        above_pos, above = np.cumsum(pos, axis=1), np.cumsum(every, axis=1)
        n_pos, n = above_pos[:, -1], above[:, -1]
        with np.errstate(divide="ignore", invalid="ignore"):
            pairs = ((every - pos) * (above_pos - pos / 2)).sum(axis=1)
            precision = np.where(above > 0, above_pos / above, 0.0)
            share = np.clip((TOP * n[:, None] - (above - every)) / np.where(every > 0, every, 1.0), 0.0, 1.0)
            return {
                "roc_auc": pairs / (n_pos * (n - n_pos)),
                "average_precision": (pos * precision).sum(axis=1) / n_pos,
                "log_loss": weights @ self._loss / n,
                "brier": weights @ (self.p - self.y) ** 2 / n,
                "calibration_error": self._calibration_error(weights) / n,
                "lift_top_decile": (share * pos).sum(axis=1) / (TOP * n_pos),
            }

    @property
    def roc_auc(self) -> float:
        """Of all rows, each once."""
        return float(self.metrics(np.ones((1, len(self.y))))["roc_auc"][0])

    @property
    def _loss(self) -> Array:
        p = np.clip(self.p, LEAST, 1 - LEAST)
        return -(self.y * np.log(p) + (1 - self.y) * np.log1p(-p))

    def _calibration_error(self, weights: Array) -> Array:
        edges = np.flatnonzero(np.concatenate([[True], self.bins[1:] != self.bins[:-1]]))
        gaps = np.add.reduceat(weights * (self.p - self.y), edges, axis=1)
        return np.asarray(np.abs(gaps).sum(axis=1))


@dataclass(frozen=True)
class Confusion:
    """Counts at a threshold."""

    threshold: float
    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    @classmethod
    def at(cls, threshold: float, y: Array, p: Array) -> "Confusion":
        """The counts when every row at or above `threshold` is chosen."""
        chosen, positive = p >= threshold, y > 0
        cells = ((chosen & positive), (chosen & ~positive), (~chosen & positive), (~chosen & ~positive))
        return cls(threshold, *(int(cell.sum()) for cell in cells))

    @property
    def precision(self) -> float:
        """Share of the chosen that are positive; NaN when nobody is chosen."""
        chosen = self.true_positive + self.false_positive
        return self.true_positive / chosen if chosen else float("nan")

    @property
    def recall(self) -> float:
        """Share of the positive that are chosen; NaN when nobody is positive."""
        positive = self.true_positive + self.false_negative
        return self.true_positive / positive if positive else float("nan")

    def __str__(self) -> str:
        chosen = self.true_positive + self.false_positive
        n = chosen + self.false_negative + self.true_negative
        return (
            f"threshold {self.threshold:.3f}: {chosen:,} of {n:,} chosen, "
            f"precision {self.precision:.3f}, recall {self.recall:.3f}"
        )
