"""Scorer: a bundle and a store make answers; it knows no web framework and no clock."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.behaviour.histories import Histories
from features.events.identity import is_denied
from features.events.plan import Purpose
from features.instants import NEVER, SECOND, iso
from features.segments.segment_set import SegmentSet, Truths
from serving.fallback import Fallback
from serving.fingerprint import CONSENT, LAST_KNOWN, LAST_TS, N_EVENTS, SUM_IDS, Fingerprint, seen
from serving.rules import Context, Rules, Told
from serving.state import State, StateStore
from training.bundle import Bundle
from training.contributions import Paths, moved, paths_of_all
from training.trees import Forest

if TYPE_CHECKING:
    from training.model import Scores

AHEAD = 2 * SECOND
"""How far beyond the clock an answer's instant may follow the newest known event."""


ALL_KNOWN = np.array([NEVER])

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
        (told,) = self._seen(histories, now)
        at = min(max(now, told[LAST_KNOWN]), now + AHEAD)
        reason = _reason(state, told[CONSENT])
        if reason in (UNAGREED, UNREADABLE):
            return {"user_id": user, "as_of": iso(at), "reason": reason, "segments": {}, "contributions": {}}
        matrix = self.bundle.computed.compute(histories, at)
        scores = self._scored(matrix.values)
        trees = self.rules.explain(histories, at, self._judge, features=matrix, scores=scores, context=context)
        parts = self.contributions(matrix.values)
        return {"user_id": user, "as_of": iso(at), "segments": trees, "contributions": parts}

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

    def _seen(self, histories: Histories, now: int) -> list[list[int]]:
        told: list[list[int]] = seen(histories, np.array([now - self.schema.horizon]), ALL_KNOWN).tolist()
        return told

    def _seen_at(self, histories: Histories, ats: Sequence[int]) -> list[list[int]]:
        at = np.array(ats, np.int64)
        told: list[list[int]] = seen(histories, at - self.schema.horizon, at).tolist()
        return told

    def _states(self, users: Sequence[str]) -> list[State]:
        asked = [user for user in users if not is_denied(user)]
        found = dict(zip(asked, self.store.read(self.schema, asked), strict=True))
        return [found.get(user) or State(user) for user in users]

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
        names, records = [state.user for state in states], [state.records for state in states]
        histories = Histories.from_states(self.schema, names, records, [state.carry for state in states])
        told = self._seen(histories, now) if ats is None else self._seen_at(histories, ats)
        reasons = [_reason(state, row[CONSENT]) for state, row in zip(states, told, strict=True)]
        if ats is None:
            ats = [min(max(now, row[LAST_KNOWN]), now + AHEAD) for row in told]
        live = [row for row, reason in enumerate(reasons) if not reason]
        values, verdicts = self._live(histories, ats, live, context)
        if len(live) < len(reasons):
            unknown = [k for k, reason in enumerate(reasons) if reason == UNKNOWN]
            verdicts |= self._unknown(histories, ats, unknown, context)
        answers = []
        for row, (user, state, reason, said) in enumerate(zip(users, states, reasons, told, strict=True)):
            held = Fingerprint(said[N_EVENTS], said[SUM_IDS], said[LAST_TS], self.schema.fingerprint)
            source = "default" if reason else state.source
            skew = max(0, said[LAST_KNOWN] - (now or ats[row]))
            verdict, vector = verdicts.get(row, self.cold), values.get(row)
            consent, degraded = CONSENTS[said[CONSENT]], state.source != "live"
            answers.append(
                Answer(
                    user,
                    state.user,
                    ats[row],
                    skew,
                    source,
                    reason,
                    verdict,
                    consent,
                    held,
                    vector,
                    state.age,
                    degraded,
                )
            )
        return answers

    def _live(
        self, histories: Histories, ats: Sequence[int], rows: list[int], context: Context
    ) -> tuple[dict[int, NDArray[np.float64]], dict[int, Verdict]]:
        """Features and verdicts of these rows."""
        if not rows:
            return {}, {}
        if len(rows) < len(ats):
            histories, ats = histories.take(np.array(rows)), [ats[row] for row in rows]
        at = np.array(ats, np.int64)
        matrix = self.bundle.computed.compute(histories, at, threads=1)
        scored = self._scored(matrix.values)
        rules = self.rules.of(histories, at, features=matrix, scores=scored, context=context, judge=self._judge)
        return dict(zip(rows, matrix.values, strict=True)), dict(zip(rows, self._verdicts(scored, rules), strict=True))

    def _judge(self, segments: SegmentSet, histories: Histories, at: NDArray[np.int64]) -> Truths:
        """What segments say as of other instants than the answer's."""
        if not segments.inputs:
            return segments.evaluate(histories, at, threads=1)
        matrix = self.bundle.computed.compute(histories, at, threads=1)
        return segments.evaluate(histories, at, features=matrix, scores=self._scored(matrix.values), threads=1)

    def _unknown(
        self, histories: Histories, ats: Sequence[int], rows: list[int], context: Context
    ) -> dict[int, Verdict]:
        """Verdicts of rows of whom nothing is known: what the call alone decides."""
        if not rows or not self.rules.names:
            return {}
        found = self.rules.of(histories.take(np.array(rows)), np.array(ats, np.int64)[rows], context=context)
        return {
            row: Verdict(self.cold.scores, _inside(told), rules=told) for row, told in zip(rows, found, strict=True)
        }

    def verdicts(self, values: NDArray[np.float64]) -> list[Verdict]:
        """What the models say of features that are computed already, shape (n_rows, n_features)."""
        return self._verdicts(self._scored(values), [{}] * len(values))

    def _verdicts(self, scored: "Mapping[str, Scores]", rules: Sequence[Told]) -> list[Verdict]:
        if not scored:
            return [Verdict({}, _inside(rule), (), rule) for rule in rules]
        told = zip(*(plain(each) for each in scored.values()), strict=True)
        inside = zip(*(segments_of(each) for each in scored.values()), strict=True)
        figures = zip(*(each.column().astype(np.float64).tolist() for each in scored.values()), strict=True)
        studies = tuple(scored)
        return [
            Verdict(dict(zip(studies, scores, strict=True)), (*_inside(rule), *filter(None, mine)), figure, rule)
            for rule, scores, mine, figure in zip(rules, told, inside, figures, strict=True)
        ]

    def _scored(self, values: NDArray[np.float64]) -> "dict[str, Scores]":
        return {study: self.score(study, values) for study in self.studies}

    def score(self, study: str, values: NDArray[np.float64]) -> "Scores":
        """One study's scores of features that this bundle's set computed."""
        columns = self._columns[study]
        return self.bundle.models[study].score_values(values if columns is None else values[:, columns])

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


def plain(scores: "Scores") -> list[Mapping[str, object]]:
    """Every row of scores as an answer shows it."""
    kind, threshold = scores.kind, scores.threshold
    if scores.probability is not None:
        return [
            {"kind": kind, "probability": each, "threshold": threshold, "in": each >= threshold}
            for each in scores.probability.tolist()
        ]
    if scores.cluster is not None and scores.probabilities is not None:
        return [
            {"kind": kind, "name": scores.names[place], "probabilities": dict(zip(scores.names, each, strict=True))}
            for place, each in zip(scores.cluster.tolist(), scores.probabilities.tolist(), strict=True)
        ]
    if scores.cluster is None or scores.distances is None or scores.confidence is None:
        return [{"kind": kind} for _ in range(len(scores))]
    rows = zip(scores.cluster.tolist(), scores.distances.tolist(), scores.confidence.tolist(), strict=True)
    return [
        {
            "kind": kind,
            "cluster": place,
            "id": scores.ids[place],
            "name": scores.names[place],
            "distances": dict(zip(scores.names, far, strict=True)),
            "confidence": sure,
        }
        for place, far, sure in rows
    ]


def unknown(kind: str, threshold: float) -> Mapping[str, object]:
    """The same shape for a person of whom nothing is known."""
    if kind == "clusters":
        return {"kind": kind, "cluster": None, "id": None, "name": None, "distances": None, "confidence": None}
    if kind == "classes":
        return {"kind": kind, "name": None, "probabilities": None}
    return {"kind": kind, "probability": None, "threshold": threshold, "in": False}


def segments_of(scores: "Scores") -> list[str]:
    """The segment that these scores put each row in; empty for none."""
    if scores.cluster is not None:
        names = [f"{scores.study}:{name}" for name in scores.names]
        return [names[place] for place in scores.cluster.tolist()]
    return [scores.study if inside else "" for inside in scores.chosen.tolist()]
