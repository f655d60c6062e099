"""Effects per segment: told only where a test of interaction says that they differ."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from experiments import pages
from experiments.arms import Arms
from experiments.inference import (
    ChiSquare,
    Correction,
    Estimate,
    adjusted,
    goodness_of_fit,
    heterogeneity,
    welch,
)
from experiments.plain import Plain
from features.errors import AnalysisError

ALPHA = 0.05
RATIO_ALARM = 0.001
MOST_SEGMENTS = 50
FEWEST = 20
"""Rows that a segment needs in both arms."""
HEADER = ("arm", "metric", "segment", "difference", "95 % interval", "corrected p")


@dataclass(frozen=True)
class Interaction:
    """One metric of one arm: does its effect differ between segments?

    Attributes:
        arm: Against control.
        metric: Of what.
        test: Cochran's Q over the segments' differences; None where fewer than two segments can be compared.
        adjusted: Its p after correction over all arms and metrics.
        effects: Per segment the difference to control; to be believed only where `significant`.
        corrected: Per segment its p after correction over all arms, metrics and segments.
    """

    arm: str
    metric: str
    test: ChiSquare | None
    adjusted: float
    effects: Mapping[str, Estimate]
    corrected: Mapping[str, float]

    @property
    def significant(self) -> bool:
        """Whether effects per segment may be told."""
        return self.test is not None and self.adjusted < ALPHA

    def rows(self) -> list[list[str]]:
        """Cells under `HEADER`, where the effects may be told."""
        return [
            [
                *(self.arm, self.metric, name, pages.signed(e.value)),
                f"[{pages.signed(e.low)}, {pages.signed(e.high)}]",
                pages.probability(self.corrected[name]),
            ]
            for name, e in (self.effects.items() if self.significant else ())
        ]

    def __str__(self) -> str:
        if self.test is None:
            return f"{self.arm}, {self.metric}: fewer than two segments have {FEWEST} rows in both arms"
        said = "effects differ between segments" if self.significant else "no difference between segments shown"
        return f"{self.arm}, {self.metric}: {said} (interaction p {pages.probability(self.adjusted)} after correction)"

    def to_dict(self) -> dict[str, object]:
        """Plain values; effects only where they may be told."""
        effects = self.effects.items() if self.significant else ()
        told = {name: {**asdict(each), "adjusted": self.corrected[name]} for name, each in effects} or None
        test = asdict(self.test) if self.test else None
        values = {"arm": self.arm, "metric": self.metric, "test": test, "adjusted": self.adjusted}
        return {**values, "significant": self.significant, "effects": told}


@dataclass(frozen=True)
class Segments(Plain):
    """Effects by the values of one column.

    Attributes:
        column: Known before the exposure.
        interactions: One per arm and metric.
        broken: Segments whose arms are not as large as they were meant to be, with the p.
    """

    column: str
    interactions: tuple[Interaction, ...]
    broken: Mapping[str, float]

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
    arms: Arms, metrics: Sequence[str], *, column: str, weights: Mapping[str, float], correction: Correction = "holm"
) -> Segments:
    """Every arm against control within each segment, metric by metric.

    Args:
        arms: Sorted by segment.
        metrics: Which of theirs.
        column: What the segments are values of.
        weights: Intended shares of the arms, control first.
        correction: Over all arms and metrics.

    Raises:
        AnalysisError: there are too many segments, or one alone.
    """
    names = arms.parts("segment")
    if not 2 <= len(names) <= MOST_SEGMENTS:
        raise AnalysisError(
            f"{column!r} has {len(names):,} values; effects are compared between 2 and {MOST_SEGMENTS} segments."
        )
    _, *others = arms.sizes
    effects = {(other, metric): _effects(arms, metric, other, names) for metric in metrics for other in others}
    tests = {key: heterogeneity(list(each.values())) if len(each) > 1 else None for key, each in effects.items()}
    tested = [key for key, test in tests.items() if test is not None]
    p_values = [test.p for test in tests.values() if test is not None]
    corrected = dict(zip(tested, adjusted(p_values, correction), strict=True))
    every = iter(adjusted([one.p for each in effects.values() for one in each.values()], correction))
    found = [
        Interaction(*key, tests[key], corrected.get(key, 1.0), each, {name: next(every) for name in each})
        for key, each in effects.items()
    ]
    return Segments(column, tuple(found), broken(arms, "segment", weights))


def broken(arms: Arms, column: str, weights: Mapping[str, float]) -> dict[str, float]:
    """The segments, or days, whose arms are not as large as they were meant to be, with the p."""
    shares = [weights[arm] for arm in arms.sizes]
    counts = {name: arms.counts(**{column: name}) for name in arms.parts(column)}
    ratios = {name: goodness_of_fit(each, shares).p for name, each in counts.items() if sum(each)}
    return {name: p for name, p in ratios.items() if p < RATIO_ALARM}


def _effects(arms: Arms, metric: str, arm: str, names: Sequence[str]) -> dict[str, Estimate]:
    control = next(iter(arms.sizes))
    found: dict[str, Estimate] = {}
    for name in names:
        pair = [arms.of(metric, side, segment=name).summary() for side in (arm, control)]
        if min(each.n for each in pair) >= FEWEST and max(each.variance for each in pair) > 0:
            found[name] = welch(*pair)
    return found
