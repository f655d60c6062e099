"""Signals: what one feature looks like, and what it alone says of an outcome."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata, spearmanr

from experiments.breakpoints import Split, chosen, natural, split
from experiments.inference import Estimate, Summary, fold
from features.behaviour.matrix import FeatureMatrix
from features.people import hash_text
from training.steps import fit

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]

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
class Signal:
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

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        values = {name: None if value != value else value for name, value in vars(self).items()}
        parts = {"split": vars(self.split) if self.split else None, "lift": vars(self.lift) if self.lift else None}
        return {**values, **parts, "percentiles": {f"p{each}": value for each, value in self.percentiles.items()}}


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
