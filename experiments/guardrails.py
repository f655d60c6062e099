"""Guardrails: metrics that must not get worse, each judged by one-sided intervals."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from experiments import pages
from experiments.arms import Arms
from experiments.comparison import too_little
from experiments.inference import one_sided

HEADER = ("arm", "guardrail", "at worst", "tolerated", "verdict")
State = Literal["holds", "crosses", "not shown"]


@dataclass(frozen=True)
class Guardrail:
    """One guardrail of one arm; changes are positive where they are for the better.

    Attributes:
        arm: Against control.
        metric: Of what.
        worst: The change is above this, one-sided at 5 %; None where there is not enough data.
        best: The change is below this, one-sided at 5 %.
        tolerated: The largest loss that is accepted.
        state: Without a margin it crosses where a loss is shown. With one it holds only where a larger loss is ruled
            out, and else it is `not shown`, or crosses where the larger loss is shown.
    """

    arm: str
    metric: str
    worst: float | None
    best: float | None
    tolerated: float
    state: State

    def row(self) -> list[str]:
        """Cells under `HEADER`."""
        worst = "-" if self.worst is None else pages.signed(self.worst)
        return [self.arm, self.metric, worst, f"{self.tolerated:.6f}", self.state]

    def __str__(self) -> str:
        if self.worst is None:
            return f"guardrail {self.metric} of {self.arm}: not enough data"
        return f"guardrail {self.metric} of {self.arm} {self.state}: at worst {pages.signed(self.worst)}"

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        return asdict(self)


def guardrails(arms: Arms, margins: Mapping[str, float], less: Mapping[str, bool]) -> tuple[Guardrail, ...]:
    """Every guardrail of every arm.

    Args:
        arms: Sorted with these metrics.
        margins: Per metric the share of control's mean that may be lost.
        less: Metrics of which less is better.
    """
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
        return Guardrail(arm, metric, None, None, tolerated, "not shown" if margin else "holds")
    low, high = one_sided(changed, plain)
    worst, best = (-high, -low) if less else (low, high)
    shown: State = "crosses" if best < -tolerated else "holds" if worst > -tolerated or not margin else "not shown"
    return Guardrail(arm, metric, worst, best, tolerated, shown)
