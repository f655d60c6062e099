"""Runtime: the parts of a running service, opened together and closed in order."""

import gc
import logging
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from features.behaviour.histories import Histories
from features.behaviour.schema import StateSchema
from features.errors import BundleError, StoreError
from features.events.log import EventLog
from features.events.places import Places
from features.events.plan import TrackingPlan
from features.instants import DAY
from features.segments.ledger import MANIFEST
from serving import collection
from serving.exposures import ExposureLog, Followed
from serving.fallback import Fallback
from serving.filling import fill
from serving.gate import Limiter
from serving.intake import Intake
from serving.journal import Roller
from serving.metrics import Metrics
from serving.periodic import Periodic
from serving.predictions import PredictionLog
from serving.problems import Problem
from serving.releases import Release, Releases
from serving.scorer import Answer, Scorer
from serving.settings import Settings
from serving.shadow import EVERY_S as SHADOW_S
from serving.shadow import Shadow
from serving.state import LOOK_S, State, keep
from serving.store import store_of
from training.bundle import CHALLENGER, Bundle

SWITCH_S = 0.0001
"""How long another thread may keep the interpreter from the one that answers, which asks for it again and again."""

LOGGER = logging.getLogger("ethogram.runtime")


class Runtime:
    """Store, intake, roller, releases and prediction log of one process.

    Attributes:
        settings: Where things are.
        draining: The process is being stopped: not ready, still answering.

    With `aside` another process, of lowest priority, makes the files of the prediction log.
    """

    def __init__(self, settings: Settings, *, packed: Path | None = None, aside: bool = False) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.draining = False
        self.keys = settings.ring()
        self.limiter = Limiter(settings.rate)
        self.store = store_of(settings, owner=True)
        self.states = Fallback(self.store)
        self.erased = collection.Erased(settings.log)
        self.intake = Intake(self.store, self.arrival)
        self.releases = Releases(settings.bundles, packed, self._champion)
        kept = round(settings.keep_days * DAY)
        self.predictions = PredictionLog(settings.predictions, settings.key, kept=kept, aside=aside)
        self.challengers = Releases(settings.bundles, None, self._challenger, pointer=CHALLENGER)
        self.shadowed = PredictionLog(settings.predictions / "challenger", settings.key, kept=kept, aside=aside)
        self.shadow = Shadow(lambda: self.challengers.current)
        self.roller = Roller(self.store, self.log, lambda: plan_of(self.release().bundle))
        self.abtests = Followed(settings.ab)
        self.exposures = ExposureLog(self.store.journal, settings.exposures, self.metrics.roll_failures.inc)
        self.catching_up = Periodic("states", self._catch_up, self.metrics.state_failures.inc)
        self._unfilled = False
        self._beside: StateSchema | None = None
        self._last_arrival = 0
        self._shift = 0
        if settings.clock is not None:
            self.turn_clock(settings.clock)
        self._wire()

    def _wire(self) -> None:
        metrics = self.metrics
        self.intake.on_commit = metrics.commit_seconds.observe
        self.roller.on_rolled = metrics.rolled.inc
        self.roller.on_failure = metrics.roll_failures.inc
        self.releases.on_swap = self._swapped
        metrics.unpublished.set_function(lambda: float(bool(self.releases.unpublished)))
        self.releases.stale = lambda: self._unfilled or self._applied != self._written()
        self.states.on_failure = metrics.state_failures.inc
        self.states.erased = lambda user: self.erased.names(user, self.settings.key)
        self.releases.on_failure = metrics.swap_failures.inc
        self.challengers.on_swap = lambda _: metrics.challengers.inc()
        self.challengers.on_failure = metrics.swap_failures.inc
        self.shadow.on_done = lambda outcome, n: metrics.shadow.labels(outcome).inc(n)
        self.predictions.on_written = lambda outcome, rows: metrics.predictions.labels(outcome).inc(rows)
        self.predictions.erased = self.shadowed.erased = lambda: self.erased().erased
        self.predictions.on_failure = self.shadowed.on_failure = metrics.prediction_failures.inc

    def open(self) -> None:
        """Start the threads. Nothing is waited for: `/readyz` says when the first bundle stands."""
        sys.setswitchinterval(SWITCH_S)
        self.intake.start()
        if self.store.remote:
            self.catching_up.start(LOOK_S)
        self.releases.start()
        self.challengers.start()
        self.shadow.thread.start(SHADOW_S)
        self.shadowed.thread.start(self.settings.flush_s)
        self.roller.thread.start(self.settings.roll_s)
        self.predictions.start(self.settings.flush_s)
        self.exposures.thread.start(self.settings.roll_s)

    def close(self) -> None:
        """Take in what was sent, write what is held, let go."""
        self.challengers.stop()
        self.releases.stop()
        self.intake.stop()
        if self.store.remote:
            self.catching_up.stop()
        if self.releases.current is not None:
            self.roller.thread.stop()
        self.shadow.thread.stop()
        self.exposures.thread.stop()
        for log in (self.predictions, self.shadowed):
            log.stop()
        self.store.close()

    def release(self) -> Release:
        """What answers now.

        Raises:
            Problem: 503, nothing is in service yet.
        """
        release = self.releases.current
        if release is None:
            raise Problem(503, f"no bundle is in service: {self.releases.fault}", {"retry-after": "1"})
        return release

    def log(self) -> EventLog:
        """The event log under the plan of the bundle in service."""
        return self._log_of(self.release().bundle)

    def _log_of(self, bundle: Bundle) -> EventLog:
        settings = self.settings
        codes = settings.project.file("plan.lock") if settings.project else settings.log / "plan.lock"
        given = bundle.path / "plan.lock"
        if not codes.exists() and given.exists():
            codes.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(given, codes)
        places = Places(settings.places)
        return EventLog(settings.log, plan_of(bundle), key=settings.key, codes_path=codes, places=places)

    def now(self) -> int:
        """The service's clock, microseconds UTC."""
        return time.time_ns() // 1000 + self._shift

    def turn_clock(self, at: int) -> None:
        """From now on the service's clock goes on from this instant: the past is replayed in less time than it took."""
        self._shift = at - time.time_ns() // 1000

    def arrival(self) -> int:
        """The instant of an arrival: the clock's, never earlier than the arrival before."""
        self._last_arrival = max(self._last_arrival, self.now())
        return self._last_arrival

    def note(self, release: Release, request_id: str, answers: Sequence[Answer]) -> None:
        """Log and count answers."""
        for answer in answers:
            if not release.ring.put(request_id, answer):
                self.metrics.predictions.labels("dropped").inc()
            if self.challengers.current is not None and answer.source == "live":
                self.shadow.put(request_id, answer)
            if answer.skew:
                self.metrics.skew.observe(answer.skew / 1e6)
        sources = [answer.source for answer in answers]
        for source in set(sources):
            self.metrics.answer(source, sources.count(source))

    def _champion(self, bundle: Bundle) -> Release:
        """A bundle that answers; as of now neither its state nor its memberships are stale."""
        self._applied = self._written()
        release = self._release(bundle, self.predictions)
        self._unfilled = not self._filled(bundle)
        return release

    def _challenger(self, bundle: Bundle) -> Release:
        """A bundle that answers nobody."""
        self._beside = bundle.schema
        return self._release(bundle, self.shadowed)

    def _release(self, bundle: Bundle, log: PredictionLog) -> Release:
        """A bundle checked, its state filled, its code warm: all before it answers anybody."""
        if not (bundle.path / "plan.yaml").exists():
            raise BundleError("the bundle carries no plan.yaml, so no event could be taken in.")
        for model in bundle.models.values():
            model.check(bundle.path / "models" / model.study)
        plan = plan_of(bundle)
        prepare = collection.preparation(plan, self.settings.key, self.erased, Places(self.settings.places))
        self._filled(bundle)
        scorer = Scorer(bundle, self.states, self.settings.memberships)
        warm(scorer)
        return Release(scorer, log.follow(scorer), prepare, time.time_ns() // 1000)

    def _filled(self, bundle: Bundle) -> bool:
        """Whether the state of the bundle's schema is there; while the store is not, degraded answers are better."""
        try:
            if self.store.filled(bundle.schema) is None:
                fill(self.store, self._log_of(bundle), bundle.schema, now=self.now(), again=False)
        except StoreError as error:
            LOGGER.error("%s; answers are degraded", error)
            return False
        return True

    def _catch_up(self) -> None:
        """Give the store what it lacks; one that came back empty is filled again."""
        if self.releases.current is not None:
            bundle = self.release().bundle
            self.store.catch_up(plan_of(bundle))
            self._unfilled = self._unfilled or self.store.filled(bundle.schema) is None

    def _written(self) -> int:
        """When `segments apply` last wrote memberships, nanoseconds; 0 for never."""
        folder = self.settings.memberships
        file = folder / MANIFEST if folder is not None else None
        return file.stat().st_mtime_ns if file is not None and file.exists() else 0

    def _swapped(self, release: Release) -> None:
        """Let go of states that neither this bundle nor the one before needs; settle the garbage collector."""
        self.metrics.swapped(release.bundle)
        needed = [each for each in (release, self.releases.previous) if each is not None]
        try:
            keep(self.store, [*(each.scorer.schema for each in needed), *([self._beside] if self._beside else [])])
        except StoreError as error:
            LOGGER.warning("%s; states of bundles before stay", error)
        gc.collect()
        gc.freeze()


def plan_of(bundle: Bundle) -> TrackingPlan:
    """The tracking plan that a bundle carries."""
    return TrackingPlan.read(bundle.path / "plan.yaml")


def warm(scorer: Scorer) -> None:
    """Compute and score an empty history, so that no caller waits for a compiler."""
    at = time.time_ns() // 1000
    histories = Histories.from_states(scorer.schema, ["nobody"], [b""], [None])
    scorer.verdicts(scorer.bundle.computed.compute(histories, np.array([at])).values)
    scorer.answer_states(["nobody"], [State("nobody")], at)
