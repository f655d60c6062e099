"""Comparison: one metric of one arm against control, or the statement that there is not enough data for one."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from experiments import pages
from experiments.inference import (
    ChiSquare,
    Correction,
    Estimate,
    Summary,
    adjusted,
    always_valid,
    chi_square,
    detectable,
    lift,
    welch,
)
from experiments.plain import Plain

ALPHA = 0.05
FEWEST_EXPECTED = 5.0
HEADER = ("arm", "metric", "difference", "95 % interval", "lift", "p", "corrected p", "chi-square p", "detectable")


@dataclass(frozen=True)
class Arm:
    """One arm: its name, its rows (users), and a summary of each metric."""

    name: str
    n: int
    metrics: Mapping[str, Summary]

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        metrics = {name: {"n": of.n, "mean": of.mean, "sd": of.sd} for name, of in self.metrics.items()}
        return {"name": self.name, "n": self.n, "metrics": metrics}


@dataclass(frozen=True)
class Comparison(Plain):
    """One metric of one arm against control.

    Attributes:
        difference: Mean of the arm minus mean of control, Welch interval and p.
        lift: The same relative to control, by the delta method; None where control's mean is not positive.
        adjusted: Its p after correction over all arms and metrics.
        chi_square: Of a metric of zeros and ones, without continuity correction; else None.
        corrected: The same with Yates's continuity correction.
        detectable: The smallest true difference that this many rows find in four of five experiments.
        always_valid: An interval of the difference that may be looked at every day.
        cuped: The difference without what the covariate told, where one was named: then p and decision are its.
        less: Less of the metric is better.
    """

    MORE = ("enough_data", "significant")
    enough_data: ClassVar[bool] = True

    arm: str
    metric: str
    difference: Estimate
    lift: Estimate | None
    adjusted: float
    chi_square: ChiSquare | None
    corrected: ChiSquare | None
    detectable: float
    always_valid: tuple[float, float]
    cuped: Estimate | None = None
    less: bool = False

    @property
    def gain(self) -> float:
        """The difference, positive where it is for the better."""
        return -self.judged.value if self.less else self.judged.value

    @property
    def significant(self) -> bool:
        """After correction."""
        return self.adjusted < ALPHA

    @property
    def judged(self) -> Estimate:
        """What the decision stands on."""
        return self.cuped or self.difference

    def __str__(self) -> str:
        return f"{self.metric} {pages.signed(self.judged.value)} {self.interval}"

    @property
    def interval(self) -> str:
        """The 95 % interval for people."""
        return f"[{pages.signed(self.judged.low)}, {pages.signed(self.judged.high)}]"

    def row(self) -> list[str]:
        """Cells under `HEADER`."""
        return [
            self.arm,
            self.metric,
            pages.signed(self.judged.value),
            self.interval,
            pages.percent(self.lift.value) if self.lift else "-",
            pages.probability(self.judged.p),
            pages.probability(self.adjusted),
            pages.probability(self.chi_square.p) if self.chi_square else "-",
            f"{self.detectable:.6f}",
        ]


@dataclass(frozen=True)
class NotEnoughData(Plain):
    """One metric of one arm that cannot be compared with control yet: no p, only the reason."""

    MORE = ("enough_data",)
    enough_data: ClassVar[bool] = False

    arm: str
    metric: str
    reason: str

    def row(self) -> list[str]:
        """Cells under `HEADER`."""
        return [self.arm, self.metric, "-", "not enough data", *["-"] * 5]


def compare(
    arms: Sequence[Arm],
    *,
    binary: Mapping[str, bool],
    cuped: Mapping[tuple[str, str], Estimate] | None = None,
    less: Collection[str] = (),
    correction: Correction = "holm",
) -> tuple[Comparison | NotEnoughData, ...]:
    """Every arm after the first against the first, metric by metric, corrected over all of it.

    Args:
        arms: Control first.
        binary: Which metrics are zeros and ones.
        cuped: Per (arm, metric) the difference adjusted by a covariate.
        less: Metrics of which less is better.
        correction: Of what.
    """
    control, *others = arms
    found: list[Comparison | NotEnoughData] = []
    for metric in control.metrics:
        for arm in others:
            reason = too_little(arm.metrics[metric], control.metrics[metric], binary[metric])
            if reason is not None:
                found.append(NotEnoughData(arm.name, metric, reason))
                continue
            one = _comparison(arm, control, metric, (cuped or {}).get((arm.name, metric)), binary=binary[metric])
            found.append(replace(one, less=metric in less))
    tested = [one for one in found if isinstance(one, Comparison)]
    corrected = iter(adjusted([one.judged.p for one in tested], correction))
    return tuple(replace(one, adjusted=next(corrected)) if isinstance(one, Comparison) else one for one in found)


def too_little(arm: Summary, control: Summary, binary: bool) -> str | None:
    """Why two arms cannot be compared yet; None where they can."""
    if min(arm.n, control.n) < 2:
        return "fewer than two values in an arm"
    if arm.variance == control.variance == 0:
        return "every value is the same within each arm"
    if not binary:
        return None
    share = (arm.n * arm.mean + control.n * control.mean) / (arm.n + control.n)
    expected = min(arm.n, control.n) * min(share, 1 - share)
    if expected < FEWEST_EXPECTED:
        return f"{expected:.1f} outcomes expected in the smaller arm; {FEWEST_EXPECTED:.0f} are needed"
    return None


def _comparison(arm: Arm, control: Arm, metric: str, cuped: Estimate | None, *, binary: bool) -> Comparison:
    """Not corrected yet."""
    a, c = arm.metrics[metric], control.metrics[metric]
    difference = welch(a, c)
    judged = cuped or difference
    counts = [[of.n * of.mean, of.n * (1 - of.mean)] for of in (a, c)]
    return Comparison(
        arm.name,
        metric,
        difference,
        lift(a, c),
        judged.p,
        chi_square(counts) if binary else None,
        chi_square(counts, correction=True) if binary else None,
        detectable(judged.error),
        always_valid(judged, a.n + c.n),
        cuped,
    )
