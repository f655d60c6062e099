"""Design: how many rows an experiment needs before it starts, and whether its analysis keeps its word on real rows."""

from dataclasses import dataclass
from math import ceil, isfinite, sqrt

import numpy as np
from numpy.typing import NDArray

from experiments import pages
from experiments.inference import Summary, always_valid, effect_found, rows_needed, welch, wilson
from experiments.plain import Plain
from features.errors import AnalysisError

LOOKS = 10
"""Looks at the running experiment that a simulation takes, evenly spread."""


@dataclass(frozen=True)
class Design(Plain):
    """What an experiment needs.

    Attributes:
        baseline: Mean of the metric without the change; a share where `sd` was not given.
        sd: Its standard deviation.
        effect: The smallest true difference that must be found.
        power: How often it is to be found.
        arms: Control included.
        rows_per_arm: Rows (users) in each.
        days: How long that takes; None where nobody said how many come a day.
    """

    baseline: float
    sd: float
    effect: float
    power: float
    arms: int
    rows_per_arm: int
    days: int | None

    def __str__(self) -> str:
        total = self.arms * self.rows_per_arm
        found = f"{pages.signed(self.effect)} ({pages.percent(self.effect / self.baseline)})"
        lines = [f"{self.rows_per_arm:,} users in each of {self.arms} arms, {total:,} in all"]
        lines.append(
            f"a true difference of {found} is found in {self.power:.0%} of such experiments, at 5 % over all arms"
        )
        if self.days is not None:
            lines.append(f"that takes {self.days:,} days" + ("; whole weeks are better" if self.days % 7 else ""))
        return "\n".join(lines)


def design(
    baseline: float,
    effect: float | None = None,
    *,
    rows: int | None = None,
    sd: float | None = None,
    told: float = 0.0,
    arms: int = 2,
    power: float = 0.8,
    per_day: float | None = None,
) -> Design:
    """Rows and days for an effect, or the effect that so many rows find.

    Args:
        baseline: Mean of the metric now; a share between 0 and 1 where there is no `sd`.
        effect: Smallest true difference, in the metric's own unit; or
        rows: In each arm.
        told: Share of the variance that a covariate, or strata, tell (CUPED).
        sd: Standard deviation of the metric.
        arms: Control included.
        power: Between 0.5 and 1.
        per_day: Users who come into the experiment a day, all arms together.

    Raises:
        AnalysisError: figures that no experiment has.
    """
    if (effect is None) == (rows is None):
        raise AnalysisError("either the effect is given and the users follow, or the users. Hint: --effect or --users.")
    _finite(baseline=baseline, effect=effect, sd=sd, told=told, power=power, per_day=per_day)
    if not all(each is None or each > 0 for each in (sd, per_day)):
        raise AnalysisError(f"--sd and --per-day are positive. Got {sd} and {per_day}.")
    if effect == 0 or (rows is not None and rows < 2) or not 0.5 <= power < 1 or arms < 2 or not 0 <= told < 1:
        raise AnalysisError("an experiment has an effect to find, a power between 0.5 and 1, and two arms or more.")
    if baseline == 0:
        raise AnalysisError("the baseline is 0. Hint: give the mean of the metric without the change.")
    if sd is None:
        changed = baseline + (effect or 0.0)
        if not (0 < baseline < 1 and 0 < changed < 1):
            raise AnalysisError(f"{baseline:g} and {changed:g} are no shares. Hint: --sd says how a number varies.")
        sd = sqrt((baseline * (1 - baseline) + changed * (1 - changed)) / 2)
    left = sd * sqrt(1 - told)
    if effect is None:
        effect = effect_found(left, rows or 0, arms=arms, power=power)
    try:
        rows = rows or rows_needed(left, abs(effect), arms=arms, power=power)
        days = ceil(arms * rows / per_day) if per_day else None
    except OverflowError:
        raise AnalysisError(
            "no number of users, or of days, is large enough for that. Hint: a larger effect."
        ) from None
    return Design(baseline, sd, effect, power, arms, rows, days)


def _finite(**given: float | None) -> None:
    for name, value in given.items():
        if value is not None and not isfinite(value):
            raise AnalysisError(f"--{name.replace('_', '-')} is a finite number. Got {value}.")


@dataclass(frozen=True)
class Simulated(Plain):
    """How often an analysis called a difference, on the rows of a file in arms drawn at random.

    Attributes:
        metric: Of what.
        rows: Rows of the file.
        effect: What was added to every row of the second arm.
        times: Experiments simulated.
        found: Welch's p below 5 % at the end.
        found_looking: The same at any of ten looks: what looking early does to a fixed test.
        found_always_valid: The always-valid interval left zero at any of ten looks.
    """

    MORE = ("intervals",)

    metric: str
    rows: int
    effect: float
    times: int
    found: int
    found_looking: int
    found_always_valid: int

    def __str__(self) -> str:
        what = (
            "no effect: every difference called is false" if self.effect == 0 else f"effect {pages.signed(self.effect)}"
        )
        ways = (
            "Welch's test at the end",
            f"Welch's test at any of {LOOKS} looks",
            f"always-valid interval at any of {LOOKS} looks",
        )
        rows = [
            [way, f"{100 * getattr(self, name) / self.times:.1f} %", f"[{100 * low:.1f} %, {100 * high:.1f} %]"]
            for way, (name, (low, high)) in zip(ways, self.intervals.items(), strict=True)
        ]
        head = f"{self.metric}: {self.times:,} experiments on {self.rows:,} rows, {what}"
        return f"{head}\n\n{pages.Table(['called', 'share', '95 % interval'], rows, texts=1).text()}"

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """Per way of calling a difference Wilson's interval of how often it did."""
        ways = ("found", "found_looking", "found_always_valid")
        return {name: wilson(getattr(self, name), self.times) for name in ways}


def simulate(
    values: NDArray[np.float64], metric: str, *, times: int = 2000, effect: float = 0.0, seed: int = 0
) -> Simulated:
    """Draw two arms at random among real rows, again and again, and judge each as it grows.

    Args:
        values: Shape (n,), finite.
        metric: What they are.
        times: Experiments.
        effect: Added to the second arm.
        seed: Of the draws.

    Raises:
        AnalysisError: too few rows, or all the same.
    """
    _finite(effect=effect)
    if len(values) < 20 * LOOKS or values.std() == 0:
        raise AnalysisError(f"{len(values)} rows of {metric!r} are too few, or all the same, to draw experiments from.")
    random = np.random.default_rng(seed)
    looks = np.linspace(0, len(values), LOOKS + 1).astype(int)[1:]
    called = np.zeros(3, np.int64)
    for _ in range(times):
        order = random.permutation(len(values))
        arm = random.integers(0, 2, len(values)).astype(bool)
        drawn = values[order] + effect * arm
        ends = [_look(drawn[:n], arm[:n]) for n in looks]
        called += [ends[-1][0], any(fixed for fixed, _ in ends), any(sure for _, sure in ends)]
    return Simulated(metric, len(values), effect, times, *(int(count) for count in called))


def _look(values: NDArray[np.float64], arm: NDArray[np.bool_]) -> tuple[bool, bool]:
    pair = [Summary.of(values[side]) for side in (arm, ~arm)]
    if min(each.n for each in pair) < 2 or max(each.variance for each in pair) == 0:
        return False, False
    estimate = welch(*pair)
    low, high = always_valid(estimate, len(values))
    return estimate.p < 0.05, not low <= 0 <= high
