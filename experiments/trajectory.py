"""Trajectory: how the difference came about, over the days of the experiment, and since a person's exposure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from experiments import pages
from experiments.arms import Arms, number_column
from experiments.inference import Correction, Estimate, Summary, Sums, adjusted, always_valid, welch
from experiments.plain import Plain

ALPHA = 0.05
FEWEST = 20
"""Rows that a day needs in both arms."""


@dataclass(frozen=True)
class Point:
    """The difference to control of one day.

    Attributes:
        day: ISO date up to which people were exposed, or days since the first exposure.
        n: Rows of both arms.
        difference: With its 95 % interval.
        always_valid: The interval that may be looked at every day.
    """

    day: str
    n: int
    difference: Estimate
    always_valid: tuple[float, float]


@dataclass(frozen=True)
class Trajectory(Plain):
    """One metric of one arm.

    Attributes:
        arm: Against control.
        metric: Of what.
        points: In order of time.
        trend: Of a trajectory since the exposure: how much the difference changes a day.
        adjusted: The trend's p after correction over all arms and metrics.
    """

    MORE = ("changes",)

    arm: str
    metric: str
    points: tuple[Point, ...]
    trend: Estimate | None = None
    adjusted: float = 1.0

    @property
    def changes(self) -> bool:
        """Whether the effect is not the same on every day."""
        return self.trend is not None and self.adjusted < ALPHA

    def __str__(self) -> str:
        p = f"(p {pages.probability(self.adjusted)} after correction)"
        if self.trend is None or not self.changes:
            return f"{self.arm}, {self.metric}: no change of the effect with the days since exposure shown {p}"
        first = self.points[0].difference.value
        kind = "novelty wears off" if first * self.trend.value < 0 else "the effect grows"
        return f"{self.arm}, {self.metric}: {kind}, {pages.signed(self.trend.value)} a day {p}"


def cumulative(arms: Arms, metrics: Sequence[str]) -> tuple[Trajectory, ...]:
    """The difference of those exposed up to each day, by all that is known of them today."""
    control, *others = arms.sizes
    days = arms.parts("day")
    grown = {(metric, arm): _grown(arms, metric, arm, days) for metric in metrics for arm in arms.sizes}
    return tuple(
        Trajectory(arm, metric, _points(days, grown[metric, arm], grown[metric, control]))
        for metric in metrics
        for arm in others
    )


def _grown(arms: Arms, metric: str, arm: str, days: Sequence[str]) -> list[Summary]:
    found, so_far = [], Sums(np.zeros(arms.totals.shape[2]), float(arms.shifts[arms.metrics.index(metric)]))
    for day in days:
        so_far = so_far + arms.of(metric, arm, day=day)
        found.append(so_far.summary())
    return found


def _points(days: Sequence[str], arm: Sequence[Summary], control: Sequence[Summary]) -> tuple[Point, ...]:
    found = []
    for day, a, c in zip(days, arm, control, strict=True):
        if min(a.n, c.n) >= FEWEST and max(a.variance, c.variance) > 0:
            difference = welch(a, c)
            found.append(Point(day, a.n + c.n, difference, always_valid(difference, a.n + c.n)))
    return tuple(found)


def since_exposure(
    frame: pl.DataFrame,
    *,
    variant: str,
    control: str,
    metrics: Sequence[str],
    user: str,
    since: str,
    correction: Correction = "holm",
) -> tuple[Trajectory, ...]:
    """The difference on each day since the first exposure, and whether it changes.

    The trend is a straight line through each person's own days, so a person's days may depend on each other as they
    like; only persons with all the days that at least half of them have, and a value on each, are in it. Persons in
    two arms are left out.

    Args:
        frame: One row a person and day, zeros too; days that are not over yet are left out.
        variant: Column of the arm.
        control: The arm the others are compared with.
        metrics: Numeric columns.
        user: Column of the person.
        since: Column of whole days since the first exposure, from 0.
        correction: Over all arms and metrics.
    """
    numbers = {f"m{place}": number_column(frame, metric) for place, metric in enumerate(metrics)}
    columns = {"arm": frame[variant].cast(pl.String), "user": frame[user], "day": frame[since].cast(pl.Int64)}
    days = pl.DataFrame({**columns, **numbers}).filter(pl.col("arm").n_unique().over("user") == 1)
    counts = days["day"].value_counts().sort("day")
    whole = counts.filter(pl.col("count") * 2 >= pl.col("count").max())["day"].to_list()
    daily = {key: part for key, part in days.partition_by("arm", "day", as_dict=True).items() if key[1] in whole}
    lines = _lines(days.filter(pl.col("day").is_in(whole)), len(whole), list(numbers))
    others = [arm for arm in lines if arm != control] if control in lines else []
    pairs = [(arm, place) for place in range(len(metrics)) for arm in others]
    trends = [_difference(lines[arm][place], lines[control][place]) for arm, place in pairs]
    corrected = iter(adjusted([each.p for each in trends if each is not None], correction))
    found = []
    for (arm, place), trend in zip(pairs, trends, strict=True):
        sides = ([_summary(daily.get((side, day)), f"m{place}") for day in whole] for side in (arm, control))
        p = next(corrected) if trend is not None else 1.0
        found.append(Trajectory(arm, metrics[place], _points(list(map(str, whole)), *sides), trend, p))
    return tuple(found)


def _summary(part: pl.DataFrame | None, metric: str) -> Summary:
    return Summary.of(part[metric].drop_nulls().to_numpy() if part is not None else np.empty(0))


def if_whole(column: str, value: pl.Expr) -> pl.Expr:
    """What is made of all of somebody's days: missing where one of them is."""
    return pl.when(pl.col(column).is_not_null().all()).then(value)


def _lines(days: pl.DataFrame, n_days: int, metrics: Sequence[str]) -> dict[str, list[Summary]]:
    """Per arm and metric the slopes of the straight lines through the days of each person who has them all."""
    centred = pl.col("day") - pl.col("day").mean()
    spread = (n_days**2 - 1) * n_days / 12 or 1.0
    slopes = [if_whole(name, (centred * pl.col(name)).sum().truediv(spread)).alias(name) for name in metrics]
    each = days.group_by("arm", "user", maintain_order=True)  # so that the same rows give the same last digit
    people = each.agg(pl.len().alias("n"), *slopes).filter(pl.col("n") == n_days)
    parts = people.partition_by("arm", as_dict=True)
    found = {str(arm): [_summary(part, name) for name in metrics] for (arm,), part in parts.items()}
    return found if n_days > 1 else {}


def _difference(arm: Summary, control: Summary) -> Estimate | None:
    if min(arm.n, control.n) < FEWEST or max(arm.variance, control.variance) == 0:
        return None
    return welch(arm, control)
