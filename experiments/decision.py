"""Decision: may it be shipped, and why; the sample ratio comes first, guardrails must hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Literal

from experiments import pages
from experiments.arms import Arms
from experiments.comparison import ALPHA, Comparison, NotEnoughData, too_little
from experiments.effects import RATIO_ALARM
from experiments.inference import ChiSquare, Summary, fisher, goodness_of_fit, one_sided
from experiments.plain import Plain
from features.errors import AnalysisError, nearest

GUARDED = ("arm", "guardrail", "at worst", "tolerated", "verdict")
State = Literal["holds", "crosses", "not shown"]


@dataclass(frozen=True)
class Guardrail(Plain):
    """One guardrail of one arm; changes are positive where they are for the better.

    Attributes:
        arm: Against control.
        metric: Of what.
        worst: The change is above this, one-sided at 5 %; None where there is not enough data.
        best: The change is below this, one-sided at 5 %.
        tolerated: The largest loss that is accepted.
        state: Without a margin it crosses where a loss is shown. With one it holds only where a larger loss is ruled
            out, and else it is `not shown`, or crosses where the larger loss is shown.
        exact: Fisher's one-sided p of a loss, where zeros and ones are too few for an interval and there is no margin.
    """

    arm: str
    metric: str
    worst: float | None
    best: float | None
    tolerated: float
    state: State
    exact: float | None = None

    def row(self) -> list[str]:
        """Cells under `GUARDED`."""
        worst = "-" if self.worst is None else pages.signed(self.worst)
        said = self.state if self.exact is None else f"{self.state}, exact p {pages.probability(self.exact)}"
        return [self.arm, self.metric, worst, f"{self.tolerated:.6f}", said]

    def __str__(self) -> str:
        if self.exact is not None:
            why = f"exact p {pages.probability(self.exact)}"
        else:
            why = "not enough data" if self.worst is None else f"at worst {pages.signed(self.worst)}"
        return f"guardrail {self.metric} of {self.arm} {self.state}: {why}"


def guardrails(arms: Arms, margins: Mapping[str, float], less: Mapping[str, bool]) -> tuple[Guardrail, ...]:
    """Every guardrail of every arm.

    Args:
        arms: Sorted with these metrics.
        margins: Per metric the share of control's mean that may be lost.
        less: Metrics of which less is better.

    Raises:
        AnalysisError: a margin is no share.
    """
    for metric, margin in margins.items():
        if not 0 <= margin < 1:
            raise AnalysisError(
                f"the guardrail {metric!r} tolerates a share of control's mean, from 0 to below 1. Got {margin}. "
                "Hint: NAME=0.02 tolerates 2 %."
            )
    _, *others = arms.sizes
    return tuple(
        _guardrail(arms, arm, metric, margin, less=less.get(metric, False))
        for metric, margin in margins.items()
        for arm in others
    )


def _guardrail(arms: Arms, arm: str, metric: str, margin: float, *, less: bool) -> Guardrail:
    control = next(iter(arms.sizes))
    changed, plain = (arms.of(metric, name).summary() for name in (arm, control))
    tolerated = margin * abs(plain.mean)
    if too_little(changed, plain, arms.binary[metric]):
        exact = None if margin or not arms.binary[metric] else _loss(changed, plain, less=less)
        state: State = "not shown" if exact is None else "crosses" if exact < ALPHA else "holds"
        return Guardrail(arm, metric, None, None, tolerated, state, exact)
    low, high = one_sided(changed, plain)
    worst, best = (-high, -low) if less else (low, high)
    shown: State = "crosses" if best < -tolerated else "holds" if worst > -tolerated or not margin else "not shown"
    return Guardrail(arm, metric, worst, best, tolerated, shown)


def _loss(changed: Summary, plain: Summary, *, less: bool) -> float | None:
    """Fisher's one-sided p of a loss; None where an arm has fewer than two values."""
    if min(changed.n, plain.n) < 2:
        return None
    counts = [count for each in (changed, plain) for count in (round(each.n * each.mean), each.n)]
    return fisher(*counts, side="greater" if less else "less")


Answer = Literal["ship", "do not ship", "not enough data", "invalid, do not ship"]


@dataclass(frozen=True)
class SampleRatio(Plain):
    """Are the arms as large as they were meant to be? If not, nothing else about them can be believed."""

    MORE = ("holds", "residuals")

    counts: Mapping[str, int]
    weights: Mapping[str, float]
    test: ChiSquare

    @property
    def holds(self) -> bool:
        """False is an alarm."""
        return self.test.p >= RATIO_ALARM

    @property
    def residuals(self) -> dict[str, float]:
        """Per arm how many standard deviations it is larger than it was meant to be."""
        n, total = sum(self.counts.values()), sum(self.weights.values())
        shares = {name: weight / total for name, weight in self.weights.items()}
        return {name: (self.counts[name] - n * q) / sqrt(n * q * (1 - q)) for name, q in shares.items()}

    def __str__(self) -> str:
        sizes = ", ".join(f"{name} {count:,}" for name, count in self.counts.items())
        said = "holds" if self.holds else f"IS BROKEN (alarm below {RATIO_ALARM})"
        told = f"sample ratio {said}: {sizes}; chi-square {self.test.statistic:.4f}, p {pages.probability(self.test.p)}"
        if self.holds:
            return told
        worst = max(self.residuals, key=lambda name: abs(self.residuals[name]))
        return f"{told}; {worst} is {self.residuals[worst]:+.1f} standard deviations off"


@dataclass(frozen=True)
class Decision:
    """What to do, and why."""

    answer: Answer
    arm: str | None
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        head = f"decision: {self.answer}{f' {self.arm}' if self.arm else ''}"
        return "\n".join([head, *(f"  - {reason}" for reason in self.reasons)])


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


def decide(
    ratio: SampleRatio,
    comparisons: Sequence[Comparison | NotEnoughData],
    guardrails: Sequence[Guardrail] = (),
    *,
    success: str,
) -> Decision:
    """Ship an arm iff the sample ratio holds, its success metric is better, no other worse, and guardrails hold."""
    if not ratio.holds:
        reason = "the arms are not as large as they were meant to be: look for what filtered them before any effect"
        return Decision("invalid, do not ship", None, (str(ratio), reason))
    tested = [one for one in comparisons if isinstance(one, Comparison)]
    first = [one for one in tested if one.metric == success]
    if not first:
        missing = [one for one in comparisons if isinstance(one, NotEnoughData) and one.metric == success]
        return Decision("not enough data", None, tuple(f"{one.arm}: {one.reason}" for one in missing))
    harm = {one.arm for one in tested if one.significant and one.gain < 0}
    harm |= {one.arm for one in guardrails if one.state != "holds"}
    winners = [one for one in first if one.significant and one.gain > 0 and one.arm not in harm]
    reasons = tuple(_reason(one, tested, guardrails) for one in first)
    if winners:
        best = max(winners, key=lambda one: one.gain)
        largest = f"{best.arm} has the largest rise of {len(winners)}; the arms were compared with control alone"
        return Decision("ship", best.arm, (*reasons, largest) if len(winners) > 1 else reasons)
    return Decision("do not ship", None, reasons)


def _reason(one: Comparison, tested: Sequence[Comparison], guardrails: Sequence[Guardrail]) -> str:
    against = [
        f"{other} {'rose' if other.less else 'fell'}"
        for other in tested
        if other.arm == one.arm and other.metric != one.metric and other.significant and other.gain < 0
    ]
    against += [str(each) for each in guardrails if each.arm == one.arm and each.state != "holds"]
    p = f"(p {pages.probability(one.adjusted)} after correction)"
    if not one.significant:
        return (
            f"{one.arm}: no difference shown, {one} {p}; "
            f"a true difference below {one.detectable:.6f} would usually be missed"
        )
    direction = "rose" if one.judged.value > 0 else "fell"
    told = f"{one.arm}: {one.metric} {direction}, {pages.signed(one.judged.value)} {one.interval} {p}"
    return told + (f"; but {', '.join(against)}" if against else "")
