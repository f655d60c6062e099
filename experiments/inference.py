"""Inference: the plain formulas behind every verdict, over summaries, sums and counts instead of rows.

The sums of two parts are those of their union, and everything follows from them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, exp, log, sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc, ndtri, stdtr, stdtrit
from scipy.stats import binomtest, chi2_contingency, chisquare, false_discovery_control, fisher_exact

Correction = Literal["holm", "bh"]
Z, LEVEL = 1.96, 0.05
ROUNDING, EPSILON = 1e-12, float(np.finfo(np.float64).eps)
"""The part of the mean square that a variance has to be to be more than rounding, and what each row adds to it."""
LARGE = 10_000.0  # from here on Student's 97.5 % quantile is within 0.01 % of 1.96


@dataclass(frozen=True)
class Summary:
    """Size, mean and variance (n - 1) of one metric in one arm; the variance of a single value is 0."""

    n: int
    mean: float
    variance: float

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> "Summary":
        """The summary of finite values, shape (n,)."""
        if not len(values):
            return cls(0, 0.0, 0.0)
        varies = values.min() < values.max()  # the mean of equal values is not always one of them
        return cls(len(values), float(np.mean(values)), float(np.var(values, ddof=1)) if varies else 0.0)

    @classmethod
    def of_sums(cls, n: float, total: float, squares: float) -> "Summary":
        """The same of so many values by their sum and the sum of their squares."""
        mean = total / n if n else 0.0
        return cls(int(n), mean, max(squares - n * mean * mean, 0.0) / (n - 1) if n > 1 else 0.0)

    @property
    def sd(self) -> float:
        """Standard deviation."""
        return sqrt(self.variance)

    @property
    def error(self) -> float:
        """Standard error of the mean."""
        return sqrt(self.variance / self.n)


@dataclass(frozen=True)
class Estimate:
    """A difference of two means with its interval and two-sided p."""

    value: float
    low: float
    high: float
    error: float
    p: float


@dataclass(frozen=True)
class ChiSquare:
    """A chi-square test: statistic, degrees of freedom, p."""

    statistic: float
    freedom: int
    p: float


def welch(arm: Summary, control: Summary) -> Estimate:
    """Welch's t-test of `arm` against `control`: unequal variances, Satterthwaite's degrees of freedom, 95 % interval.

    Both need at least two values, and one of them some variance. From `LARGE` degrees of freedom on the interval is
    1.96 standard errors wide on each side, as in published tables; p is Student's throughout.
    """
    error = sqrt(arm.error**2 + control.error**2)
    freedom = error**4 / (arm.error**4 / (arm.n - 1) + control.error**4 / (control.n - 1))
    difference = arm.mean - control.mean
    half = (Z if freedom >= LARGE else float(stdtrit(freedom, 0.975))) * error
    p = 2 * float(stdtr(freedom, -abs(difference) / error))
    return Estimate(difference, difference - half, difference + half, error, p)


def one_sided(arm: Summary, control: Summary) -> tuple[float, float]:
    """The 95 % bound that the true difference lies above, and the one that it lies below (Welch, each at 5 %)."""
    error = sqrt(arm.error**2 + control.error**2)
    freedom = error**4 / (arm.error**4 / (arm.n - 1) + control.error**4 / (control.n - 1))
    half = float(stdtrit(freedom, 0.95)) * error
    return arm.mean - control.mean - half, arm.mean - control.mean + half


def lift(arm: Summary, control: Summary) -> Estimate | None:
    """`arm` relative to `control` (0.1: ten per cent more), by the delta method; None unless control is positive."""
    if control.mean <= 0:
        return None
    ratio = arm.mean / control.mean
    error = sqrt(arm.error**2 + ratio**2 * control.error**2) / control.mean
    half = Z * error
    p = two_sided((ratio - 1) / error) if error > 0 else 1.0
    return Estimate(ratio - 1, ratio - 1 - half, ratio - 1 + half, error, p)


def fold(arm: Summary, control: Summary) -> Estimate | None:
    """The same on a logarithmic scale (Katz et al. 1978), as large ratios need it; None unless both are positive.

    `error` is that of the logarithm; ends and value are again relative to control, so 0.1 is ten per cent more.
    """
    if arm.mean <= 0 or control.mean <= 0:
        return None
    error = sqrt((arm.error / arm.mean) ** 2 + (control.error / control.mean) ** 2)
    middle = log(arm.mean / control.mean)
    low, value, high = (exp(middle + step * Z * error) - 1 for step in (-1, 0, 1))
    return Estimate(value, low, high, error, two_sided(middle / error) if error > 0 else 1.0)


def always_valid(estimate: Estimate, n: int, *, tuned_for: int = 5_000) -> tuple[float, float]:
    """An interval that holds the truth at every look, however often one looks, once there are enough rows.

    The asymptotic confidence sequence of Waudby-Smith et al. (arXiv 2103.06476), narrowest near `tuned_for` rows.

    Args:
        estimate: With its standard error.
        n: Rows of both arms together.
        tuned_for: Rows at which the interval is to be as narrow as it can be.
    """
    level = -2 * log(LEVEL)
    reach = n * (level + log(level + 1)) / tuned_for
    half = estimate.error * sqrt(2 * (reach + 1) / reach * log(sqrt(reach + 1) / LEVEL))
    return estimate.value - half, estimate.value + half


def heterogeneity(estimates: Sequence[Estimate]) -> ChiSquare:
    """Cochran's Q: do independent estimates differ by more than their standard errors say? A test of interaction."""
    weights = np.array([1 / each.error**2 for each in estimates])
    values = np.array([each.value for each in estimates])
    mean = float((weights * values).sum() / weights.sum())
    statistic = float((weights * (values - mean) ** 2).sum())
    return ChiSquare(statistic, len(estimates) - 1, float(chdtrc(len(estimates) - 1, statistic)))


def rows_needed(sd: float, effect: float, *, arms: int = 2, power: float = 0.8) -> int:
    """Rows in each arm so that a true difference of `effect` to control is found with `power`.

    The level is shared among the `arms` - 1 comparisons (Bonferroni, which Holm is never worse than).
    """
    reach = float(ndtri(1 - LEVEL / (2 * (arms - 1)))) + float(ndtri(power))
    return ceil(2 * (reach * sd / effect) ** 2)


def effect_found(sd: float, rows: int, *, arms: int = 2, power: float = 0.8) -> float:
    """The smallest true difference to control that so many rows in each arm find with `power`."""
    reach = float(ndtri(1 - LEVEL / (2 * (arms - 1)))) + float(ndtri(power))
    return reach * sd * sqrt(2 / rows)


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    low, high = binomtest(hits, n).proportion_ci(method="wilson")
    return float(low), float(high)


def detectable(error: float) -> float:
    """The smallest true difference that a 5 % test with this standard error finds four times in five."""
    return (Z + float(ndtri(0.8))) * error


def two_sided(z: float) -> float:
    """The two-sided p of a standard normal score."""
    return float(chdtrc(1, z * z))


def chi_square(table: Sequence[Sequence[float]], *, correction: bool = False) -> ChiSquare:
    """Pearson's test of independence on a table of counts; `correction` is Yates's, for two by two only."""
    found = chi2_contingency(np.asarray(table, dtype=np.float64), correction=correction)
    return ChiSquare(float(found.statistic), int(found.dof), float(found.pvalue))


def goodness_of_fit(counts: Sequence[float], weights: Sequence[float]) -> ChiSquare:
    """Pearson's test of counts against shares proportional to `weights`."""
    observed, shares = np.asarray(counts, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    found = chisquare(observed, observed.sum() * shares / shares.sum())
    return ChiSquare(float(found.statistic), len(observed) - 1, float(found.pvalue))


def fisher(a: int, n: int, b: int, m: int, *, side: Literal["two-sided", "less", "greater"] = "two-sided") -> float:
    """Fisher's exact p of two shares, `a` of `n` against `b` of `m`: valid however rare the outcome is."""
    return float(fisher_exact(np.array([[a, n - a], [b, m - b]]), alternative=side).pvalue)


def adjusted(p_values: Sequence[float], how: Correction = "holm") -> list[float]:
    """What p-values are once it counts that there are many.

    Holm: the chance of even one wrong rejection in the family stays below the level, whatever the dependence.
    Benjamini and Hochberg (`bh`): the share of wrong ones among the rejections stays below it on average.
    """
    return holm(p_values) if how == "holm" else [float(p) for p in false_discovery_control(p_values)]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p: at most the level `alpha` of wrong rejections in the whole family, whatever its dependence."""
    order = np.argsort(p_values, kind="stable")
    steps = np.asarray(p_values, dtype=np.float64)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if len(order) else steps
    return [float(p) for p in adjusted]


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

        A variance no larger than the rounding of the sums is 0: values that are all the same do not vary.

        Args:
            slope: Of the metric on the covariate.
            middle: The covariate's mean over all that are compared.
        """
        t, r = self.totals, self.ratio
        if not self.n:
            return Summary(0, 0.0, 0.0)
        if self.n < 2 or not t[B]:
            return Summary(self.n, r + self.shift, 0.0)
        below = t[B] / t[N]
        variance = (t[AA] - 2 * r * t[AB] + r * r * t[BB]) / (below * below)
        rounding = (ROUNDING + self.n * EPSILON) * max(t[AA], r * r * t[BB]) / (below * below)
        if slope:
            variance += slope * slope * self.spread - 2 * slope * self.told
        mean = r + self.shift - slope * (t[X] / t[N] - middle)
        return Summary(self.n, float(mean), float(variance) / (self.n - 1) if variance > rounding else 0.0)

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
    if min(each.n for each in adjusted) < 2 or within <= 0 or left <= 0:
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
