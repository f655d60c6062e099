"""Scorer: a bundle and a store make answers; it knows no web framework and no clock."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from features.behaviour.histories import Histories
from features.behaviour.matrix import FeatureMatrix
from features.behaviour.schema import ID, KNOWN, TS
from features.events.identity import is_denied
from features.events.plan import Purpose
from features.instants import SECOND
from serving.store import SqliteStore, State
from training.bundle import Bundle

if TYPE_CHECKING:
    from training.model import Scores

AHEAD = 2 * SECOND
"""How far beyond the clock an answer's instant may follow the newest known event."""


@dataclass(frozen=True)
class Fingerprint:
    """Of the state that an answer read: what a replay from the event log must find again.

    Attributes:
        n_events: Records, copies included.
        sum_ids: Sum of the records' ids modulo 2^64, signed.
        last_ts: Newest ts, 0 where there is none.
        schema: The state schema's fingerprint.
    """

    n_events: int
    sum_ids: int
    last_ts: int
    schema: str


@dataclass(frozen=True)
class Answer:
    """Which segments a user is in.

    Attributes:
        user: The id asked for.
        canonical: The id that the person's history is kept under.
        at: As of, microseconds UTC.
        skew: Microseconds by which the newest known event lay ahead of the clock.
        source: `live`, or `default` where nothing of the person may or can be used.
        reason: Why the answer is the default one; empty when live.
        scores: Per study, plain values.
        segments: What the person is in: studies of a propensity by name, clusters as `study:name`.
        consent: Per purpose, whether the person agrees.
        state: What was read.
        matrix: The features, one row; None for a default answer.
        figures: Per study, the one figure that the prediction log keeps.
    """

    user: str
    canonical: str
    at: int
    skew: int
    source: str
    reason: str
    scores: Mapping[str, Mapping[str, object]]
    segments: tuple[str, ...]
    consent: Mapping[str, bool]
    state: Fingerprint
    matrix: FeatureMatrix | None = None
    figures: tuple[float, ...] = field(default=())


class Scorer:
    """Answers from one bundle over one generation of the state."""

    def __init__(self, bundle: Bundle, store: SqliteStore) -> None:
        self.bundle = bundle
        self.store = store
        self.schema = bundle.features.schema
        self.studies = tuple(sorted(bundle.models))
        names = bundle.features.names
        self._columns = {
            study: np.array([names.index(name) for name in bundle.models[study].preparation.names], np.int64)
            for study in self.studies
        }

    def answer(self, user: str, now: int) -> Answer:
        """The answer for a user as of `now`, or as of the newest event known of them if that is a little later."""
        state = State(user) if is_denied(user) else self.store.read(self.schema, [user])[0]
        return self.answer_state(user, state, now)

    def answer_state(self, user: str, state: State, now: int) -> Answer:
        """The same for a state that has been read."""
        histories = Histories.from_states(self.schema, [state.user], [state.records], [state.carry])
        mask = int(histories.consent()[0])
        consent = {purpose.value: bool(mask & purpose.bit) for purpose in Purpose}
        fingerprint = self._fingerprint(histories)
        newest = int(histories.slots[:, KNOWN].max(initial=0))
        at, skew = min(max(now, newest), now + AHEAD), max(0, newest - now)

        def default(reason: str) -> Answer:
            scores, segments = self.cold
            return Answer(user, state.user, at, skew, "default", reason, scores, segments, consent, fingerprint)

        if not mask & Purpose.PERSONALISATION.bit:
            return default("the person has not agreed to personalisation")
        if not state.records and state.carry is None:
            return default("nothing is known of this id yet")
        matrix = self.bundle.features.compute(histories, at)
        scored = [self.score(study, matrix) for study in self.studies]
        return Answer(
            user,
            state.user,
            at,
            skew,
            "live",
            "",
            {each.study: plain(each) for each in scored},
            tuple(segment for each in scored if (segment := segment_of(each))),
            consent,
            fingerprint,
            matrix,
            tuple(float(each.column()[0]) for each in scored),
        )

    def score(self, study: str, matrix: FeatureMatrix) -> "Scores":
        """One study's scores of a matrix that this bundle's features computed."""
        return self.bundle.models[study].score_values(matrix.values[:, self._columns[study]])

    @property
    def cold(self) -> tuple[Mapping[str, Mapping[str, object]], tuple[str, ...]]:
        """What is said of a person of whom nothing may or can be used: in no segment, scores unknown."""
        models = self.bundle.models
        return {study: unknown(models[study].kind, models[study].threshold) for study in self.studies}, ()

    def _fingerprint(self, histories: Histories) -> Fingerprint:
        slots = histories.slots
        total = int(slots[:, ID].sum()) if len(slots) else 0
        return Fingerprint(len(slots), total, int(slots[:, TS].max(initial=0)), self.schema.fingerprint)


def plain(scores: "Scores") -> Mapping[str, object]:
    """One row of scores as an answer shows it."""
    if scores.probability is not None:
        probability = float(scores.probability[0])
        inside = probability >= scores.threshold
        return {"kind": scores.kind, "probability": probability, "threshold": scores.threshold, "in": inside}
    if scores.cluster is None or scores.distances is None:
        return {"kind": scores.kind}
    place = int(scores.cluster[0])
    distances = dict(zip(scores.names, scores.distances[0].tolist(), strict=True))
    return {"kind": scores.kind, "cluster": place, "name": scores.names[place], "distances": distances}


def unknown(kind: str, threshold: float) -> Mapping[str, object]:
    """The same shape for a person of whom nothing is known."""
    if kind == "clusters":
        return {"kind": kind, "cluster": None, "name": None, "distances": None}
    return {"kind": kind, "probability": None, "threshold": threshold, "in": False}


def segment_of(scores: "Scores") -> str:
    """The segment that these scores put their row in; empty for none."""
    if scores.cluster is not None:
        return f"{scores.study}:{scores.names[int(scores.cluster[0])]}"
    return scores.study if bool(scores.chosen[0]) else ""
