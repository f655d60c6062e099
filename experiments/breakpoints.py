"""Breakpoints: where a number falls apart by itself, and where it tells one outcome from another."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

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
