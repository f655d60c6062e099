"""Search: Optuna, and nothing else, behind plain functions. A search that was killed goes on where it stopped."""

import os
import pickle
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from numpy.typing import NDArray

from features.errors import StudyError, nearest

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from optuna import Study, Trial
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
SILENT_SECONDS = 600
"""A worker of another machine that says nothing of its trial for so long has lost it."""
LOOK_SECONDS = 0.2
"""Between two looks at what the other workers have ended."""
NAMELESS_SECONDS = 2 * LOCK_SECONDS
"""Within which a trial says who works on it; one that does not was begun by somebody who was ended right then."""
WORKER = "worker"


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
        number: The search's own, from 0, in the order of beginning; one whose worker was killed is missing.
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
        best: The best complete trial; of several objectives the one of the front that is nearest to the best in each,
            of equally near ones the best in the first.
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
        nearest = np.lexsort((lost[:, 0], (lost**2).sum(axis=1).round(9)))[0]
        return cls(front[int(nearest)], tuple(trials), resumed, front)

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


@dataclass(frozen=True)
class Task:
    """What every worker of a search is told.

    Attributes:
        objective: What to improve.
        space: Where parameters may lie.
        storage: The journal's file, or a database as SQLAlchemy names it.
        name: Of the study in there.
        trials: How many must have ended.
        seed: Of the sampler.
        direction: Whether less or more is better.
        until: `time.time()` after which no trial starts.
        worker: 0 of the process that was asked, then 1, 2, ...; no two workers of a search have the same.
    """

    objective: Objective
    space: Mapping[str, Range]
    storage: Path | str
    name: str
    trials: int
    seed: int
    direction: Directions
    until: float
    worker: int = 0


def search(
    objective: Objective,
    space: Mapping[str, Range],
    *,
    storage: Path | str,
    name: str,
    trials: int,
    seed: int,
    direction: Directions,
    timeout_s: float | None = None,
    first: tuple[Mapping[str, float], ...] = (),
    on_trial: Callable[[Tried], None] | None = None,
    workers: int = 1,
    number: int = 0,
) -> Found:
    """Try parameters with the tree-structured Parzen estimator; end what the median of the others has beaten.

    Each trial's sampler is seeded by the number of trials that ended before it, so that a search of one worker that was
    killed and goes on tries exactly what it would have tried. A worker that is killed loses its trial and no other.

    Args:
        objective: What to improve; with several workers one that can be handed to another process.
        space: Where parameters may lie.
        storage: The journal's file, one file per question, made where it does not exist; or a database's URL.
        name: Of the study in there.
        trials: How many must have ended, those of earlier processes included.
        seed: Of the sampler.
        direction: Whether less or more is better, of `value` or of several figures; of several none is pruned.
        timeout_s: No trial starts later than this; what was tried by then counts.
        first: Parameters to try before the sampler chooses.
        on_trial: Told of every ended trial, those of earlier processes first.
        workers: Processes that try at the same time, this one included.
        number: Of the first of them, where other machines work on the same database.

    Raises:
        StudyError: no trial was completed, or several workers cannot share the objective.
    """
    until = time.time() + timeout_s if timeout_s is not None else float("inf")
    task = Task(objective, space, storage, name, trials, seed, direction, until, number)
    study, told = _opened(task), set[int]()
    resumed = len(_ended(study))
    for params in first[len(study.get_trials(deepcopy=False)) :]:
        study.enqueue_trial(dict(params))
    with _helpers(task, workers - 1) as helpers:
        while True:
            for trial in _ended(study):
                if trial.number not in told:
                    told.add(trial.number)
                    if on_trial is not None:
                        on_trial(_tried(trial))
            if (time.time() >= task.until and told) or not _attempt(study, task):
                waiting = any(helper.is_alive() for helper in helpers) or _elsewhere(study)
                if not waiting and len(_ended(study)) == len(told):
                    break
                time.sleep(LOOK_SECONDS)
            active_children()  # takes note of those that ended
            _bury(study)
    return Found.of([_tried(trial) for trial in _ended(study)], direction, resumed)


@contextmanager
def _helpers(task: Task, n: int) -> "Iterator[list[BaseProcess]]":
    """Processes that work on the task as well; they end with this block, or with this process."""
    if n < 1:
        yield []
        return
    try:
        pickle.dumps(task)
    except (pickle.PicklingError, AttributeError, TypeError) as problem:
        raise StudyError(f"this study is searched by one worker only: {problem}.") from None
    context, threads = get_context("spawn"), os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // (n + 1)))
    helpers = [
        context.Process(target=_work, args=(replace(task, worker=task.worker + k),), daemon=True)
        for k in range(1, n + 1)
    ]
    try:
        for helper in helpers:
            helper.start()
        yield list(helpers)
    finally:
        os.environ.pop("OMP_NUM_THREADS")
        os.environ |= {"OMP_NUM_THREADS": threads} if threads else {}
        for helper in helpers:
            helper.terminate()


def _work(task: Task) -> None:
    """Try until enough was tried, or until who asked is gone."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asked is told, and ends this process
    study, asker = _opened(task), os.getppid()
    while time.time() < task.until and os.getppid() == asker and _attempt(study, task):
        pass


def _aims(direction: Directions) -> Mapping[str, Direction]:
    return {"value": direction} if isinstance(direction, str) else direction


def _beaten(row: int, losses: NDArray[np.float64]) -> bool:
    """Whether another loss is nowhere larger and somewhere smaller, or was the same before."""
    nowhere, somewhere = (losses <= losses[row]).all(axis=1), (losses < losses[row]).any(axis=1)
    return bool((nowhere & somewhere).any() or nowhere[:row].any())


def _opened(task: Task) -> "Study":
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage: optuna.storages.BaseStorage
    if isinstance(task.storage, Path):
        task.storage.parent.mkdir(parents=True, exist_ok=True)
        lock = JournalFileSymlinkLock(str(task.storage), grace_period=LOCK_SECONDS)
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(task.storage), lock_obj=lock))
    else:
        storage = optuna.storages.RDBStorage(task.storage, heartbeat_interval=1, grace_period=SILENT_SECONDS)
    study = optuna.create_study(
        study_name=task.name,
        storage=storage,
        directions=list(_aims(task.direction).values()),
        load_if_exists=True,
        sampler=_sampler(task.seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=20, interval_steps=REPORT_EVERY),
    )
    _bury(study)
    return study


def _bury(study: "Study") -> None:
    """Give up the trials of workers of this machine that are gone, and of others that say nothing any more."""
    import optuna

    if isinstance(study._storage, optuna.storages.RDBStorage):
        optuna.storages.fail_stale_trials(study)
    for trial in _trials(study, "RUNNING"):
        host, _, process = str(trial.user_attrs.get(WORKER, "")).rpartition(":")
        gone = _nameless(trial) if not process else host == socket.gethostname() and not _lives(int(process))
        if gone:
            _end(study, trial.number, "FAIL")
            given = trial.system_attrs.get("fixed_params")
            if given:
                study.enqueue_trial(given)


def _nameless(trial: "FrozenTrial") -> bool:
    """Whether whoever began it ended before saying so."""
    begun = trial.datetime_start
    return begun is not None and (datetime.now() - begun).total_seconds() > NAMELESS_SECONDS  # noqa: DTZ005 - as Optuna


def _elsewhere(study: "Study") -> bool:
    """Whether another machine, or nobody can say who, is at a trial."""
    hosts = {str(trial.user_attrs.get(WORKER, "")).rpartition(":")[0] for trial in _trials(study, "RUNNING")}
    return bool(hosts - {socket.gethostname()})


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _end(study: "Study", number: int, state: str, values: Sequence[float] | None = None) -> None:
    """The trial's end, unless others gave it up."""
    from optuna.exceptions import UpdateFinishedTrialError
    from optuna.trial import TrialState

    try:
        study.tell(number, values, state=TrialState[state])
    except (UpdateFinishedTrialError, ValueError):
        if state != "FAIL" and study.get_trials(deepcopy=False)[number].state.name != "FAIL":
            raise


def _sampler(seed: int) -> "BaseSampler":
    import optuna

    return optuna.samplers.TPESampler(
        seed=seed,
        n_startup_trials=8,
        n_ei_candidates=24,
        multivariate=True,
        group=False,
    )


def _attempt(study: "Study", task: Task) -> bool:
    """One trial; False where enough are under way or ended."""
    import optuna

    if len(_claimed(study)) >= task.trials:
        return False
    study.sampler = _sampler(task.seed + len(_ended(study)) + task.worker * 10_000)
    trial, storage = study.ask(), study._storage
    trial.set_user_attr(WORKER, f"{socket.gethostname()}:{os.getpid()}")
    if sum(number < trial.number for number in _claimed(study)) >= task.trials:
        _end(study, trial.number, "FAIL")  # another worker was quicker
        return False
    params = {name: _suggested(trial, name, each) for name, each in task.space.items()}

    def report(round_: int, value: float) -> None:
        if (round_ + 1) % REPORT_EVERY == 0:
            if isinstance(storage, optuna.storages.RDBStorage):
                storage.record_heartbeat(trial._trial_id)
            trial.report(value, round_ + 1)
            if trial.should_prune():
                raise optuna.TrialPruned

    try:
        figures = dict(task.objective(params, report))
    except optuna.TrialPruned:
        _end(study, trial.number, "PRUNED")
        return True
    for key, value in figures.items():
        trial.set_user_attr(key, float(value))
    if VIOLATION in figures:
        trial.set_constraint(VIOLATION, figures[VIOLATION])
    _end(study, trial.number, "COMPLETE", [float(figures[name]) for name in _aims(task.direction)])
    return True


def _claimed(study: "Study") -> list[int]:
    """Numbers of the trials that are under way or ended."""
    return [trial.number for trial in _trials(study, "RUNNING", "COMPLETE", "PRUNED")]


def _suggested(trial: "Trial", name: str, each: Range) -> float:
    if each.whole:
        return trial.suggest_int(name, int(each.low), int(each.high), log=each.log)
    return trial.suggest_float(name, each.low, each.high, log=each.log)


def _ended(study: "Study") -> "list[FrozenTrial]":
    return _trials(study, "COMPLETE", "PRUNED")


def _trials(study: "Study", *states: str) -> "list[FrozenTrial]":
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=tuple(TrialState[each] for each in states))


def _tried(trial: "FrozenTrial") -> Tried:
    state = trial.state.name.lower()
    seconds = trial.duration.total_seconds() if trial.duration else 0.0
    last = trial.intermediate_values[max(trial.intermediate_values)] if trial.intermediate_values else float("nan")
    figures = {"value": trial.values[0] if trial.values else last, **trial.user_attrs}
    figures.pop(WORKER, None)
    return Tried(trial.number, state, dict(trial.params), figures, seconds)
