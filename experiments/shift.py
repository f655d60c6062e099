"""Shift: has one column moved between two samples, surely and by how much? Calibrated for ties, spikes and gaps."""

from dataclasses import dataclass
from math import asin, sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from experiments.inference import chi_square, fisher, two_sided

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
class Shift:
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


def shifts(column: str, before: NDArray[np.float64], after: NDArray[np.float64], *, kind: Kind) -> list[Shift]:
    """Every part of a column that can be tested.

    Args:
        column: Its name.
        before: Reference sample, shape (n,); NaN is missing, infinities count as missing.
        after: Current sample, shape (m,).
        kind: A `category` has codes without an order.
    """
    gaps = [~np.isfinite(sample) for sample in (before, after)]
    present = [sample[~gap] for sample, gap in zip((before, after), gaps, strict=True)]
    found = [_missing(column, *gaps)]
    if min(map(len, present)) >= FEWEST_ROWS:
        found += _categories(column, *present) if kind == "category" else _numbers(column, *present)
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


def _categories(column: str, before: NDArray[np.float64], after: NDArray[np.float64]) -> list[Shift | None]:
    tally = Tally.of(before, after)
    if len(tally.values) < 2:
        return []
    most = int(np.argmax(np.abs(tally.before / tally.before.sum() - tally.after / tally.after.sum())))
    subject = f"share of category {tally.values[most]:g}"
    p, effect = tally.categories_p(), tally.variation()
    return [Shift(column, "categories", *tally.shares(most), p, effect, DISTANCE, subject), _unknown(column, tally)]


def _unknown(column: str, tally: Tally) -> Shift | None:
    new = int(tally.after[tally.before == 0].sum())
    if not new:
        return None
    m, share = int(tally.after.sum()), new / int(tally.after.sum())
    p = fisher(0, int(tally.before.sum()), new, m)
    return Shift(column, "new values", 0.0, share, p, share, SHARE, "share of unknown categories")
