"""Together: did columns move jointly, though each alone stayed? Rank correlations, and a classifier with its null."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import rankdata

from experiments.inference import two_sided
from experiments.shift import FEWEST_ROWS, Shift
from training.validation import Ranking

Array = NDArray[np.float64]

CORRELATION = 0.2
"""Change of a rank correlation that does not matter."""
EXCESS = 0.05
"""ROC-AUC above chance, of telling the two samples apart, that does not matter."""
SURE = 0.01
SPREAD = 0.9
"""A column whose most frequent value is more frequent is left out of pairs: its correlations hang on a few rows."""
PAIR_ROWS, CLASSIFIER_ROWS = 20_000, 1_000
NULLS = 3
ROUNDS, DEPTH, RATE = 25, 3, 0.2
TELLING = 3


def together(names: Sequence[str], before: Array, after: Array, *, seed: int = 0) -> list[Shift]:
    """The pair of columns whose correlation changed most, and how well a classifier tells the samples apart.

    Args:
        names: Of the columns.
        before: Reference, shape (n, columns); what is not finite is missing.
        after: Current sample, shape (m, columns).
        seed: Of the rows drawn and of the classifier.
    """
    there = [np.isfinite(side).sum(axis=0) >= FEWEST_ROWS for side in (before, after)]
    kept = np.flatnonzero(there[0] & there[1])
    if len(kept) < 2:
        return []
    random = np.random.default_rng(seed)
    sides = [np.where(np.isfinite(side[:, kept]), side[:, kept], np.nan) for side in (before, after)]
    drawn = [_drawn(side, PAIR_ROWS, random) for side in sides]
    called = [str(names[int(place)]) for place in kept]
    few = [_drawn(side, CLASSIFIER_ROWS, random) for side in drawn]
    found = [_pair(called, drawn[0], drawn[1]), _classifier(called, few[0], few[1], seed)]
    return [shift for shift in found if shift is not None]


def _drawn(side: Array, most: int, random: np.random.Generator) -> Array:
    return side if len(side) <= most else side[random.choice(len(side), most, replace=False)]


@dataclass(frozen=True)
class Correlations:
    """Rank correlations of all pairs of columns of one sample, and their variances.

    The variance is that of the influence of every row (z_i z_j - r (z_i^2 + z_j^2) / 2), so neither independence nor
    the shape of a distribution is assumed.
    """

    r: Array
    variance: Array

    @classmethod
    def of(cls, ranks: Array) -> "Correlations":
        """Of ranks among both samples, shape (n, columns)."""
        z = (ranks - ranks.mean(axis=0)) / ranks.std(axis=0)
        n = len(z)
        squares = z * z
        r, both, cubes = z.T @ z / n, squares.T @ squares / n, (squares * z).T @ z / n
        fourth = (squares * squares).mean(axis=0)
        mixed = fourth[:, None] + fourth[None, :] + 2 * both
        return cls(r, np.maximum(both - r * (cubes + cubes.T) + r * r / 4 * mixed, 0) / n)


def _pair(names: Sequence[str], before: Array, after: Array) -> Shift | None:
    ranks = rankdata(np.vstack([before, after]), axis=0, nan_policy="omit")
    ranks = np.where(np.isnan(ranks), np.nanmean(ranks, axis=0), ranks)
    sides = ranks[: len(before)], ranks[len(before) :]
    kept = np.flatnonzero(
        [max(map(_most_frequent, column)) <= SPREAD for column in zip(*(s.T for s in sides), strict=True)]
    )
    if len(kept) < 2:
        return None
    old, new = (Correlations.of(side[:, kept]) for side in sides)
    rows, columns = np.triu_indices(len(kept), 1)
    error = np.sqrt(old.variance + new.variance)[rows, columns]
    change = (new.r - old.r)[rows, columns]
    score = np.divide(change, error, out=np.zeros_like(change), where=error > 1e-4)
    p = np.minimum(1, len(score) * np.array([two_sided(each) for each in score]))
    place = int(np.lexsort((np.abs(change), p < SURE))[-1]) if (p < SURE).any() else int(np.argmin(p))
    a, b = kept[rows[place]], kept[columns[place]]
    values = float(old.r[rows[place], columns[place]]), float(new.r[rows[place], columns[place]])
    said = f"{names[a]} x {names[b]}"
    return Shift(said, "pair", *values, float(p[place]), abs(float(change[place])), CORRELATION, "rank correlation")


def _most_frequent(column: Array) -> float:
    return float(np.unique(column, return_counts=True)[1].max() / len(column))


def _classifier(names: Sequence[str], before: Array, after: Array, seed: int) -> Shift:
    """ROC-AUC of trees that tell the samples apart, against the same trees on sides that were dealt at random."""
    rows = np.vstack([before, after])
    side = np.concatenate([np.zeros(len(before)), np.ones(len(after))])
    random = np.random.default_rng(seed)
    area, gains = _told_apart(rows, side, random)
    nulls = [_told_apart(rows, random.permutation(side), random)[0] for _ in range(NULLS)]
    theory = sqrt((len(rows) + 1) / (12 * len(before) * len(after)))
    error = max(theory, float(np.std(nulls, ddof=1))) * sqrt(1 + 1 / NULLS)
    chance = float(np.mean(nulls))
    telling = ", ".join(names[place] for place in np.argsort(-gains, kind="stable")[:TELLING])
    p = float(ndtr((chance - area) / error))
    return Shift("all columns", "classifier", chance, area, p, max(0.0, area - 0.5), EXCESS, f"told apart by {telling}")


def _told_apart(rows: Array, side: Array, random: np.random.Generator) -> tuple[float, Array]:
    """The mean ROC-AUC of two halves, each judged by trees of the other; and how much every column helped."""
    import xgboost as xgb

    half = random.permutation(len(rows)) % 2 == 0
    asked = {
        "objective": "binary:logistic",
        "tree_method": "hist",
        "max_depth": DEPTH,
        "eta": RATE,
        "max_bin": 32,
        "nthread": 1,
    }
    areas, gains = [], np.zeros(rows.shape[1])
    for part in (half, ~half):
        known, asked_of = xgb.DMatrix(rows[part], side[part], nthread=1), xgb.DMatrix(rows[~part], nthread=1)
        trees = xgb.train({**asked, "colsample_bynode": 0.5, "seed": 0}, known, ROUNDS)
        areas.append(Ranking.of(side[~part], trees.predict(asked_of)).roc_auc)
        for name, gain in trees.get_score(importance_type="total_gain").items():
            gains[int(name[1:])] += gain if isinstance(gain, float) else sum(gain)
    return float(np.mean(areas)), gains
