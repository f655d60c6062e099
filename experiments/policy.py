"""Policy: loop.yaml, what the loop may do by itself: when it studies, what a challenger must show, who must agree."""

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field

from experiments.duel import TOLERANCE, Duel
from experiments.pages import apart
from features.document import Definition, Duration, rule
from features.instants import DAY, HOUR
from features.project import Project
from serving.abtests import Metric
from training.validation import METRICS, TITLES

FILE = "loop.yaml"
Guarded = Literal["average_precision", "brier", "calibration_error", "lift_top_decile"]


def _or_nothing(value: object) -> object:
    return None if value in ("off", "never") else value


Off = BeforeValidator(_or_nothing)
"""`off`, or `never`, is nothing."""


class Triggers(Definition):
    """What starts a study: so much growth of the log, and drift."""

    every: Annotated[Duration | None, Off] = 7 * DAY
    drift: bool = True


class Gates(Definition):
    """What a challenger must show against the champion, by the whole interval of the paired difference.

    `roc_auc` is the least gain that matters, `log_loss` likewise as a share of the champion's; either is enough where
    the other is not worse. `guardrails` are figures and what may be lost of them: no whole interval may lie beyond it.
    `coverage` is the share of the live answers that the challenger must have given too.
    """

    roc_auc: float = Field(0.005, ge=0, le=0.5)
    log_loss: float = Field(0.01, ge=0, le=1)
    guardrails: dict[Guarded, float] = {"average_precision": 0.0, "brier": 0.0, "calibration_error": 0.02}
    coverage: float = Field(0.9, ge=0, le=1)

    def failed(self, duel: Duel) -> Iterator[str]:
        """Why the challenger of this duel must not be promoted."""
        if duel.verdict != "better":
            yield str(duel)
            return
        ranking = duel.difference["roc_auc"]
        ranks = ranking.low > 0 and ranking.value >= self.roc_auc
        if not (ranks or (self._tells(duel) and ranking.low > -TOLERANCE)):
            share = f"{self.log_loss:.1%} of the log-loss"
            yield f"{duel}; that is less than {self.roc_auc:g} ROC-AUC or {share}, and does not matter"
        yield from self.guarded(duel)

    def unsure(self, duel: Duel) -> bool:
        """Whether the gain is shown, and all that is missing is that the ranking does not suffer from it."""
        shown = duel.verdict == "no difference shown" and self._tells(duel)
        return shown and not any(self.guarded(duel))

    def _tells(self, duel: Duel) -> bool:
        loss = duel.difference["log_loss"]
        return loss.high < 0 and -loss.value >= self.log_loss * duel.champion["log_loss"].value

    def guarded(self, duel: Duel) -> Iterator[str]:
        """The guardrails that are worse than allowed, by the whole interval."""
        for name, loss_allowed in self.guardrails.items():
            gap = duel.difference[name]
            if (gap.high < -loss_allowed) if METRICS[name] else (gap.low > loss_allowed):
                yield f"{duel.study}: guardrail {TITLES[name]} {apart(gap)}"


class Budget(Definition):
    """At most so many studies within so much growth of the log."""

    studies: int = Field(20, ge=1)
    within: Duration = 30 * DAY


class Shadow(Definition):
    """How long a challenger scores beside the champion, and how many outcomes of either kind are waited for."""

    at_least: Duration = 7 * DAY
    at_most: Duration = 35 * DAY
    outcomes: int = Field(100, ge=30)


class Ab(Definition):
    """An A/B test of champion and challenger before a promotion: how long, to whom, by which metrics of ab.yaml."""

    lasts: Duration = 14 * DAY
    share: float = Field(1.0, gt=0, le=1)
    metrics: dict[str, Metric] = Field(min_length=1)

    _ends = rule(
        lambda said: any(not metric.kind or metric.within is None for metric in said.metrics.values()),
        "a metric is one of ab.yaml's with its time: {conversion: bought, within: 7d}",
    )


class Policy(Definition):
    """`loop.yaml`; every key has a default, and so has the file. Time is the log's: its newest event is now."""

    version: int = Field(1, ge=1, le=1)
    triggers: Triggers = Triggers()
    recalibrate: bool = True
    cool_down: Duration = 7 * DAY
    budget: Budget = Budget()
    gates: Gates = Gates()
    shadow: Annotated[Shadow | None, Off] = Shadow()
    ab: Annotated[Ab | None, Off] = None
    approval: Literal["nobody", "person"] = "nobody"
    watch: Annotated[Duration | None, Off] = 14 * DAY
    pause: Duration = HOUR

    @classmethod
    def of(cls, project: Project) -> Self:
        """The project's, or the defaults.

        Raises:
            DefinitionError: loop.yaml says something it cannot; the line is named.
        """
        file = project.file(FILE)
        return cls.from_yaml(file) if file.exists() else cls()
