"""Effects per segment: told only where a test of interaction says that they differ."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from experiments import pages
from experiments.inference import ChiSquare, Estimate, Summary, goodness_of_fit, heterogeneity, holm, welch
from features.errors import AnalysisError

ALPHA = 0.05
RATIO_ALARM = 0.001
MOST_SEGMENTS = 50
FEWEST = 20
"""Rows that a segment needs in both arms."""
HEADER = ("arm", "metric", "segment", "difference", "95 % interval")


@dataclass(frozen=True)
class Interaction:
    """One metric of one arm: does its effect differ between segments?

    Attributes:
        arm: Against control.
        metric: Of what.
        test: Cochran's Q over the segments' differences; None where fewer than two segments can be compared.
        adjusted: Its p after Holm's correction over all arms and metrics.
        effects: Per segment the difference to control; to be believed only where `significant`.
    """

    arm: str
    metric: str
    test: ChiSquare | None
    adjusted: float
    effects: Mapping[str, Estimate]

    @property
    def significant(self) -> bool:
        """Whether effects per segment may be told."""
        return self.test is not None and self.adjusted < ALPHA

    def rows(self) -> list[list[str]]:
        """Cells under `HEADER`, where the effects may be told."""
        return [
            [self.arm, self.metric, name, pages.signed(e.value), f"[{pages.signed(e.low)}, {pages.signed(e.high)}]"]
            for name, e in (self.effects.items() if self.significant else ())
        ]

    def __str__(self) -> str:
        if self.test is None:
            return f"{self.arm}, {self.metric}: fewer than two segments have {FEWEST} rows in both arms"
        said = "effects differ between segments" if self.significant else "no difference between segments shown"
        return f"{self.arm}, {self.metric}: {said} (interaction p {pages.probability(self.adjusted)} after Holm)"

    def to_dict(self) -> dict[str, object]:
        """Plain values; effects only where they may be told."""
        told = {name: asdict(each) for name, each in self.effects.items()} if self.significant else None
        test = asdict(self.test) if self.test else None
        values = {"arm": self.arm, "metric": self.metric, "test": test, "adjusted": self.adjusted}
        return {**values, "significant": self.significant, "effects": told}


@dataclass(frozen=True)
class Segments:
    """Effects by the values of one column.

    Attributes:
        column: Known before the exposure.
        interactions: One per arm and metric.
        broken: Segments whose arms are not as large as they were meant to be, with the p.
    """

    column: str
    interactions: tuple[Interaction, ...]
    broken: Mapping[str, float]

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        interactions = [each.to_dict() for each in self.interactions]
        return {"column": self.column, "interactions": interactions, "broken": dict(self.broken)}

    def table(self) -> pages.Table:
        """The effects that may be told."""
        return pages.Table(HEADER, [row for each in self.interactions for row in each.rows()], texts=3)

    def notes(self) -> list[str]:
        """One sentence an interaction, and one a segment whose sample ratio is broken."""
        alarms = [
            f"sample ratio IS BROKEN where {self.column} is {name} (p {pages.probability(p)})"
            for name, p in self.broken.items()
        ]
        return [f"by {self.column}:", *map(str, self.interactions), *alarms]


def by_segment(
    values: Mapping[str, NDArray[np.float64]],
    arm: NDArray[np.object_],
    segment: NDArray[np.object_],
    *,
    column: str,
    weights: Mapping[str, float],
) -> Segments:
    """Every arm against the first of `weights` within each segment, metric by metric.

    Args:
        values: Per metric, shape (n,); NaN is missing.
        arm: Shape (n,).
        segment: Shape (n,).
        column: What the segments are values of.
        weights: Intended shares of the arms, control first.

    Raises:
        AnalysisError: there are too many segments, or one alone.
    """
    names = sorted(set(segment.tolist()), key=str)
    if not 2 <= len(names) <= MOST_SEGMENTS:
        raise AnalysisError(
            f"{column!r} has {len(names):,} values; effects are compared between 2 and {MOST_SEGMENTS} segments."
        )
    control, *others = weights
    inside = {name: segment == name for name in names}
    effects = {
        (other, metric): _effects(numbers, arm == other, arm == control, inside)
        for metric, numbers in values.items()
        for other in others
    }
    tests = {key: heterogeneity(list(each.values())) if len(each) > 1 else None for key, each in effects.items()}
    tested = [key for key, test in tests.items() if test is not None]
    adjusted = dict(zip(tested, holm([test.p for test in tests.values() if test is not None]), strict=True))
    found = [Interaction(*key, tests[key], adjusted.get(key, 1.0), each) for key, each in effects.items()]
    counts = {name: [int((mask & (arm == one)).sum()) for one in weights] for name, mask in inside.items()}
    ratios = {name: goodness_of_fit(each, list(weights.values())).p for name, each in counts.items() if sum(each)}
    return Segments(column, tuple(found), {name: p for name, p in ratios.items() if p < RATIO_ALARM})


def _effects(
    numbers: NDArray[np.float64],
    arm: NDArray[np.bool_],
    control: NDArray[np.bool_],
    inside: Mapping[str, NDArray[np.bool_]],
) -> dict[str, Estimate]:
    there = ~np.isnan(numbers)
    found: dict[str, Estimate] = {}
    for name, mask in inside.items():
        pair = [Summary.of(numbers[mask & side & there]) for side in (arm, control)]
        if min(each.n for each in pair) >= FEWEST and max(each.variance for each in pair) > 0:
            found[str(name)] = welch(*pair)
    return found


def cuped(
    numbers: NDArray[np.float64], covariate: NDArray[np.float64], arms: Sequence[NDArray[np.bool_]]
) -> tuple[NDArray[np.float64], float]:
    """A metric without what a covariate from before the exposure already told (Deng et al. 2013).

    The slope is the pooled one within arms, so that the effect itself is left alone; a row without a covariate keeps
    the covariate's mean.

    Args:
        numbers: Shape (n,); NaN is missing.
        covariate: Shape (n,).
        arms: Which rows are in which of the arms that are compared.

    Returns:
        The adjusted metric, and the share of the variance within arms that is gone.
    """
    x = np.where(np.isnan(covariate), np.nanmean(covariate), covariate)
    rows = [np.flatnonzero(side & ~np.isnan(numbers)) for side in arms]
    told, said = (np.concatenate([each[mine] - each[mine].mean() for mine in rows]) for each in (x, numbers))
    if not told.any() or not said.any():
        return numbers, 0.0
    slope = float(told @ said / (told @ told))
    adjusted = numbers - slope * (x - x[np.concatenate(rows)].mean())
    return adjusted, float(slope * (told @ said) / (said @ said))
