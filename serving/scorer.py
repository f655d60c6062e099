"""Scorer: a bundle and a store make answers; it knows no web framework and no clock."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.behaviour.histories import Histories
from features.behaviour.matrix import FeatureMatrix
from features.events.identity import is_denied
from features.events.plan import Purpose
from features.instants import SECOND, iso
from features.segments.segment_set import SegmentSet, Truths
from serving.fallback import Fallback
from serving.fingerprint import AS_OF, CONSENT, FIXED, Fingerprint, seen
from serving.glance import Glance, Sight
from serving.rules import Context, Rules, Told
from serving.state import State, StateStore
from training.bundle import Bundle
from training.contributions import Paths, moved, paths_of_all
from training.trees import Forest

if TYPE_CHECKING:
    from training.model import Model, Scores

AHEAD = 2 * SECOND
"""How far beyond the clock an answer's instant may follow the newest known event."""

UNAGREED = "the person has not agreed to personalisation"
UNKNOWN = "nothing is known of this id yet"
UNREADABLE = "the state cannot be read now"

AGREED = Purpose.PERSONALISATION.bit
CONSENTS = tuple({purpose.value: bool(mask & purpose.bit) for purpose in Purpose} for mask in range(8))
"""What each mask of purposes says."""


class Verdict(NamedTuple):
    """What the bundle says of one row of features.

    Attributes:
        scores: Per study, plain values.
        segments: What the person is in: declared segments, studies of a propensity, clusters as `study:name`.
        figures: Per study, the one figure that the prediction log keeps.
        rules: What the declared segments say.
    """

    scores: Mapping[str, Mapping[str, object]]
    segments: tuple[str, ...]
    figures: tuple[float, ...] = ()
    rules: Told = MappingProxyType({})


class Answer(NamedTuple):
    """Which segments a user is in.

    Attributes:
        user: The id asked for.
        canonical: The id that the person's history is kept under.
        at: As of, microseconds UTC.
        skew: Microseconds by which the newest known event lay ahead of the clock.
        source: `live`; `stale` where the state was read before; `default` where nothing of them may or can be used.
        reason: Why the answer is the default one; empty when live.
        verdict: What the bundle says.
        consent: Per purpose, whether the person agrees.
        state: What was read.
        values: The features, shape (n_features,); None for a default answer.
        age: Microseconds since the state was read; 0 when live.
        degraded: The state could not be read.
    """

    user: str
    canonical: str
    at: int
    skew: int
    source: str
    reason: str
    verdict: Verdict
    consent: Mapping[str, bool]
    state: Fingerprint
    values: NDArray[np.float64] | None = None
    age: int = 0
    degraded: bool = False


class Scorer:
    """Answers from one bundle over one generation of the state."""

    def __init__(self, bundle: Bundle, store: StateStore | Fallback, memberships: Path | None = None) -> None:
        self.bundle = bundle
        self.store = store
        self.schema = bundle.schema
        self.rules = Rules(bundle, memberships)
        self.glance = Glance(bundle)
        self.studies = tuple(sorted(bundle.models))
        self._columns = {study: _places(bundle, bundle.models[study].preparation.names) for study in self.studies}

    def answer(self, user: str, now: int, context: Context = None) -> Answer:
        """The answer for a user as of `now`, or as of the newest event known of them if that is a little later."""
        return self.answers([user], now, context)[0]

    def answers(self, users: Sequence[str], now: int, context: Context = None) -> list[Answer]:
        """The same for many users, in their order."""
        return self.answer_states(users, self._states(users), now, context)

    def answers_at(self, users: Sequence[str], ats: Sequence[int]) -> list[Answer]:
        """What would have been said as of these instants, of what was known then."""
        return self.answer_states(users, self._states(users), 0, ats=ats)

    def explain(self, user: str, now: int, context: Context = None) -> dict[str, Any]:
        """Why the user is in every declared segment or not, as of the instant of an answer: plain values."""
        (state,) = self._states([user])
        histories = Histories.from_states(self.schema, [state.user], [state.records], [state.carry])
        (told,) = seen(histories, np.array([now]), ahead=AHEAD).tolist()
        at, reason = told[AS_OF], _reason(state, told[CONSENT])
        source = "default" if reason else state.source
        about = {"user_id": user, "as_of": iso(at), "source": source, "age": state.age}
        about["degraded"] = state.source != "live"
        if reason in (UNAGREED, UNREADABLE):
            return {**about, "reason": reason, "segments": {}, "memberships": {}, "contributions": {}}
        matrix = self.bundle.computed.compute(histories, at)
        scores = self._scored(matrix.values)
        told = self.rules.explain(histories, at, self._judge, features=matrix, scores=scores, context=context)
        parts = self.contributions(matrix.values)
        return {**about, **told, "contributions": parts}

    def contributions(self, values: NDArray[np.float64]) -> dict[str, dict[str, object]]:
        """Per propensity, how much each prepared column moves the first row's margin from what all rows start from."""
        told: dict[str, dict[str, object]] = {}
        for study, paths in self._paths.items():
            columns, model = self._columns[study], self.bundle.models[study]
            told[study] = moved(model, paths, values if columns is None else values[:, columns])
        return told

    @cached_property
    def _paths(self) -> dict[str, list[Paths]]:
        heads = {study: self.bundle.models[study].head for study in self.studies}
        return {study: paths_of_all(head) for study, head in heads.items() if isinstance(head, Forest)}

    def _states(self, users: Sequence[str]) -> list[State]:
        denied = [is_denied(user) for user in users]
        if not any(denied):
            return self.store.read(self.schema, users)
        asked = iter(self.store.read(self.schema, [user for user, no in zip(users, denied, strict=True) if not no]))
        return [State(user) if no else next(asked) for user, no in zip(users, denied, strict=True)]

    def answer_states(
        self,
        users: Sequence[str],
        states: Sequence[State],
        now: int,
        context: Context = None,
        *,
        ats: Sequence[int] | None = None,
    ) -> list[Answer]:
        """The same for states that have been read, one per user; `ats` fixes the instants, whatever is known since."""
        if not states:
            return []
        sight = self.glance(states, now, AHEAD) if ats is None else self.glance(states, np.array(ats, np.int64), FIXED)
        reasons = [_reason(state, row[CONSENT]) for state, row in zip(states, sight.told, strict=True)]
        verdicts = self._judged(states, sight, reasons, context)
        fingerprint, answers = self.schema.fingerprint, []
        rows = zip(users, states, reasons, sight.told, sight.values, verdicts, strict=True)
        for user, state, reason, (n, ids, last, known, mask, at), vector, verdict in rows:
            held, skew = Fingerprint(n, ids, last, fingerprint), max(0, known - (now or at))
            about = user, state.user, at, skew, "default" if reason else state.source, reason, verdict, CONSENTS[mask]
            answers.append(Answer(*about, held, None if reason else vector, state.age, state.source != "live"))
        return answers

    def _judged(self, states: Sequence[State], sight: Sight, reasons: Sequence[str], context: Context) -> list[Verdict]:
        """The verdict of every row; with a reason against it, what is said of anybody."""
        rules: Sequence[Told] = [{}] * len(states)
        if self.rules.names:
            rules = self._ruled(states, sight, reasons, context)
        verdicts = []
        for row, reason, rule in zip(sight.figures.tolist(), reasons, rules, strict=True):
            if not reason:
                verdicts.append(self._verdict(row, rule))
            else:
                verdicts.append(Verdict(self.cold.scores, _inside(rule), rules=rule) if rule else self.cold)
        return verdicts

    def _ruled(self, states: Sequence[State], sight: Sight, reasons: Sequence[str], context: Context) -> list[Told]:
        """What the declared segments say of who may be looked at; of the unknown the call alone decides."""
        names, carries = [state.user for state in states], [state.carry for state in states]
        histories = Histories.from_states(self.schema, names, [state.records for state in states], carries)
        computed, told = self.bundle.computed, list[Told]([{}] * len(states))
        matrix = FeatureMatrix(
            sight.values, histories.users, sight.at, computed.names, computed.fingerprint, sight.capped
        )
        live = np.array([row for row, reason in enumerate(reasons) if not reason], np.int64)
        if len(live):
            scores = {study: each.scores(sight.figures[live]) for study, each in self.glance.readings.items()}
            mine, at = histories.take(live), sight.at[live]
            said = self.rules.of(
                mine, at, features=matrix.take(live), scores=scores, context=context, judge=self._judge
            )
            for row, each in zip(live.tolist(), said, strict=True):
                told[row] = each
        unknown = np.array([row for row, reason in enumerate(reasons) if reason == UNKNOWN], np.int64)
        if len(unknown):
            said = self.rules.of(histories.take(unknown), sight.at[unknown], context=context)
            for row, each in zip(unknown.tolist(), said, strict=True):
                told[row] = each
        return told

    def _judge(self, segments: SegmentSet, histories: Histories, at: NDArray[np.int64]) -> Truths:
        """What segments say as of other instants than the answer's."""
        if not segments.inputs:
            return segments.evaluate(histories, at, threads=1)
        matrix = self.bundle.computed.compute(histories, at, threads=1)
        return segments.evaluate(histories, at, features=matrix, scores=self._scored(matrix.values), threads=1)

    def verdicts(self, values: NDArray[np.float64]) -> list[Verdict]:
        """What the models say of features that are computed already, shape (n_rows, n_features)."""
        parts = [each.figures(self.score(study, values)) for study, each in self.glance.readings.items()]
        return [self._verdict(row, {}) for row in np.concatenate(parts, axis=1).tolist()]

    def _verdict(self, figures: Sequence[float], rule: Told) -> Verdict:
        """What one row's figures say, and the declared segments."""
        told, segments, kept = {}, [*_inside(rule)] if rule else [], []
        for study, reading in self.glance.readings.items():
            told[study], segment = opinion(reading.model, figures, reading.at)
            kept.append(figures[reading.at])
            if segment:
                segments.append(segment)
        return Verdict(told, tuple(segments), tuple(kept), rule)

    def _scored(self, values: NDArray[np.float64]) -> "dict[str, Scores]":
        return {study: self.score(study, values) for study in self.studies}

    def score(self, study: str, values: NDArray[np.float64]) -> "Scores":
        """One study's scores of features that this bundle's set computed."""
        columns = self._columns[study]
        return self.bundle.models[study].score_values(values if columns is None else values.take(columns, axis=1))

    @cached_property
    def cold(self) -> Verdict:
        """What is said of a person of whom nothing may or can be used: in no segment, scores unknown."""
        models = self.bundle.models
        return Verdict({study: unknown(models[study].kind, models[study].threshold) for study in self.studies}, ())


def _inside(told: Told) -> tuple[str, ...]:
    return tuple(name for name, each in told.items() if each["in"])


def _places(bundle: Bundle, names: tuple[str, ...]) -> NDArray[np.int64] | None:
    """Which of the bundle's columns these are; None where they are all of them, in order."""
    given = bundle.features.names
    return None if names == given else np.array([given.index(name) for name in names], np.int64)


def _reason(state: State, mask: int) -> str:
    """Why nothing may or can be used of a person; empty where it can."""
    if state.source == "lost":
        return UNREADABLE
    if not mask & AGREED:
        return UNAGREED
    return "" if state.records or state.carry is not None else UNKNOWN


def opinion(model: "Model", figures: Sequence[float], at: int) -> tuple[Mapping[str, object], str]:
    """One row's figures, of which the model's begin at `at`, as an answer shows them; the segment, empty for none."""
    kind, first, threshold = model.kind, figures[at], model.threshold
    if kind == "propensity":
        inside = first >= threshold
        shown = {"kind": kind, "probability": first, "threshold": threshold, "in": inside}
        return shown, model.study if inside else ""
    names, place = model.names, int(first)
    name, segment = names[place], f"{model.study}:{names[place]}"
    if kind == "classes":
        chances = dict(zip(names, figures[at + 1 : at + 1 + len(names)], strict=True))
        return {"kind": kind, "name": name, "probabilities": chances}, segment
    far = dict(zip(names, figures[at + 2 : at + 2 + len(names)], strict=True))
    sure, mine = figures[at + 1], model.ids[place]
    shown = {"kind": kind, "cluster": place, "id": mine, "name": name, "distances": far, "confidence": sure}
    return shown, segment


def unknown(kind: str, threshold: float) -> Mapping[str, object]:
    """The same shape for a person of whom nothing is known."""
    if kind == "clusters":
        return {"kind": kind, "cluster": None, "id": None, "name": None, "distances": None, "confidence": None}
    if kind == "classes":
        return {"kind": kind, "name": None, "probabilities": None}
    return {"kind": kind, "probability": None, "threshold": threshold, "in": False}
