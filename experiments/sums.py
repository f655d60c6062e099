"""Sums: what is kept of one metric's rows; the sums of two parts are those of their union, and everything follows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.inference import Estimate, Summary, welch

FIELDS = ("n", "a", "b", "aa", "ab", "bb", "aaa", "x", "xx", "ax", "bx")
"""Rows; sums of the metric's two sides (`b` is 1 for a mean) and their products; the same with the covariate x."""
N, A, B, AA, AB, BB, AAA, X, XX, AX, BX = range(len(FIELDS))


@dataclass(frozen=True)
class Sums:
    """Of one metric: a mean, or the ratio of two sums.

    Attributes:
        totals: Shape (11,), in the order of `FIELDS`.
        shift: What was taken from every value of a mean before it was squared, so that no digit is lost.
    """

    totals: NDArray[np.float64]
    shift: float = 0.0

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(self.totals + other.totals, self.shift)

    @property
    def n(self) -> int:
        """Rows."""
        return int(self.totals[N])

    @property
    def ratio(self) -> float:
        """Of the two sides, the shift aside."""
        return float(self.totals[A] / self.totals[B]) if self.totals[B] else 0.0

    def summary(self, slope: float = 0.0, middle: float = 0.0) -> Summary:
        """Size, mean and variance of a row by the delta method; without what a covariate told, where it has a slope.

        Args:
            slope: Of the metric on the covariate.
            middle: The covariate's mean over all that are compared.
        """
        t, r = self.totals, self.ratio
        if self.n < 2 or not t[B]:
            return Summary(self.n, r + self.shift, 0.0)
        below = t[B] / t[N]
        variance = (t[AA] - 2 * r * t[AB] + r * r * t[BB]) / (below * below)
        if slope:
            variance += slope * slope * self.spread - 2 * slope * self.told
        mean = r + self.shift - slope * (t[X] / t[N] - middle)
        return Summary(self.n, float(mean), max(float(variance), 0.0) / (self.n - 1))

    @property
    def spread(self) -> float:
        """The covariate's sum of squares about its mean."""
        return float(self.totals[XX] - self.totals[X] ** 2 / self.totals[N])

    @property
    def told(self) -> float:
        """Sum of products of metric and covariate about their means."""
        t = self.totals
        return float((t[AX] - self.ratio * t[BX]) * t[N] / t[B])

    @property
    def skewness(self) -> float:
        """Of a mean's values; 0 where they are all the same."""
        t, mean = self.totals, self.ratio
        spread = t[AA] / t[N] - mean**2
        if not spread > 1e-12 * max(1.0, mean**2):
            return 0.0
        return float((t[AAA] / t[N] - 3 * mean * t[AA] / t[N] + 2 * mean**3) / spread**1.5)


def cuped(arm: Sums, control: Sums) -> tuple[Estimate | None, float]:
    """The difference without what a covariate from before the exposure told of both (Deng et al. 2013).

    The slope is that of all rows of the two together.

    Returns:
        The difference, None where nothing varies; the share of the variance within arms that is gone.
    """
    both = arm + control
    if both.n < 3 or not both.totals[B] or both.spread <= 0:
        return None, 0.0
    slope, middle = both.told / both.spread, both.totals[X] / both.totals[N]
    plain, adjusted = ([each.summary(*how) for each in (arm, control)] for how in ((), (slope, middle)))
    within, left = (sum(each.variance * (each.n - 1) for each in pair) for pair in (plain, adjusted))
    if min(each.n for each in adjusted) < 2 or left <= 0:
        return None, 0.0
    return welch(*adjusted), 1 - left / within


def summed(
    cell: NDArray[np.int64],
    n_cells: int,
    a: NDArray[np.float64],
    b: NDArray[np.float64] | None = None,
    x: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """The sums of one metric's rows by cell, shape (n_cells, 11); one thread adds in order, so twice gives the same.

    Args:
        cell: Which of them a row is in, shape (n,).
        n_cells: How many there are.
        a: The metric, less its shift; or the upper side of a ratio. NaN is missing.
        b: The lower side of a ratio.
        x: The covariate.
    """
    there = ~np.isnan(a)
    if not there.all():
        cell, a = cell[there], a[there]
        b, x = (None if each is None else each[there] for each in (b, x))
    found = np.zeros((n_cells, len(FIELDS)))

    def add(field: int, values: NDArray[np.float64] | None) -> None:
        found[:, field] = np.bincount(cell, values, n_cells)

    add(N, None)
    add(A, a)
    add(AA, square := a * a)
    add(AAA, square * a)
    if b is not None:
        add(B, b)
        add(AB, a * b)
        add(BB, b * b)
    else:
        found[:, [B, AB, BB]] = found[:, [N, A, N]]
    if x is not None:
        add(X, x)
        add(XX, x * x)
        add(AX, a * x)
        add(BX, x if b is None else b * x)
    return found
