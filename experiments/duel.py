"""Duel: a challenger against the champion on the same matured rows, judged by the same resamples of users."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from experiments import pages
from experiments.plain import Plain
from features.instants import iso
from training.model import Scores
from training.training_set import TrainingSet
from training.validation import METRICS, Estimate, judge

TOLERANCE = 0.005
"""ROC-AUC that may be given up for better probabilities."""
FEWEST_OUTCOMES = 30
Verdict = Literal["better", "worse", "no difference shown", "not enough data"]
HEADER = ("study", "metric", "champion", "challenger", "difference", "interval")


@dataclass(frozen=True)
class Duel(Plain):
    """One study's challenger and champion.

    Attributes:
        study: Its name.
        at: The newest instant that rows are as of, microseconds UTC.
        n_rows: Rows judged.
        n_users: Persons behind them.
        n_positive: Rows whose outcome happened.
        champion: Figures per metric.
        challenger: The same.
        difference: Challenger minus champion, paired: both are judged on every resample.
        level: The share of resamples outside the intervals of the difference.
    """

    MORE, INSTANTS = ("verdict",), ("at",)

    study: str
    at: int
    n_rows: int
    n_users: int
    n_positive: int
    champion: Mapping[str, Estimate]
    challenger: Mapping[str, Estimate]
    difference: Mapping[str, Estimate]
    level: float = 0.05

    @property
    def verdict(self) -> Verdict:
        """Better ranking without worse probabilities, or better probabilities without worse ranking.

        A ranking does not see probabilities that are off, so where it alone is shown to be better, log-loss and Brier
        score must be lower too, sure or not: a better ranking that is told as well as before lowers both.
        """
        if not self.difference:
            return "not enough data"
        ranking, loss, brier = (self.difference[name] for name in ("roc_auc", "log_loss", "brier"))
        if ranking.high < 0 or loss.low > 0 or brier.low > 0:
            return "worse"
        told = loss.value <= 0 and brier.value <= 0
        if (ranking.low > 0 and told) or (loss.high < 0 and ranking.low > -TOLERANCE):
            return "better"
        return "no difference shown"

    @property
    def sure(self) -> str:
        """How sure the intervals are."""
        return f"at {100 * (1 - self.level):g} %"

    def __str__(self) -> str:
        rows = (
            f"{self.n_rows:,} rows of {self.n_users:,} users"
            if self.n_rows > self.n_users
            else f"{self.n_rows:,} users"
        )
        counts = f"{rows} as of {iso(self.at)}, {self.n_positive:,} outcomes"
        if not self.difference:
            return f"{self.study}: not enough data, {counts}; {FEWEST_OUTCOMES} of either kind are needed"
        ranking, loss = (pages.apart(self.difference[name]) for name in ("roc_auc", "log_loss"))
        figures = f"ROC-AUC {ranking}, log-loss {loss} {self.sure}"
        verdict = {"no difference shown": "no different as far as shown"}.get(self.verdict, self.verdict)
        return f"{self.study}: the challenger is {verdict}, {figures} on {counts}"

    def rows(self) -> list[list[str]]:
        """Cells under `HEADER`, one line a metric."""
        return [
            [
                self.study,
                metric,
                f"{self.champion[metric].value:.4f}",
                f"{self.challenger[metric].value:.4f}",
                f"{apart.value:+.4f}",
                f"[{apart.low:+.4f}, {apart.high:+.4f}] {self.sure}",
            ]
            for metric, apart in self.difference.items()
        ]


def table(duels: Sequence[Duel]) -> pages.Table:
    """All figures of several duels."""
    return pages.Table(HEADER, [row for duel in duels for row in duel.rows()], texts=2)


def between(study: str, test: TrainingSet, champion: Scores, challenger: Scores) -> Duel | None:
    """The duel of what two models say of the same rows; None where these have no outcome, or the study asks which."""
    before, after = champion.probability, challenger.probability
    if test.y is None or before is None or after is None:
        return None
    return duel(study, test.y, before, after, test.matrix.users, at=int(test.matrix.at.max()))


def duel(
    study: str,
    y: NDArray[np.float64],
    champion: NDArray[np.float64],
    challenger: NDArray[np.float64],
    users: NDArray[np.object_],
    *,
    at: int,
    replicates: int = 1000,
    level: float = 0.05,
) -> Duel:
    """Judge two predictions of the same rows.

    Args:
        study: Its name.
        y: Outcomes, shape (n_rows,), 0 or 1.
        champion: Probabilities, shape (n_rows,).
        challenger: The same.
        users: Shape (n_rows,); rows of a user are resampled together.
        at: The newest instant that rows are as of.
        replicates: Bootstrap resamples, for a level of 0.05; a smaller one takes more.
        level: The share of resamples outside the intervals of the difference.
    """
    counts = len(y), len(set(users.tolist())), int(y.sum())
    if min(counts[2], len(y) - counts[2]) < FEWEST_OUTCOMES:
        return Duel(study, at, *counts, {}, {}, {}, level)
    drawn = round(replicates * 0.05 / level)
    figures = judge(y, {"champion": champion, "challenger": challenger}, users, replicates=drawn)
    apart = figures["challenger"].minus(figures["champion"], level=level)
    held, fresh = ({metric: figures[name][metric] for metric in METRICS} for name in ("champion", "challenger"))
    return Duel(study, at, *counts, held, fresh, apart, level)
