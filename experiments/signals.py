"""Signals: what one feature looks like, where it falls apart, and what it alone says of an outcome."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata, spearmanr

from experiments.inference import Estimate, Summary, fold
from experiments.plain import Plain
from features.behaviour.matrix import FeatureMatrix
from features.people import hash_text
from training.steps import fit

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]

POINTS = 256
"""Quantiles that natural breaks are sought among."""
FIT = 0.8
"""Share of the variance that natural classes must explain: the fewest that do are taken."""
MOST_CLASSES = 6
FEWEST = 0.05
"""Share of the rows that either side of a split holds at least."""


def natural(values: Array) -> tuple[float, ...]:
    """Natural breaks: the fewest classes, at most MOST_CLASSES, that explain FIT of the variance.

    Each further class is the one that takes most of the variance within classes away (a regression tree of the values
    on themselves).

    Args:
        values: Shape (n,), without missing ones.

    Returns:
        The least value of every class but the first, ascending; none where nothing varies.
    """
    from sklearn.tree import DecisionTreeRegressor

    if not len(values) or values.min() == values.max():
        return ()
    points = np.quantile(values, np.linspace(0, 1, POINTS))[:, None]
    for k in range(2, MOST_CLASSES + 1):
        tree = DecisionTreeRegressor(max_leaf_nodes=k).fit(points, points)
        if tree.score(points, points) >= FIT:
            break
    cuts = np.sort(tree.tree_.threshold[tree.tree_.feature >= 0])
    return tuple(float(values[values > cut].min()) for cut in cuts)


@dataclass(frozen=True)
class Split:
    """One cut of one feature.

    Attributes:
        threshold: A value is `above` when it is at least this.
        above: Whether the outcome is more above it than below.
        share: Share of the rows on the side with more, missing values counted as not there.
        word: Of a category, what the value is called that is told from all others; empty for numbers.
    """

    threshold: float
    above: bool
    share: float
    word: str = ""

    def __str__(self) -> str:
        if self.word:
            return f"is {self.word}"
        number = f"{self.threshold:,.0f}" if abs(self.threshold) >= 1e5 else f"{self.threshold:,.6g}"
        return f"{'>=' if self.above else '<'} {number}"

    def inside(self, values: Array) -> NDArray[np.bool_]:
        """The rows on the side with more; a missing value is on neither."""
        if self.word:
            return np.asarray(values == self.threshold)
        with np.errstate(invalid="ignore"):
            return values >= self.threshold if self.above else values < self.threshold


def split(values: Array, outcome: Array) -> Split | None:
    """The cut that a tree of depth one would make: the one that takes most of the outcome's variance away.

    Each side holds at least FEWEST of the rows. For an outcome of 0 and 1 this is the Gini criterion.

    Args:
        values: Shape (n,); missing ones are left aside.
        outcome: Shape (n,).

    Returns:
        None where no cut leaves enough on both sides.
    """
    from sklearn.tree import DecisionTreeRegressor

    seen = ~np.isnan(values)
    x, y = values[seen].astype(np.float32), outcome[seen]
    least = max(1, int(np.ceil(FEWEST * len(values))))
    if len(x) < 2 * least:
        return None
    tree = DecisionTreeRegressor(max_depth=1, min_samples_leaf=least).fit(x[:, None], y).tree_
    if tree.node_count == 1:
        return None
    below = x <= tree.threshold[0]
    threshold = readable(float(values[seen][below].max()), float(values[seen][~below].min()))
    above = bool(y[~below].mean() > y[below].mean())
    return Split(threshold, above, float((below != above).sum() / len(values)))


def chosen(values: Array, outcome: Array, words: Sequence[str]) -> Split | None:
    """The same for a category: the value that tells most from all others, which has more of the outcome or less.

    Args:
        values: Shape (n,), places in `words`.
        outcome: Shape (n,).
        words: What the values are called.

    Returns:
        None where no value leaves enough on both sides.
    """
    total, n, best, found = float(outcome.sum()), len(values), 0.0, None
    for place, word in enumerate(words):
        inside = values == place
        count = int(inside.sum())
        if min(count, n - count) < max(1, FEWEST * n):
            continue
        mine = float(outcome[inside].sum())
        gap = mine / count - (total - mine) / (n - count)
        if count * (n - count) * gap * gap > best:
            best, found = count * (n - count) * gap * gap, Split(float(place), gap > 0, count / n, str(word))
    return found


def readable(low: float, high: float) -> float:
    """The number with the fewest digits above `low` and up to `high`: as a threshold it parts the same rows."""
    for digits in range(-15, 16):
        for number in (round((low + high) / 2, digits), (np.floor(low * 10.0**digits) + 1) / 10.0**digits):
            if low < number <= high:
                return float(number)
    return high


ALIKE = 0.85
"""Spearman's correlation from which on two features say the same."""
CONSIDERED, FEW_ROWS = 60, 20_000
PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)
CLEANING = ("impute", {"cap": {"low": 0.01, "high": 0.99}}, "log")
"""What stands between a distribution before and after."""
FEATURE_BINS, OUTCOME_BINS = 16, 8
FEWEST_OUTCOMES = 5
"""Rows with the outcome that either side of a comparison needs."""


@dataclass(frozen=True)
class Signal(Plain):
    """One feature.

    Attributes:
        feature: Its name.
        missing: Share of the rows.
        zero: Share of the rows.
        mean: Of the values that are there; so are those that follow.
        sd: Standard deviation.
        percentiles: By PERCENTILES.
        breaks: Natural breakpoints of the cleaned values, in the feature's own unit.
        bits: Mutual information with the outcome; 0 without one.
        rank: ROC-AUC for an outcome of 0 and 1, Spearman's correlation for others; NaN without one.
        split: The cut that tells most, of the ranks of an outcome that is not 0 or 1; found on one half of the users.
        share: Share of the users inside it.
        inside: Mean outcome inside the cut, on the other half of the users.
        lift: Inside against all others on the other half (0.5: half as much again); None with too few outcomes.
    """

    feature: str
    missing: float
    zero: float
    mean: float
    sd: float
    percentiles: Mapping[int, float]
    breaks: tuple[float, ...]
    bits: float = 0.0
    rank: float = float("nan")
    split: Split | None = None
    share: float = float("nan")
    inside: float = float("nan")
    lift: Estimate | None = None

    @property
    def told(self) -> str:
        """The cut in words; seconds as days or hours as well."""
        if self.split is None:
            return "-"
        if self.split.word:
            return str(self.split)
        days = self.split.threshold / 86_400
        long = f" ({days:.1f} d)" if days >= 1 else f" ({24 * days:.1f} h)"
        return f"{self.split}{long if self.feature.endswith('_s') else ''}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**super().to_dict(), "percentiles": {f"p{each}": value for each, value in self.percentiles.items()}}


def signals(
    matrix: FeatureMatrix, outcome: Array | None, words: Mapping[str, Sequence[str]] | None = None
) -> list[Signal]:
    """Every feature with a value anywhere, the most telling first.

    Args:
        matrix: One row a user.
        outcome: Shape (n_rows,); None without one.
        words: Of categories, what the values are called that their numbers are places of.
    """
    choosing = np.array([hash_text("explore" + user) & 1 for user in matrix.users], np.bool_)
    cleaned = fit(matrix, CLEANING).transform(matrix)
    found = [
        _signal(name, matrix.values[:, place], cleaned[:, place], outcome, choosing, (words or {}).get(name, ()))
        for place, name in enumerate(matrix.names)
        if not np.isnan(matrix.values[:, place]).all()
    ]
    return sorted(found, key=lambda each: -each.bits)


def varied(found: Sequence[Signal], matrix: FeatureMatrix, words: Collection[str] = ()) -> list[Signal]:
    """Of the most telling features those that no more telling one is like; a category (of `words`) is like none."""
    able = [each for each in found if each.sd > 0][:CONSIDERED]
    if not able:
        return []
    names = tuple(each.feature for each in able)
    rows = np.linspace(0, len(matrix) - 1, min(FEW_ROWS, len(matrix))).astype(np.int64)
    filled = fit(matrix, ["impute"], names=names).transform(matrix.take(rows))
    ranks = rankdata(filled, axis=0)
    with np.errstate(invalid="ignore"):
        alike = np.abs(np.atleast_2d(np.corrcoef(ranks, rowvar=False))) >= ALIKE
    named = np.isin(names, list(words))
    alike &= ~(named[:, None] | named[None, :])
    kept: list[int] = []
    for place in range(len(able)):
        if not alike[place, kept].any():
            kept.append(place)
    return [able[place] for place in kept]


def _signal(
    name: str, values: Array, cleaned: Array, outcome: Array | None, choosing: Bools, words: Sequence[str]
) -> Signal:
    there = ~np.isnan(values)
    seen = values[there]
    plain = Signal(
        name,
        float(1 - there.mean()),
        float((values == 0).mean()),
        float(seen.mean()),
        float(seen.std()),
        dict(zip(PERCENTILES, np.percentile(seen, PERCENTILES).tolist(), strict=True)),
        () if words else tuple(float(seen[cleaned[there] >= each].min()) for each in natural(cleaned[there])),
    )
    if outcome is None or len(np.unique(outcome)) < 2:
        return plain
    # By ranks: the variance of money is that of a few large amounts, and so would be the cut.
    told = outcome if _binary(outcome) else rankdata(outcome)
    ours = values[choosing], told[choosing]
    cut = chosen(*ours, words) if words else split(*ours)
    judged = ~choosing
    inside = cut.inside(values) if cut else np.zeros(len(values), np.bool_)
    some = bool(inside[judged].any())
    return replace(
        plain,
        bits=information(values, outcome, most=max(FEATURE_BINS, len(words))),
        rank=float("nan") if words else rank(seen, outcome[there]),
        split=cut,
        share=float(inside.mean()) if cut else float("nan"),
        inside=float(outcome[judged & inside].mean()) if some else float("nan"),
        lift=compared(inside[judged], outcome[judged]) if some else None,
    )


def information(values: Array, outcome: Array, *, most: int = FEATURE_BINS) -> float:
    """Mutual information in bits between a feature, missing values included, and an outcome, both in few bins.

    The bias of a plug-in estimate is taken away (Miller and Madow), so that a feature that says nothing has about 0.
    """
    from sklearn.metrics import mutual_info_score

    x, y = _bins(values, most), _bins(outcome, OUTCOME_BINS)
    cells, rows, columns = (len(np.unique(each)) for each in (x * (y.max() + 1) + y, x, y))
    bias = (cells - rows - columns + 1) / (2 * len(x))
    return float(max(0.0, mutual_info_score(x, y) - bias) / np.log(2))


def _bins(values: Array, most: int) -> NDArray[np.int64]:
    """A bin per value: quantiles of those that are there, and one for those that are not."""
    there = ~np.isnan(values)
    distinct = np.unique(values[there])
    edges = distinct[1:] if len(distinct) <= most else np.unique(np.quantile(values[there], np.arange(1, most) / most))
    return np.where(there, np.searchsorted(edges, values, side="right"), len(edges) + 1)


def rank(values: Array, outcome: Array) -> float:
    """ROC-AUC for an outcome of 0 and 1, else Spearman's correlation; NaN where either side is constant."""
    from sklearn.metrics import roc_auc_score

    if len(np.unique(outcome)) < 2 or len(np.unique(values)) < 2:
        return float("nan")
    return float(roc_auc_score(outcome, values) if _binary(outcome) else spearmanr(values, outcome).statistic)


def _binary(outcome: Array) -> bool:
    return set(np.unique(outcome)) <= {0.0, 1.0}


def compared(inside: Bools, outcome: Array) -> Estimate | None:
    """The mean outcome of some rows relative to that of all others; None with too few outcomes on a side."""
    sides = outcome[inside], outcome[~inside]
    if min(len(np.flatnonzero(side)) for side in sides) < FEWEST_OUTCOMES:
        return None
    return fold(Summary.of(sides[0]), Summary.of(sides[1]))
