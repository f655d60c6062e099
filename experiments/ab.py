"""A/B: did the variant help, by how much, and may it be shipped?"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl

from experiments import pages
from experiments.arms import Arms, Nulls, sort
from experiments.comparison import HEADER, Arm, Comparison, NotEnoughData, compare
from experiments.effects import Segments, by_segment, cuped
from experiments.forest import forest
from experiments.inference import ChiSquare, Estimate, Summary, goodness_of_fit, welch
from features.errors import AnalysisError, nearest

if TYPE_CHECKING:
    import pandas as pd

RATIO_ALARM = 0.001
Answer = Literal["ship", "do not ship", "not enough data", "invalid, do not ship"]


@dataclass(frozen=True)
class SampleRatio:
    """Are the arms as large as they were meant to be? If not, nothing else about them can be believed."""

    counts: Mapping[str, int]
    weights: Mapping[str, float]
    test: ChiSquare

    @property
    def holds(self) -> bool:
        """False is an alarm."""
        return self.test.p >= RATIO_ALARM

    def __str__(self) -> str:
        sizes = ", ".join(f"{name} {count:,}" for name, count in self.counts.items())
        said = "holds" if self.holds else f"IS BROKEN (alarm below {RATIO_ALARM})"
        return f"sample ratio {said}: {sizes}; chi-square {self.test.statistic:.4f}, p {pages.probability(self.test.p)}"


@dataclass(frozen=True)
class Decision:
    """What to do, and why."""

    answer: Answer
    arm: str | None
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        head = f"decision: {self.answer}{f' {self.arm}' if self.arm else ''}"
        return "\n".join([head, *(f"  - {reason}" for reason in self.reasons)])


@dataclass(frozen=True)
class Covariate:
    """What a column from before the exposure told already, and was taken out (CUPED)."""

    column: str
    reduction: Mapping[str, Mapping[str, float]]

    def __str__(self) -> str:
        shares = [(metric, arm, share) for metric, each in self.reduction.items() for arm, share in each.items()]
        told = ", ".join(f"{metric} of {arm} {100 * share:.2f} %" for metric, arm, share in shares)
        useless = max(share for *_, share in shares) < 0.01
        return f"CUPED with {self.column} takes away of the variance: {told}" + (": no help here" if useless else "")


@dataclass(frozen=True)
class ExperimentResult:
    """What came of an experiment; prints itself as text, JSON and HTML."""

    control: str
    success: str
    unit: Literal["users", "rows"]
    arms: tuple[Arm, ...]
    sample_ratio: SampleRatio
    comparisons: tuple[Comparison | NotEnoughData, ...]
    decision: Decision
    notes: tuple[str, ...]
    covariate: Covariate | None = None
    segments: Segments | None = None

    def __str__(self) -> str:
        parts = [str(self.sample_ratio), *self.notes, "", self._arms().text(), "", self._compared().text()]
        parts += ["", str(self.covariate)] if self.covariate else []
        if self.segments:
            parts += ["", *self.segments.notes()]
            parts += ["", self.segments.table().text()] if self.segments.table().rows else []
        return "\n".join([*parts, "", *self._legend(), "", str(self.decision)])

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            "control": self.control,
            "success": self.success,
            "unit": self.unit,
            "arms": [arm.to_dict() for arm in self.arms],
            "sample_ratio": {**asdict(self.sample_ratio), "holds": self.sample_ratio.holds},
            "comparisons": [comparison.to_dict() for comparison in self.comparisons],
            "decision": asdict(self.decision),
            "notes": list(self.notes),
            "covariate": asdict(self.covariate) if self.covariate else None,
            "segments": self.segments.to_dict() if self.segments else None,
        }

    def to_html(self) -> str:
        """One self-contained page with a forest plot."""
        compared = [comparison for comparison in self.comparisons if isinstance(comparison, Comparison)]
        good = {"ship": True, "invalid, do not ship": False}.get(self.decision.answer)
        answer = f"{self.decision.answer}{f' {self.decision.arm}' if self.decision.arm else ''}"
        return pages.page(
            "A/B test",
            f"{sum(arm.n for arm in self.arms):,} {self.unit}; control is {self.control}, success is {self.success}",
            pages.verdict(answer, self.decision.reasons, good=good),
            pages.section("Sample ratio", pages.listing([str(self.sample_ratio), *self.notes])),
            pages.section("Difference to control", forest(compared) if compared else "", self._compared().html()),
            pages.section("Covariate", pages.listing([str(self.covariate)])) if self.covariate else "",
            pages.section("Segments", pages.listing(self.segments.notes()), self.segments.table().html())
            if self.segments
            else "",
            pages.listing(self._legend()),
            pages.section("Arms", self._arms().html()),
        )

    def _arms(self) -> pages.Table:
        rows = [
            [arm.name, metric, f"{of.n:,}", f"{of.mean:.6f}", f"{of.sd:.6f}"]
            for arm in self.arms
            for metric, of in arm.metrics.items()
        ]
        return pages.Table(["arm", "metric", "n", "mean", "sd"], rows, texts=2)

    def _compared(self) -> pages.Table:
        return pages.Table(HEADER, [comparison.row() for comparison in self.comparisons], texts=2)

    def _legend(self) -> list[str]:
        missing = [one for one in self.comparisons if isinstance(one, NotEnoughData)]
        return [
            *(f"{one.metric} of {one.arm}: not enough data, {one.reason}." for one in missing),
            "Differences, intervals and p by Welch's t-test; Holm corrects over all arms and metrics.",
            "Chi-square (metrics of zeros and ones) is without continuity correction; JSON has both.",
            "JSON has an always-valid interval too: the one to look at while the experiment is still running.",
            "Detectable is the smallest true difference that this many rows find in four of five experiments.",
        ]


def analyze(
    frame: "pl.DataFrame | pd.DataFrame",
    *,
    variant: str,
    control: str,
    metrics: Sequence[str],
    user: str | None = None,
    weights: Mapping[str, float] | None = None,
    covariate: str | None = None,
    by: str | None = None,
    nulls: Nulls = "reject",
) -> ExperimentResult:
    """Every arm against `control` on every metric; more of a metric is better, the first one is the success metric.

    Args:
        frame: One row a user (or session, but then rows of one user are taken as independent).
        variant: Column that names the arm.
        control: The arm the others are compared with.
        metrics: Numeric or boolean columns, or `a/b`: the ratio of two columns' sums, by the delta method.
        user: Column of user ids: users in two arms are left out, and further rows of a user.
        weights: Intended shares of the arms (any scale); equal when absent.
        covariate: Numeric column from before the exposure; p and decision then stand on the adjusted metrics.
        by: Column known before the exposure; effects per value are told where an interaction test allows it.
        nulls: `reject` them, or `drop` and count them.

    Raises:
        AnalysisError: the frame does not hold such an experiment.
    """
    table = frame if isinstance(frame, pl.DataFrame) else pl.from_pandas(frame)
    if not metrics:
        raise AnalysisError("no metric to compare. Hint: --metric names a numeric column.")
    options = {"user": user, "covariate": covariate, "by": by}
    held = sort(table, variant=variant, control=control, metrics=metrics, nulls=nulls, **options)
    ratio = sample_ratio(held.sizes, weights)
    arms = _summaries(held)
    adjusted, told = _adjusted(held, covariate) if covariate else (None, None)
    binary = {metric: bool(np.isin(v[~np.isnan(v)], (0.0, 1.0)).all()) for metric, v in held.columns.items()}
    comparisons = compare(arms, binary=binary, cuped=adjusted)
    segments = None
    if by is not None and held.segment is not None:
        segments = by_segment(held.columns, held.arm, held.segment, column=by, weights=ratio.weights)
    decision = decide(ratio, comparisons, success=metrics[0])
    unit: Literal["users", "rows"] = "users" if user else "rows"
    notes = tuple(held.notes())
    return ExperimentResult(control, metrics[0], unit, arms, ratio, comparisons, decision, notes, told, segments)


def _summaries(held: Arms) -> tuple[Arm, ...]:
    values = held.values()
    return tuple(
        Arm(name, size, {metric: Summary.of(by_arm[name]) for metric, by_arm in values.items()})
        for name, size in held.sizes.items()
    )


def _adjusted(held: Arms, covariate: str) -> tuple[dict[tuple[str, str], Estimate], Covariate]:
    """Per (arm, metric) the difference to control without what the covariate told of the two."""
    before = held.covariate if held.covariate is not None else np.empty(0)
    control, *others = held.sizes
    found: dict[tuple[str, str], Estimate] = {}
    reduction: dict[str, dict[str, float]] = {metric: {} for metric in held.columns}
    for metric, column in held.columns.items():
        for other in others:
            sides = [held.arm == name for name in (other, control)]
            adjusted, reduction[metric][other] = cuped(column, before, sides)
            pair = [Summary.of(adjusted[side & ~np.isnan(adjusted)]) for side in sides]
            if min(each.n for each in pair) > 1 and max(each.variance for each in pair) > 0:
                found[other, metric] = welch(*pair)
    return found, Covariate(covariate, reduction)


def sample_ratio(counts: Mapping[str, int], weights: Mapping[str, float] | None = None) -> SampleRatio:
    """Chi-square of the arms' sizes against their intended shares.

    Raises:
        AnalysisError: `weights` names other arms, or a share that is not positive.
    """
    shares = dict(weights) if weights is not None else dict.fromkeys(counts, 1.0)
    for name in shares.keys() - counts.keys():
        raise AnalysisError(f"a weight is given for {name!r}, which no row is in. {nearest(name, counts)}")
    for name in counts:
        if not 0 < shares.get(name, 0) < float("inf"):
            raise AnalysisError(f"the arm {name!r} needs a positive weight. Got {shares.get(name)!r}.")
    ordered = {name: float(shares[name]) for name in counts}
    return SampleRatio(dict(counts), ordered, goodness_of_fit(list(counts.values()), list(ordered.values())))


def decide(ratio: SampleRatio, comparisons: Sequence[Comparison | NotEnoughData], *, success: str) -> Decision:
    """Ship an arm iff the sample ratio holds, its success metric rose and no other fell, all after correction."""
    if not ratio.holds:
        reason = "the arms are not as large as they were meant to be: look for what filtered them before any effect"
        return Decision("invalid, do not ship", None, (str(ratio), reason))
    tested = [one for one in comparisons if isinstance(one, Comparison)]
    first = [one for one in tested if one.metric == success]
    if not first:
        missing = [one for one in comparisons if isinstance(one, NotEnoughData) and one.metric == success]
        return Decision("not enough data", None, tuple(f"{one.arm}: {one.reason}" for one in missing))
    harm = {one.arm for one in tested if one.significant and one.judged.value < 0}
    winners = [one for one in first if one.significant and one.judged.value > 0 and one.arm not in harm]
    reasons = tuple(_reason(one, tested) for one in first)
    if winners:
        best = max(winners, key=lambda one: one.judged.value)
        largest = f"{best.arm} has the largest rise of {len(winners)}; the arms were compared with control alone"
        return Decision("ship", best.arm, (*reasons, largest) if len(winners) > 1 else reasons)
    return Decision("do not ship", None, reasons)


def _reason(one: Comparison, tested: Sequence[Comparison]) -> str:
    fell = [
        str(other)
        for other in tested
        if other.arm == one.arm and other.metric != one.metric and other.significant and other.judged.value < 0
    ]
    p = f"(p {pages.probability(one.adjusted)} after Holm)"
    if not one.significant:
        return (
            f"{one.arm}: no difference shown, {one} {p}; "
            f"a true difference below {one.detectable:.6f} would usually be missed"
        )
    direction = "rose" if one.judged.value > 0 else "fell"
    return f"{one.arm}: {one.metric} {direction}, {pages.signed(one.judged.value)} {one.interval} {p}" + (
        f"; but {', '.join(fell)} fell" if fell else ""
    )
