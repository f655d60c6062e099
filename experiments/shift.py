"""Shift: has a column moved between two samples, surely and by how much? Calibrated for ties, spikes and gaps.

And did columns move jointly, though each alone stayed? Rank correlations, and a classifier with its null.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import asin, sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import rankdata

from experiments.inference import chi_square, fisher, two_sided
from experiments.plain import Plain
from training.validation import Ranking

Part = Literal[
    "missing", "spike", "values", "categories", "new values", "pair", "classifier", "performance", "share", "volume"
]
Kind = Literal["number", "category"]

DISTANCE = 0.05
"""Largest gap of two distribution functions that does not matter: an eighth of a standard deviation."""
SHARE = 0.03
"""Change of a share of missing, or of unknown, values that does not matter, in absolute terms."""
COHEN_H = 0.15
"""Change of any other share that does not matter, on the arcsine scale: 10 % to 15 %, 50 % to 57 %."""
LEAST = 0.05
"""Values beside the most frequent one that are fewer than this share are not judged by themselves."""
SPIKE = 0.5
"""From this share on, the most frequent value is judged apart from the others."""
FEWEST_ROWS = 50
FEWEST_EXPECTED = 10
MOST_BINS = 10


@dataclass(frozen=True)
class Shift(Plain):
    """One part of one column in two samples.

    Attributes:
        column: Its name.
        part: Share of missing values, share of the most frequent value, the values, categories, categories that the
            reference does not have, a pair or all columns together, or a figure of another kind.
        before: A share or a median in the reference; of categories the share of the one that changed most.
        after: The same in the current sample.
        p: Of no change, before any correction.
        effect: Change of a share (missing), of a correlation (pair) or of a figure (performance), Cohen's h (spike,
            share), excess of the ROC-AUC (classifier), doublings (volume), or largest gap of distribution functions.
        floor: An effect below it does not matter.
        subject: What the figures are of, in words.
        psi: Population stability index of the values, shown and never decided on: it jumps where values tie.
    """

    MORE = ("material",)

    column: str
    part: Part
    before: float
    after: float
    p: float
    effect: float
    floor: float
    subject: str
    psi: float | None = None

    @property
    def material(self) -> bool:
        """Large enough to matter, sure or not."""
        return self.effect >= self.floor


def shifts(
    column: str, before: NDArray[np.float64], after: NDArray[np.float64], *, kind: Kind, words: Sequence[str] = ()
) -> list[Shift]:
    """Every part of a column that can be tested.

    Args:
        column: Its name.
        before: Reference sample, shape (n,); NaN is missing, infinities count as missing.
        after: Current sample, shape (m,).
        kind: A `category` has codes without an order.
        words: What the codes 0, 1, ... of a category mean; the codes themselves where nothing is said.
    """
    gaps = [~np.isfinite(sample) for sample in (before, after)]
    present = [sample[~gap] for sample, gap in zip((before, after), gaps, strict=True)]
    found = [_missing(column, *gaps)]
    if min(map(len, present)) >= FEWEST_ROWS:
        found += _categories(column, *present, words=words) if kind == "category" else _numbers(column, *present)
    return [shift for shift in found if shift is not None]


@dataclass(frozen=True)
class Tally:
    """Two samples as counts of their distinct values, in order: what every test below needs, ties included."""

    values: NDArray[np.float64]
    before: NDArray[np.int64]
    after: NDArray[np.int64]

    @classmethod
    def of(cls, before: NDArray[np.float64], after: NDArray[np.float64]) -> "Tally":
        """Count two samples without missing values."""
        values, places = np.unique(np.concatenate([before, after]), return_inverse=True)
        size = len(values)
        return cls(
            values,
            np.bincount(places[: len(before)], minlength=size).astype(np.int64),
            np.bincount(places[len(before) :], minlength=size).astype(np.int64),
        )

    def without(self, place: int) -> "Tally":
        """All values but one."""
        keep = np.arange(len(self.values)) != place
        return Tally(self.values[keep], self.before[keep], self.after[keep])

    def shares(self, place: int) -> tuple[float, float]:
        """The share of one value in both samples."""
        return float(self.before[place] / self.before.sum()), float(self.after[place] / self.after.sum())

    def medians(self) -> tuple[float, float]:
        """The (lower) medians of both samples."""
        halves = (np.searchsorted(np.cumsum(part), part.sum() / 2) for part in (self.before, self.after))
        before, after = (float(self.values[place]) for place in halves)
        return before, after

    def distance(self) -> float:
        """Kolmogorov-Smirnov: the largest gap between the two distribution functions."""
        before, after = np.cumsum(self.before) / self.before.sum(), np.cumsum(self.after) / self.after.sum()
        return float(np.abs(before - after).max())

    def variation(self) -> float:
        """Total variation: the share of rows that changed their value."""
        return float(np.abs(self.before / self.before.sum() - self.after / self.after.sum()).sum() / 2)

    def psi(self) -> float:
        """Population stability index over ten quantile bins of the first sample; empty cells count as half a row."""
        quantiles = np.quantile(np.repeat(self.values, self.before), np.arange(1, MOST_BINS) / MOST_BINS)
        places = np.searchsorted(np.unique(quantiles), self.values, side="right")
        before, after = (np.bincount(places, part, MOST_BINS) for part in (self.before, self.after))
        taken = before + after > 0
        old, new = (np.maximum(part[taken], 0.5) / part.sum() for part in (before, after))
        return float(((new - old) * np.log(new / old)).sum())

    def rank_p(self) -> float:
        """Wilcoxon's rank-sum test with its correction for ties: one-sided moves of the whole distribution."""
        n, m = int(self.before.sum()), int(self.after.sum())
        both = (self.before + self.after).astype(np.float64)
        ranks = np.cumsum(both) - (both - 1) / 2
        ties = float((both**3 - both).sum()) / ((n + m) * (n + m - 1))
        variance = n * m / 12 * (n + m + 1 - ties)
        surplus = float((self.before * ranks).sum()) - n * (n + m + 1) / 2
        return two_sided(surplus / sqrt(variance)) if variance > 0 else 1.0

    def bins_p(self) -> float:
        """Chi-square over at most ten neighbourhoods of values, each expected often enough: moves of any shape."""
        edges = self._edges()
        if len(edges) < 2:
            return 1.0
        return chi_square([np.add.reduceat(part, edges).tolist() for part in (self.before, self.after)]).p

    def _edges(self) -> list[int]:
        reach = np.cumsum(self.before + self.after)
        total = int(reach[-1])
        least = self.fewest()
        width = max(total / MOST_BINS, least)
        edges, covered = [0], 0.0
        while covered + width < total:
            last = int(np.searchsorted(reach, covered + width))
            covered = float(reach[last])
            if total - covered < least:
                break
            edges.append(last + 1)
        return edges

    def fewest(self) -> float:
        """Rows of both samples that a cell needs, so that enough are expected in the smaller sample."""
        sizes = int(self.before.sum()), int(self.after.sum())
        return FEWEST_EXPECTED * sum(sizes) / min(sizes)

    def categories_p(self) -> float:
        """Chi-square over the values as categories; the rare ones are joined, and left out if still too rare."""
        rare = self.before + self.after < self.fewest()
        cells = [[*part[~rare].tolist(), int(part[rare].sum())] for part in (self.before, self.after)]
        if cells[0][-1] + cells[1][-1] < self.fewest():
            cells = [cell[:-1] for cell in cells]
        return chi_square(cells).p if len(cells[0]) > 1 else 1.0


def _missing(column: str, before: NDArray[np.bool_], after: NDArray[np.bool_]) -> Shift | None:
    counts = int(before.sum()), int(after.sum())
    if sum(counts) in (0, len(before) + len(after)):
        return None
    p = fisher(counts[0], len(before), counts[1], len(after))
    old, new = float(before.mean()), float(after.mean())
    return Shift(column, "missing", old, new, p, abs(new - old), SHARE, "share without a value")


def _numbers(column: str, before: NDArray[np.float64], after: NDArray[np.float64]) -> list[Shift | None]:
    tally = Tally.of(before, after)
    mode = int(np.argmax(tally.before))
    if tally.shares(mode)[0] < SPIKE:
        return [_values(column, tally, "median")]
    return [_spike(column, tally, mode), _rest(column, tally, mode)]


def _spike(column: str, tally: Tally, mode: int) -> Shift | None:
    if len(tally.values) < 2:
        return None
    p = fisher(int(tally.before[mode]), int(tally.before.sum()), int(tally.after[mode]), int(tally.after.sum()))
    old, new = tally.shares(mode)
    return Shift(column, "spike", old, new, p, cohen_h(old, new), COHEN_H, f"share of {tally.values[mode]:g}")


def cohen_h(before: float, after: float) -> float:
    """How far two shares are apart on the arcsine scale."""
    return abs(2 * asin(sqrt(before)) - 2 * asin(sqrt(after)))


def _rest(column: str, tally: Tally, mode: int) -> Shift | None:
    rest = tally.without(mode)
    shares = rest.before.sum() / tally.before.sum(), rest.after.sum() / tally.after.sum()
    if min(rest.before.sum(), rest.after.sum()) < FEWEST_ROWS or max(shares) < LEAST:
        return None
    return _values(column, rest, f"median where not {tally.values[mode]:g}")


def _values(column: str, tally: Tally, subject: str) -> Shift | None:
    """The better of two tests at half the level each: ranks see small moves, bins see a change of shape."""
    if len(tally.values) < 2:
        return None
    p = min(1.0, 2 * min(tally.rank_p(), tally.bins_p()))
    return Shift(column, "values", *tally.medians(), p, tally.distance(), DISTANCE, subject, tally.psi())


def _categories(
    column: str, before: NDArray[np.float64], after: NDArray[np.float64], *, words: Sequence[str]
) -> list[Shift | None]:
    tally = Tally.of(before, after)
    if len(tally.values) < 2:
        return []
    most = int(np.argmax(np.abs(tally.before / tally.before.sum() - tally.after / tally.after.sum())))
    subject = f"share of {_word(tally.values[most], words)}"
    p, effect = tally.categories_p(), tally.variation()
    return [
        Shift(column, "categories", *tally.shares(most), p, effect, DISTANCE, subject),
        _unknown(column, tally, words),
    ]


def _word(code: float, words: Sequence[str]) -> str:
    return repr(words[int(code)]) if words else f"category {code:g}"


def _unknown(column: str, tally: Tally, words: Sequence[str]) -> Shift | None:
    unknown = np.where(tally.before == 0, tally.after, 0)
    new, most = int(unknown.sum()), tally.values[int(unknown.argmax())]
    if not new:
        return None
    m, share = int(tally.after.sum()), new / int(tally.after.sum())
    p = fisher(0, int(tally.before.sum()), new, m)
    return Shift(
        column, "new values", 0.0, share, p, share, SHARE, f"share of unknown categories, such as {_word(most, words)}"
    )


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
