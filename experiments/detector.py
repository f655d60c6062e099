"""Detector: how good the drift verdict itself is: false alarms, power per kind of change, delay, and regret."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.random import Generator
from numpy.typing import NDArray

from experiments import pages, studies
from experiments.declared import Declared
from experiments.drift import DriftReport, Finding, compare, joined
from experiments.inference import wilson
from experiments.outcomes import performance
from experiments.persistence import NEEDED, WINDOWS
from experiments.plain import Plain
from experiments.planted import GRID, IMMATERIAL, LABEL, Plant
from experiments.studies import PropensitySpec
from experiments.watch import filling
from features.errors import AnalysisError
from features.instants import DAY
from features.project import Project
from training.cuts import Cuts
from training.training_set import TrainingSet

LONGEST = 4
"""Windows after a change in which it may be found."""
WITHIN = 2
SCORE = "score"
Array = NDArray[np.float64]


@dataclass(frozen=True)
class History:
    """A log as the detector would have seen it, a window a day.

    Attributes:
        reference: Rows of one person each: features, `score`, `label`.
        windows: The same of later days, in order.
        filling: Features that remember longer than the log was old.
    """

    reference: pl.DataFrame
    windows: tuple[pl.DataFrame, ...]
    filling: frozenset[str]

    @classmethod
    def of(cls, project: Project, *, days: int) -> "History":
        """The last days of a log whose outcomes are known, for the first propensity of studies.yaml.

        Raises:
            AnalysisError: there is no such study, or the log is too short.
        """
        declared = Declared.of(project)
        log, specs = declared.log, declared.of_log.values()
        spec = next((s for s in specs if isinstance(s, PropensitySpec) and studies.answers(s) == s.kind), None)
        if spec is None:
            raise AnalysisError("studies.yaml declares no propensity, so there is no score to judge.")
        wait = spec.predicts.horizon + spec.blind_spot
        newest = (log.span()[1] - wait) // DAY * DAY
        shown = [newest - back * DAY for back in reversed(range(days))]
        reference = shown[0] - DAY
        learned = reference - -(-wait // DAY) * DAY
        if learned <= log.span()[0]:
            raise AnalysisError(f"the log is too short for {days} windows of a day. Hint: fewer --windows.")
        cuts = Cuts((learned, reference, *shown), (), ())
        rows = declared.rows(spec.predicts, cuts, spec.population, spec.blind_spot)
        kept = {"cuts": {**cuts.to_dict(), "train": cuts.to_dict()["train"][:2]}, "log": rows.provenance["log"]}
        return cls.framed(rows, learned, reference, filling(declared.features, {"training_set": kept}))

    @classmethod
    def framed(cls, rows: TrainingSet, learned: int, reference: int, young: frozenset[str]) -> "History":
        """Rows of all cuts as frames, with the score of a model that learned from the oldest."""
        at, x = rows.matrix.at, rows.matrix.values.astype(np.float64)
        y = np.zeros(len(rows)) if rows.y is None else rows.y
        model = _fitted(x[at == learned], y[at == learned])
        frame = pl.DataFrame({name: x[:, place] for place, name in enumerate(rows.matrix.names)})
        frame = frame.with_columns(pl.Series(SCORE, model(x)), pl.Series(LABEL, y))
        days = [frame.filter(pl.Series(at == instant)) for instant in np.unique(at) if instant >= reference]
        return cls(days[0], tuple(days[1:]), young)

    def judge(self, window: pl.DataFrame, reference: pl.DataFrame | None = None) -> DriftReport:
        """One window against the reference: features, score, and outcomes."""
        before = self.reference if reference is None else reference
        takes = dict.fromkeys(before.drop(LABEL).columns, (SCORE,))
        said = compare(before.drop(LABEL), window, scores=[SCORE], filling=self.filling, used_by=takes)
        sides = (side[name].to_numpy() for side in (before, window) for name in (LABEL, SCORE))
        found, silent = performance(*sides, name=SCORE)
        return joined([said, DriftReport(said.reference, said.current, tuple(found), notes=silent)])


def _fitted(x: Array, y: Array) -> Any:  # noqa: ANN401 - scikit-learn ships no types
    from sklearn.ensemble import HistGradientBoostingClassifier

    if len(np.unique(y)) < 2:
        raise AnalysisError("nobody, or everybody, has the outcome in the oldest rows, so nothing can be learned.")
    fitted = HistGradientBoostingClassifier(max_iter=60, learning_rate=0.1, max_leaf_nodes=8, random_state=0).fit(x, y)
    return lambda rows: fitted.predict_proba(rows)[:, 1]


@dataclass(frozen=True)
class Share(Plain):
    """Hits among tries, with Wilson's 95 % interval."""

    MORE = ("interval",)

    hits: int
    n: int

    @property
    def interval(self) -> tuple[float, float]:
        """Of the share; from 0 to 1 where nothing was tried."""
        return wilson(self.hits, self.n) if self.n else (0.0, 1.0)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.hits} of {self.n} [{low:.1%}, {high:.1%}]"


@dataclass(frozen=True)
class Power(Plain):
    """One kind of planted change.

    Attributes:
        kind: Of the grid.
        moved: Windows after the change in which it was significant and material.
        found: Changes that raised the alarm within two windows.
        delay: Mean windows until the alarm, among those found within four; NaN where none was.
        reason: Why it could not be planted; empty where it was.
    """

    MORE = ("material",)

    kind: str
    moved: Share
    found: Share
    delay: float
    reason: str = ""

    @property
    def material(self) -> bool:
        """Whether it is to be found."""
        return self.kind not in IMMATERIAL

    def row(self) -> list[str]:
        """Cells for people."""
        if self.reason:
            return [self.kind, "-", "-", self.reason]
        return [self.kind, str(self.moved), str(self.found), f"{self.delay:.1f}"]


@dataclass(frozen=True)
class Regret:
    """What a policy of retraining costs.

    Attributes:
        policy: never, always, oracle (once, on the day of the change) or drift (when it alarms).
        brier: Mean Brier score above the oracle's.
        trainings: Models trained a run.
    """

    policy: str
    brier: float
    trainings: float


@dataclass(frozen=True)
class Scored(Plain):
    """The detector's own figures; prints itself as text and JSON.

    Attributes:
        users: Median users of a window.
        moved: Windows without a planted change that moved by themselves.
        alarms: The same, in two of three windows.
        halves: Random halves of the reference that were called different: nothing at all can have changed there.
        power: Per kind of the grid.
        regret: Per policy, after a change of meaning.
        quiet: Trainings a run that drift asked for where nothing had changed.
    """

    users: int
    moved: Share
    alarms: Share
    halves: Share
    power: tuple[Power, ...]
    regret: tuple[Regret, ...]
    quiet: float

    def __str__(self) -> str:
        header = ("planted change", "windows that moved", f"alarm within {WITHIN} windows", "windows until the alarm")
        costs = [[each.policy, f"{each.brier:+.4f}", f"{each.trainings:.1f}"] for each in self.regret]
        return "\n".join(
            [
                f"windows of {self.users:,} users",
                f"without a planted change: moved {self.moved}, alarm {self.alarms}",
                f"random halves of the reference called different: {self.halves}",
                "",
                pages.Table(header, [each.row() for each in self.power], texts=4).text(),
                "",
                pages.Table(("retraining", "Brier above the oracle's", "trainings"), costs, texts=1).text(),
                f"trainings that drift asked for without a change: {self.quiet:.1f} a run",
            ]
        )


def score(history: History, *, repeats: int = 10, runs: int = 2, seed: int = 0) -> Scored:
    """Measure the detector on a history in which nothing, or what happened, had changed.

    Args:
        history: What it would have seen.
        repeats: Changes planted of each kind, and halves dealt.
        runs: Of retraining with a change of meaning in the middle.
        seed: Of everything drawn.
    """
    random = np.random.default_rng(seed)
    reports = [history.judge(window) for window in history.windows]
    alarms = sum(alarm(reports[: place + 1]) for place in range(len(reports)))
    moved = sum(bool(_moved(report)) for report in reports)
    regret, quiet = _regret(history, runs, random)
    return Scored(
        int(np.median([window.height for window in history.windows])),
        Share(moved, len(reports)),
        Share(alarms, len(reports)),
        Share(sum(_halves(history, random) for _ in range(repeats)), repeats),
        tuple(power(history, kind, repeats=repeats, random=random) for kind in GRID),
        regret,
        quiet,
    )


def _moved(report: DriftReport) -> set[tuple[str, str]]:
    return {finding.key for finding in report.findings if finding.moved and finding.tier != "young log"}


def alarm(reports: Sequence[DriftReport]) -> bool:
    """Whether the newest window raises the alarm: moved there, and in two of the three newest, or faulty data.

    Weekly rhythms are not taken out: there are at least as many alarms as `drift run` would raise.
    """
    newest, *before = [_moved(report) for report in reversed(reports[-WINDOWS:])]
    persists = any(1 + sum(key in each for each in before) >= NEEDED for key in newest)
    return persists or any(finding.moved and finding.tier == "data quality" for finding in reports[-1].findings)


def _halves(history: History, random: Generator) -> bool:
    """Two random halves of the reference, compared once."""
    dealt = history.reference[random.permutation(history.reference.height)]
    half = dealt.height // 2
    return history.judge(dealt[half:], dealt[:half]).verdict == "drift"


def power(history: History, kind: str, *, repeats: int, random: Generator) -> Power:
    """How often a planted change is found, and its own columns named."""
    moved, found, delays, tried = 0, 0, [], 0
    for _ in range(repeats):
        try:
            plant = GRID[kind](history.reference.drop(history.filling), random)
        except AnalysisError as problem:
            return Power(kind, Share(0, 0), Share(0, 0), float("nan"), str(problem))
        first = int(random.integers(0, max(1, len(history.windows) - LONGEST + 1)))
        seen: list[bool] = []
        for window in history.windows[first : first + LONGEST]:
            report = history.judge(plant.change(window, random))
            seen.append(any(_names(finding, plant) for finding in report.findings))
            if sum(seen[-WINDOWS:]) >= NEEDED:
                delays.append(len(seen))
                break
        moved, tried = moved + sum(seen[:WITHIN]), tried + min(len(seen), WITHIN)
        found += bool(delays) and sum(seen[:WITHIN]) >= NEEDED
    return Power(kind, Share(moved, tried), Share(found, repeats), float(np.mean(delays)) if delays else float("nan"))


def _names(finding: Finding, plant: Plant) -> bool:
    """Whether a finding moved and is about what was planted."""
    if not finding.moved or finding.tier == "young log":
        return False
    if not plant.columns:
        return finding.tier == "labels"
    column, told = finding.shift.column, finding.shift.subject.removeprefix("told apart by ").split(", ")
    about = {column, *column.split(" x "), *(told if finding.shift.part == "classifier" else ())}
    return not about.isdisjoint(plant.columns)


def _regret(history: History, runs: int, random: Generator) -> tuple[tuple[Regret, ...], float]:
    """Brier scores of policies over windows in whose middle features get another meaning; and trainings without."""
    policies = ("never", "always", "oracle", "drift")
    costs: Mapping[str, list[tuple[float, int]]] = {policy: [] for policy in policies}
    quiet = [_run(history, history.windows, "drift", len(history.windows))[1] for _ in range(min(runs, 1))]
    for _ in range(runs):
        middle = int(random.integers(len(history.windows) // 3, 2 * len(history.windows) // 3 + 1))
        days = [_other_meaning(w, random) if place >= middle else w for place, w in enumerate(history.windows)]
        for policy in policies:
            costs[policy].append(_run(history, days, policy, middle))
    oracle = float(np.mean([brier for brier, _ in costs["oracle"]])) if runs else float("nan")
    told = [
        Regret(policy, float(np.mean([b for b, _ in found])) - oracle, float(np.mean([n for _, n in found])))
        for policy, found in costs.items()
        if found
    ]
    return tuple(told), float(np.mean(quiet)) if quiet else float("nan")


def _other_meaning(window: pl.DataFrame, random: Generator) -> pl.DataFrame:
    """Who was likeliest is least likely: outcomes are drawn anew from scores in reverse."""
    p = window[SCORE].to_numpy()
    turned, order = p.copy(), np.argsort(p, kind="stable")
    turned[order] = p[order[::-1]]
    return window.with_columns(pl.Series(LABEL, (random.random(len(p)) < turned).astype(np.float64)))


def _run(history: History, days: Sequence[pl.DataFrame], policy: str, change: int) -> tuple[float, int]:
    """Mean Brier score over the days, and models trained. What is trained on a day answers from the next on."""
    names = [name for name in history.reference.columns if name not in (SCORE, LABEL)]
    reference, model, trained = history.reference, None, 0
    losses, reports = [], []
    for place, raw in enumerate(days):
        x, y = raw.select(names).to_numpy(), raw[LABEL].to_numpy()
        day = raw if model is None else raw.with_columns(pl.Series(SCORE, model(x)))
        losses.append(float(((day[SCORE].to_numpy() - y) ** 2).mean()))
        if policy == "drift":
            reports.append(history.judge(day, reference))
        wanted = {"always": True, "oracle": place == change, "drift": bool(reports) and alarm(reports)}
        if wanted.get(policy, False):
            model, trained = _fitted(x, y), trained + 1
            half = _fitted(x[::2], y[::2])  # a reference is judged by a model that has not seen it
            reference, reports = raw.with_columns(pl.Series(SCORE, half(x)))[1::2], []
    return float(np.mean(losses)), trained
