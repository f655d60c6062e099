"""A/B: did the variant help, by how much, and may it be shipped?"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from experiments import pages
from experiments.arms import Arms, Nulls, assigned, number_column, parts_of, sort
from experiments.comparison import HEADER, Arm, Comparison, NotEnoughData, compare
from experiments.decision import GUARDED, Decision, Guardrail, SampleRatio, decide, guardrails, sample_ratio
from experiments.effects import Segments, broken, by_segment
from experiments.forest import forest, segment_forest, trajectories
from experiments.inference import Correction, Estimate, cuped
from experiments.plain import Plain
from experiments.trajectory import Trajectory, cumulative, if_whole, since_exposure
from features.errors import AnalysisError, nearest

if TYPE_CHECKING:
    import pandas as pd

SKEWED = 355
"""Rows that an arm needs for Welch's interval per squared skewness (Kohavi et al. 2014, rule 7)."""
MOST_DAYS = 36_525
CORRECTIONS = {"holm": "Holm corrects", "bh": "Benjamini and Hochberg correct"}


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
class ExperimentResult(Plain):
    """What came of an experiment; prints itself as text, JSON and HTML.

    Attributes:
        control: The arm the others are compared with.
        success: The metric that decides.
        unit: What a row is.
        arms: With a summary of each metric.
        sample_ratio: Of everybody.
        comparisons: Per metric and arm.
        decision: And its reasons.
        notes: What was left out; what is not to be trusted.
        correction: Of p over arms and metrics.
        covariate: Where one was named.
        guardrails: Per guardrail and arm.
        segments: Where a column was named.
        growth: The difference of those exposed up to each day, where the day of exposure was named.
        since: The difference by day since the exposure, where that is known.
    """

    control: str
    success: str
    unit: Literal["users", "rows"]
    arms: tuple[Arm, ...]
    sample_ratio: SampleRatio
    comparisons: tuple[Comparison | NotEnoughData, ...]
    decision: Decision
    notes: tuple[str, ...]
    correction: Correction = "holm"
    covariate: Covariate | None = None
    guardrails: tuple[Guardrail, ...] = ()
    segments: Segments | None = None
    growth: tuple[Trajectory, ...] = ()
    since: tuple[Trajectory, ...] = ()

    def __str__(self) -> str:
        parts = [str(self.sample_ratio), *self.notes, "", self._arms().text(), "", self._compared().text()]
        parts += ["", str(self.covariate)] if self.covariate else []
        parts += ["", self._guarded().text()] if self.guardrails else []
        if self.segments:
            parts += ["", *self.segments.notes()]
            parts += ["", self.segments.table().text()] if self.segments.table().rows else []
        parts += ["", *map(str, self.since)] if self.since else []
        return "\n".join([*parts, "", *self._legend(), "", str(self.decision)])

    def noting(self, notes: Sequence[str]) -> "ExperimentResult":
        """The same with more to be said before all else; they say why values are missing."""
        kept = [each for each in self.notes if " were left out of that metric" not in each]
        return replace(self, notes=(*notes, *kept))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        told = super().to_dict()
        return {**told, "by_day": told.pop("growth"), "since_exposure": told.pop("since")}

    def to_html(self) -> str:
        """One self-contained page with pictures."""
        compared = [comparison for comparison in self.comparisons if isinstance(comparison, Comparison)]
        good = {"ship": True, "invalid, do not ship": False}.get(self.decision.answer)
        answer = f"{self.decision.answer}{f' {self.decision.arm}' if self.decision.arm else ''}"
        return pages.page(
            "A/B test",
            f"{sum(arm.n for arm in self.arms):,} {self.unit}; control is {self.control}, success is {self.success}",
            pages.verdict(answer, self.decision.reasons, good=good),
            pages.section("Sample ratio", pages.listing([str(self.sample_ratio), *self.notes])),
            pages.section("Difference to control", forest(compared), self._compared().html()),
            pages.section("Covariate", pages.listing([str(self.covariate)] if self.covariate else [])),
            pages.section("Guardrails", self._guarded().html()),
            pages.section("Segments", *(self._by_segment(self.segments) if self.segments else ())),
            pages.section("Of those exposed up to each day", trajectories(self.growth, "day", sure=True)),
            pages.section(
                "By days since the first exposure",
                pages.listing(map(str, self.since)),
                trajectories(self.since, "days since the first exposure"),
            ),
            pages.listing(self._legend()),
            pages.section("Arms", self._arms().html()),
        )

    def _by_segment(self, segments: Segments) -> tuple[str, ...]:
        told = [each for each in segments.interactions if each.significant]
        return pages.listing(segments.notes()), segment_forest(told), segments.table().html()

    def _arms(self) -> pages.Table:
        rows = [
            [arm.name, metric, f"{of.n:,}", f"{of.mean:.6f}", f"{of.sd:.6f}"]
            for arm in self.arms
            for metric, of in arm.metrics.items()
        ]
        return pages.Table(["arm", "metric", "n", "mean", "sd"], rows, texts=2)

    def _compared(self) -> pages.Table:
        return pages.Table(HEADER, [comparison.row() for comparison in self.comparisons], texts=2)

    def _guarded(self) -> pages.Table:
        return pages.Table(GUARDED, [each.row() for each in self.guardrails], texts=2)

    def _legend(self) -> list[str]:
        missing = [one for one in self.comparisons if isinstance(one, NotEnoughData)]
        return [
            *(f"{one.metric} of {one.arm}: not enough data, {one.reason}." for one in missing),
            f"Differences, intervals, p by Welch's t-test; {CORRECTIONS[self.correction]} over all arms and metrics.",
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
    day: str | None = None,
    since: str | None = None,
    daily: pl.DataFrame | None = None,
    guards: Mapping[str, float] | None = None,
    less: Collection[str] = (),
    correction: Correction = "holm",
    cap: float | None = None,
    nulls: Nulls = "reject",
    declared: Collection[str] = (),
) -> ExperimentResult:
    """Every arm against `control` on every metric; the first one is the success metric.

    Args:
        frame: One row a user (or session, but then rows of one user are taken as independent).
        variant: Column that names the arm.
        control: The arm the others are compared with.
        metrics: Numeric or boolean columns, or `a/b`: the ratio of two columns' sums, by the delta method.
        user: Column of user ids: users in two arms are left out, and further rows of a user.
        weights: Intended shares of the arms (any scale); equal when absent.
        covariate: Numeric column from before the exposure; p and decision then stand on the adjusted metrics.
        by: Column known before the exposure; effects per value are told where an interaction test allows it.
        day: Column of the first exposure, a date or an instant.
        since: Column of whole days since the first exposure; the frame then has one row a user and day.
        daily: The same rows in a frame of their own, where `frame` has one row a user.
        guards: Metrics that must not get worse, each with the share of control's mean that may be lost.
        less: Metrics of which less is better.
        correction: `holm`, or `bh`: Benjamini and Hochberg.
        cap: Values above this quantile of all rows count as it: for heavy tails.
        nulls: `reject` them, or `drop` and count them.
        declared: Arms that there are though nobody may be in them: the sample ratio counts them.

    Raises:
        AnalysisError: the frame does not hold such an experiment.
    """
    table = frame if isinstance(frame, pl.DataFrame) else pl.from_pandas(frame)
    if not metrics:
        raise AnalysisError("no metric to compare. Hint: --metric names a numeric column.")
    margins = dict(guards or {})
    wanted = [*metrics, *margins]
    for name in less:
        if name not in wanted:
            raise AnalysisError(f"{name!r}, of which less is better, is no metric. {nearest(name, wanted)}")
    left_out = 0
    if since is not None:
        columns = [column for column in (by, day, covariate) if column]
        daily = _by_day(table, variant, user, since, nulls)
        left_out, table = len(table) - len(daily), _whole(daily, variant, user, since, wanted, columns)
    options = {"user": user, "covariate": covariate, "by": by, "day": day}
    held = sort(
        table, variant=variant, control=control, metrics=wanted, cap=cap, nulls=nulls, declared=declared, **options
    )
    held = replace(held, unassigned=held.unassigned + left_out)
    judged = [metric for metric in held.metrics if metric in metrics]
    ratio = sample_ratio(held.sizes, weights)
    told, differences = _adjusted(held, judged, covariate) if covariate else (None, None)
    arms = _summaries(held, judged)
    comparisons = compare(arms, binary=held.binary, cuped=differences, less=less, correction=correction)
    guarded = guardrails(held, margins, {metric: metric in less for metric in margins})
    segments = by_segment(held, judged, column=by, weights=ratio.weights, correction=correction) if by else None
    notes = [*held.notes(), *_tails(held, judged)]
    if day is not None:
        alarms = broken(held, "day", ratio.weights)
        notes += [f"sample ratio IS BROKEN on {name} (p {pages.probability(p)})" for name, p in alarms.items()]
    after: tuple[Trajectory, ...] = ()
    if daily is not None and user is not None:
        at = {"variant": variant, "control": control, "user": user, "since": since or "since"}
        named = judged if since is not None else daily.columns
        plain = [name for name in named if name in daily.columns and name not in (variant, user, at["since"])]
        after = since_exposure(daily, metrics=plain, correction=correction, **at)
    return ExperimentResult(
        control,
        metrics[0],
        "users" if user else "rows",
        arms,
        ratio,
        comparisons,
        decide(ratio, comparisons, guarded, success=metrics[0]),
        tuple(notes),
        correction,
        told,
        guarded,
        segments,
        cumulative(held, judged) if day else (),
        after,
    )


def _by_day(frame: pl.DataFrame, variant: str, user: str | None, since: str, nulls: Nulls) -> pl.DataFrame:
    """The rows of a user and day that name both and an arm, the days as numbers."""
    if user is None or since not in frame.columns:
        raise AnalysisError(f"rows by day since the exposure need their column ({since!r}) and `--user`.")
    kept = assigned(frame, variant, user, nulls)
    days = number_column(kept, since)
    strange = kept[since].filter(~(days.is_between(0, MOST_DAYS) & (days == days.floor())).fill_null(False))
    if len(strange):
        raise AnalysisError(
            f"{since!r} is not a whole number of days in {len(strange):,} of {len(kept):,} rows, such as "
            f"{strange[0]!r}. Hint: the day of the first exposure is 0."
        )
    return kept.with_columns(days.cast(pl.Int64).alias(since))


def _whole(
    daily: pl.DataFrame, variant: str, user: str | None, since: str, metrics: Sequence[str], more: Sequence[str]
) -> pl.DataFrame:
    """One row a user: metrics summed over the days (missing where one is), the rest as on the first."""
    sides = dict.fromkeys(side for metric in metrics for side in parts_of(metric, daily.columns))
    numbers = daily.with_columns(number_column(daily, side).alias(side) for side in sides if side in daily.columns)
    ordered = numbers.sort(since, maintain_order=True)
    kept = [pl.col(name).first() for name in dict.fromkeys(more) if name in daily.columns]
    return ordered.group_by(user, variant, maintain_order=True).agg(
        *kept, *(if_whole(side, pl.col(side).sum()) for side in sides if side in daily.columns)
    )


def _summaries(held: Arms, metrics: Sequence[str]) -> tuple[Arm, ...]:
    return tuple(
        Arm(name, size, {metric: held.of(metric, name).summary() for metric in metrics})
        for name, size in held.sizes.items()
    )


def _adjusted(held: Arms, metrics: Sequence[str], covariate: str) -> tuple[Covariate, dict[tuple[str, str], Estimate]]:
    """Per (arm, metric) the difference to control without what the covariate told of the two."""
    control, *others = held.sizes
    found: dict[tuple[str, str], Estimate] = {}
    reduction: dict[str, dict[str, float]] = {metric: {} for metric in metrics}
    for metric in metrics:
        for other in others:
            estimate, reduction[metric][other] = cuped(held.of(metric, other), held.of(metric, control))
            if estimate is not None:
                found[other, metric] = estimate
    return Covariate(covariate, reduction), found


def _tails(held: Arms, metrics: Sequence[str]) -> list[str]:
    """Metrics whose tails are too heavy for this many rows."""
    found = []
    for metric in metrics:
        sums = [one for arm in held.sizes if (one := held.of(metric, arm)).n > 1]
        worst = max((abs(each.skewness) for each in sums), default=0.0)
        needed, fewest = SKEWED * worst**2, min((each.n for each in sums), default=0)
        if "/" not in metric and not held.binary[metric] and fewest < needed:
            found.append(
                f"{metric} has a heavy tail (skewness {worst:.1f}): Welch's interval wants {needed:,.0f} rows an arm, "
                f"there are {fewest:,}. Hint: --cap 0.999 takes larger values as that quantile."
            )
    return found
