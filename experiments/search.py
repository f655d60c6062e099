"""Search: Optuna, and nothing else, behind plain functions. A search that was killed goes on where it stopped."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from numpy.typing import NDArray

from features.errors import StudyError, nearest

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

Report = Callable[[int, float], None]
Objective = Callable[[Mapping[str, float], Report], Mapping[str, float]]
"""(parameters, report) -> figures, of which `value`, or what the directions name, is improved; `report` may end it."""

Direction = Literal["minimize", "maximize"]
Directions = Direction | Mapping[str, Direction]
"""Of the figure `value`; or of several figures by name, the first before all others."""

VIOLATION = "violation"
"""A figure: by how much constraints are broken. A trial above 0 is chosen only where all are."""

REPORT_EVERY = 10
"""Rounds between two looks of the pruner: every look is a write that survives a kill."""

LOCK_SECONDS = 5
"""A lock of the journal older than this belongs to a process that was killed."""


@dataclass(frozen=True)
class Range:
    """Where a parameter may lie, ends included."""

    low: float
    high: float
    whole: bool = False
    log: bool = False

    def within(self, low: float, high: float, name: str) -> "Range":
        """The same parameter between other ends."""
        if not low <= high or (self.log and low <= 0):
            raise StudyError(f"search.space.{name}: [{low}, {high}] is no range" + (" above 0." if self.log else "."))
        return Range(low, high, self.whole, self.log)


@dataclass(frozen=True)
class Tried:
    """A trial that ended.

    Attributes:
        number: From 0, in the order of ending.
        state: `complete` or `pruned`.
        params: What was tried.
        figures: What came of it; of a pruned trial the last value only. `value` is the first of several objectives.
        seconds: How long it took.
    """

    number: int
    state: str
    params: Mapping[str, float]
    figures: Mapping[str, float]
    seconds: float


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        best: The best complete trial; of several objectives the one of the front that is nearest to the best in each.
        trials: All, in order.
        resumed: How many of them an earlier process had finished.
        front: Of several objectives the trials that no other one beats in every objective, without those that break
            constraints where others do not; of one the best.
    """

    best: Tried
    trials: tuple[Tried, ...]
    resumed: int
    front: tuple[Tried, ...] = ()

    @classmethod
    def of(cls, trials: Sequence[Tried], direction: Directions, resumed: int) -> Self:
        """What these trials found.

        Raises:
            StudyError: none was completed.
        """
        complete = [trial for trial in trials if trial.state == "complete"]
        if not complete:
            raise StudyError("no trial was completed. Hint: more `trials`, or a longer `timeout`.")
        least = min(trial.figures.get(VIOLATION, 0.0) for trial in complete)
        able = [trial for trial in complete if trial.figures.get(VIOLATION, 0.0) <= max(least, 0.0)]
        signs = {name: 1 if way == "minimize" else -1 for name, way in _aims(direction).items()}
        losses = np.array([[sign * trial.figures[name] for name, sign in signs.items()] for trial in able])
        kept = [row for row in range(len(able)) if not _beaten(row, losses)]
        front, losses = tuple(able[row] for row in kept), losses[kept]
        width = np.ptp(losses, axis=0)
        lost = (losses - losses.min(axis=0)) / np.where(width > 0, width, 1.0)
        return cls(front[int((lost**2).sum(axis=1).argmin())], tuple(trials), resumed, front)

    @property
    def n_pruned(self) -> int:
        """Trials that were ended early."""
        return sum(trial.state == "pruned" for trial in self.trials)


def spaces(default: Mapping[str, Range], given: Mapping[str, tuple[float, float]]) -> dict[str, Range]:
    """The default space with other ends where a study gives them.

    Raises:
        StudyError: an unknown parameter, or ends that are no range.
    """
    for name in given:
        if name not in default:
            raise StudyError(f"search.space: unknown parameter {name!r}. {nearest(name, default)}")
    return {name: each.within(*given[name], name) if name in given else each for name, each in default.items()}


def search(
    objective: Objective,
    space: Mapping[str, Range],
    *,
    storage: Path,
    name: str,
    trials: int,
    seed: int,
    direction: Directions,
    timeout_s: float | None = None,
    first: tuple[Mapping[str, float], ...] = (),
    on_trial: Callable[[Tried], None] | None = None,
) -> Found:
    """Try parameters with the tree-structured Parzen estimator; end what the median of the others has beaten.

    Each trial's sampler is seeded by the number of trials that ended before it, so that a search that was killed and
    goes on tries exactly what it would have tried.

    Args:
        objective: What to improve.
        space: Where parameters may lie.
        storage: The journal's file; one file per question, made where it does not exist.
        name: Of the study in that file.
        trials: How many must have ended, those of earlier processes included.
        seed: Of the sampler.
        direction: Whether less or more is better, of `value` or of several figures; of several none is pruned.
        timeout_s: No trial starts later than this; what was tried by then counts.
        first: Parameters to try before the sampler chooses.
        on_trial: Told of every ended trial, those of earlier processes first.

    Raises:
        StudyError: no trial was completed.
    """
    study, started = _opened(storage, name, seed, direction), time.monotonic()
    resumed = _ended(study)
    for number, trial in enumerate(resumed):
        _tell(on_trial, _tried(number, trial))
    done = len(resumed)
    while done < trials and (timeout_s is None or not done or time.monotonic() - started < timeout_s):
        study.sampler = _sampler(seed + done)
        _attempt(study, objective, space, direction, first[done] if done < len(first) else None)
        ended = _ended(study)
        for number in range(done, len(ended)):
            _tell(on_trial, _tried(number, ended[number]))
        done = len(ended)
    tried = tuple(_tried(number, trial) for number, trial in enumerate(_ended(study)))
    return Found.of(tried, direction, len(resumed))


def _aims(direction: Directions) -> Mapping[str, Direction]:
    return {"value": direction} if isinstance(direction, str) else direction


def _beaten(row: int, losses: NDArray[np.float64]) -> bool:
    """Whether another loss is nowhere larger and somewhere smaller, or was the same before."""
    nowhere, somewhere = (losses <= losses[row]).all(axis=1), (losses < losses[row]).any(axis=1)
    return bool((nowhere & somewhere).any() or nowhere[:row].any())


def _opened(storage: Path, name: str, seed: int, direction: Directions) -> "Study":
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
    from optuna.trial import TrialState

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage.parent.mkdir(parents=True, exist_ok=True)
    lock = JournalFileSymlinkLock(str(storage), grace_period=LOCK_SECONDS)
    journal = optuna.storages.JournalStorage(JournalFileBackend(str(storage), lock_obj=lock))
    study = optuna.create_study(
        study_name=name,
        storage=journal,
        directions=list(_aims(direction).values()),
        load_if_exists=True,
        sampler=_sampler(seed),
        pruner=_pruner(),
    )
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING)):
        study.tell(trial.number, state=TrialState.FAIL)  # whoever ran it was killed
    return study


def _sampler(seed: int) -> "BaseSampler":
    import optuna

    return optuna.samplers.TPESampler(
        seed=seed,
        n_startup_trials=8,
        n_ei_candidates=24,
        multivariate=True,
        group=False,
    )


def _pruner() -> "BasePruner":
    import optuna

    return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=20, interval_steps=REPORT_EVERY)


def _attempt(
    study: "Study",
    objective: Objective,
    space: Mapping[str, Range],
    direction: Directions,
    given: Mapping[str, float] | None,
) -> None:
    import optuna
    from optuna.trial import TrialState

    if given is not None:
        study.enqueue_trial(dict(given))
    trial = study.ask()
    params = {name: _suggested(trial, name, each) for name, each in space.items()}

    def report(round_: int, value: float) -> None:
        if (round_ + 1) % REPORT_EVERY == 0:
            trial.report(value, round_ + 1)
            if trial.should_prune():
                raise optuna.TrialPruned

    try:
        figures = dict(objective(params, report))
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
        return
    for key, value in figures.items():
        trial.set_user_attr(key, float(value))
    if VIOLATION in figures:
        trial.set_constraint(VIOLATION, figures[VIOLATION])
    study.tell(trial, [float(figures[name]) for name in _aims(direction)])


def _suggested(trial: "Trial", name: str, each: Range) -> float:
    if each.whole:
        return trial.suggest_int(name, int(each.low), int(each.high), log=each.log)
    return trial.suggest_float(name, each.low, each.high, log=each.log)


def _ended(study: "Study") -> "list[FrozenTrial]":
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def _tried(number: int, trial: "FrozenTrial") -> Tried:
    state = trial.state.name.lower()
    seconds = trial.duration.total_seconds() if trial.duration else 0.0
    last = trial.intermediate_values[max(trial.intermediate_values)] if trial.intermediate_values else float("nan")
    figures = {"value": trial.values[0] if trial.values else last, **trial.user_attrs}
    return Tried(number, state, dict(trial.params), figures, seconds)


def _tell(on_trial: Callable[[Tried], None] | None, tried: Tried) -> None:
    if on_trial is not None:
        on_trial(tried)
