"""Breakpoints: where a number falls apart by itself, and where it tells one outcome from another."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

POINTS = 256
"""Distinct points that natural breaks are sought among; more are drawn together first, evenly by rank."""
FIT = 0.8
"""Share of the variance that natural classes must explain: the fewest that do are taken."""
MOST_CLASSES = 6
FEWEST = 0.05
"""Share of the rows that either side of a split holds at least."""


def natural(values: Array) -> tuple[float, ...]:
    """Fisher's and Jenks's natural breaks: the fewest classes, at most MOST_CLASSES, that explain FIT of the variance.

    Args:
        values: Shape (n,), without missing ones.

    Returns:
        The least value of every class but the first, ascending; none where nothing varies.
    """
    points, weights = _points(values)
    if len(points) < 2:
        return ()
    total = _spread(points, weights)
    for k in range(2, min(MOST_CLASSES, len(points)) + 1):
        starts, within = jenks(points, weights, k)
        if 1 - within / total >= FIT or k == min(MOST_CLASSES, len(points)):
            break
    return tuple(float(points[start]) for start in starts)


def jenks(points: Array, weights: Array, k: int) -> tuple[list[int], float]:
    """The k classes of ascending points with the least sum of squares within them (Fisher 1958).

    Args:
        points: Shape (n,), ascending.
        weights: Shape (n,).
        k: Classes.

    Returns:
        (the place of the first point of every class but the first, the sum of squares).
    """
    n = len(points)
    ones, sums, squares = (np.concatenate([[0.0], np.cumsum(weights * points**power)]) for power in (0, 1, 2))

    def within(first: NDArray[np.int64], last: int) -> Array:
        """Sum of squares of the points first .. last - 1, for every first."""
        weight = ones[last] - ones[first]
        return np.asarray(squares[last] - squares[first] - (sums[last] - sums[first]) ** 2 / weight)

    best: Array = np.array([np.inf] + [float(within(np.array([0]), end)[0]) for end in range(1, n + 1)])
    choices: list[NDArray[np.int64]] = []
    for classes in range(2, k + 1):
        now, choice = np.full(n + 1, np.inf), np.zeros(n + 1, np.int64)
        for end in range(classes, n + 1):
            firsts = np.arange(classes - 1, end)
            costs = best[firsts] + within(firsts, end)
            choice[end] = firsts[costs.argmin()]
            now[end] = costs.min()
        best, choices = now, [*choices, choice]
    starts, end = [], n
    for choice in reversed(choices):
        end = int(choice[end])
        starts.append(end)
    return starts[::-1], max(float(best[n]), 0.0)


def _points(values: Array) -> tuple[Array, Array]:
    """At most POINTS ascending points and how many rows stand behind each."""
    found, counts = np.unique(values, return_counts=True)
    if len(found) <= POINTS:
        return found, counts.astype(np.float64)
    bins = np.minimum((np.cumsum(counts) - counts) * POINTS // len(values), POINTS - 1)
    firsts = np.flatnonzero(np.append(True, bins[1:] != bins[:-1]))
    weights = np.add.reduceat(counts.astype(np.float64), firsts)
    return np.add.reduceat(found * counts, firsts) / weights, weights


def _spread(points: Array, weights: Array) -> float:
    mean = np.average(points, weights=weights)
    return float((weights * (points - mean) ** 2).sum())


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
    seen = ~np.isnan(values)
    order = np.argsort(values[seen], kind="stable")
    x, y = values[seen][order], outcome[seen][order]
    n, least = len(x), max(1, int(np.ceil(FEWEST * len(values))))
    below = np.arange(1, n)
    able = (x[1:] > x[:-1]) & (below >= least) & (n - below >= least) if n > 1 else np.empty(0, np.bool_)
    if not able.any():
        return None
    sums = np.cumsum(y)[:-1]
    means, rests = sums / below, (y.sum() - sums) / (n - below)
    gain = np.where(able, below * (n - below) * (means - rests) ** 2, -1.0)
    place = int(gain.argmax())
    above = bool(rests[place] > means[place])
    threshold = readable(float(x[place]), float(x[place + 1]))
    return Split(threshold, above, float((n - place - 1 if above else place + 1) / len(values)))


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
