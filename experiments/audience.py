"""Audience: what a project's declared segments say of everybody in its log, as of any instant."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from experiments import release
from experiments.declared import Declared
from features.behaviour.feature_set import FeatureSet
from features.behaviour.histories import Histories
from features.behaviour.matrix import FeatureMatrix
from features.behaviour.schema import KNOWN, TS, StateSchema
from features.errors import AnalysisError, DefinitionError
from features.events.log import EventLog
from features.events.plan import Purpose
from features.events.rows import Rows
from features.project import Project
from features.segments.ledger import Ledger
from features.segments.membership import Judge
from features.segments.nodes import below, sources
from features.segments.program import Snapshot
from features.segments.segment_set import FILE, Segment, SegmentSet, Truths
from training.bundle import Bundle, current
from training.model import Model, Scores

R = TypeVar("R")
STUDIES = ("model", "chosen", "cluster", "confidence")
"""What a study tells."""


@dataclass(frozen=True)
class Audience:
    """The people of a log, and what may be asked of them.

    Attributes:
        log: Whose.
        features: Over `schema`.
        segments: Over `schema`, with the bounds of their percentiles.
        models: Per study the one that is served, as far as the declared features are its own.
        at: The newest event of the log, or another instant that was asked for.
        served: The segments of the bundle in service, where it has the declared features.
    """

    log: EventLog
    features: FeatureSet
    segments: SegmentSet
    models: Mapping[str, Model]
    at: int
    served: SegmentSet | None = None

    @classmethod
    def of(cls, project: Project, at: int | None = None) -> Self:
        """The audience of a project as of an instant; by default its newest event.

        Raises:
            DefinitionError: there is no segments.yaml, or it is wrong.
            LogError: the log is empty.
        """
        found = Declared.of(project)
        log, features, declared = found.log, found.features, found.segments()
        if declared is None:
            raise DefinitionError(f"{project.file(FILE)}: no such file. Hint: docs/segments.md shows what it may say.")
        newest = log.span()[1]
        bundle = _served(project, features)
        models = bundle.models if bundle is not None else {}
        told, before = bundle.told if bundle is not None else None, Ledger.read(project.path("memberships"))
        applied = before.bounds if before.features == features.fingerprint else {}
        known = _kept(declared, told.snapshots if told is not None else applied, newest)
        segments = release.bounded(declared, log, features, models, known)
        schema = features.schema.union(declared.schema)
        return cls(log, features.on(schema), segments.on(schema), models, newest if at is None else at, told)

    @property
    def schema(self) -> StateSchema:
        """What histories must hold."""
        return self.segments.schema

    def everybody(
        self, purpose: Purpose = Purpose.ANALYTICS, told: Callable[[str], None] = lambda _: None
    ) -> Iterator[Histories]:
        """All persons who agree to the purpose as of now, a bucket at a time; `told` hears how many there were."""
        seen = 0
        for histories in self.map(lambda histories: histories, purpose):
            yield histories
            seen += len(histories)
            told(f"{seen:,} users")

    def named(self, names: Sequence[str]) -> list[str]:
        """These segments, by default the active ones.

        Raises:
            DefinitionError: there is no such segment.
        """
        active = [each.name for each in self.segments.segments if each.status == "active"]
        return [self.segments.segment(name).name for name in names] or active

    def map(self, work: Callable[[Histories], R], purpose: Purpose = Purpose.ANALYTICS) -> Iterator[R]:
        """What the work makes of them, a bucket at a time, on all cores."""

        def part(rows: Rows) -> R:
            histories = rows.histories(self.schema)
            willing = histories.consent() & purpose.bit != 0
            return work(histories if willing.all() else histories.take(np.flatnonzero(willing)))

        return self.log.map(part)

    def person(self, user: str) -> Histories:
        """The one row of a person, by any of their ids.

        Raises:
            AnalysisError: nobody has this id.
        """
        canonical = self.log.canonical().get(user, (user, 0))[0]
        found = self.log.histories(self.schema, users=[canonical])
        if not len(found):
            raise AnalysisError(f"nobody in the log has the id {user!r}.")
        return found

    def seen(self, histories: Histories, at: int) -> NDArray[np.bool_]:
        """Per row, whether anything was known by then."""
        known = np.maximum(histories.slots[:, TS], histories.slots[:, KNOWN])
        counts = np.concatenate([[0], np.cumsum(known <= at)])
        return np.asarray(counts[histories.ends] > counts[histories.starts])

    def wider(self, properties: set[str]) -> "Audience":
        """The same over histories that hold these properties too."""
        more = StateSchema.of(self.log.plan, self.log.codes.codes, properties, **self.schema.rules)
        schema = self.schema.union(more)
        return replace(self, features=self.features.on(schema), segments=self.segments.on(schema))

    def matrix(self, histories: Histories, at: int | NDArray[np.int64]) -> FeatureMatrix:
        """Their features."""
        return self.features.compute(histories, at)

    def scores(self, matrix: FeatureMatrix) -> dict[str, Scores]:
        """What every model says of the same rows."""
        return release.scored(self.models, matrix)

    def truths(
        self,
        histories: Histories,
        at: int | NDArray[np.int64],
        segments: SegmentSet | None = None,
        *,
        until: int | None = None,
        threads: int | None = None,
    ) -> Truths:
        """What these segments, by default all, say; `until` an instant also when time changes that."""
        asked = segments or self.segments
        handed = {each.source for each in asked.inputs}
        matrix = self.features.compute(histories, at, threads=threads) if handed & {"feature", *STUDIES} else None
        scores = self.scores(matrix) if matrix is not None and handed & {*STUDIES} else None
        return asked.evaluate(histories, at, features=matrix, scores=scores, until=until, threads=threads)

    def judge(self, histories: Histories, segments: SegmentSet) -> Judge:
        """The same of some of the rows as of an instant each, in the thread that asks: `map` has one a core."""
        return lambda rows, at: self.truths(histories.take(rows), at, segments, until=self.at, threads=1)

    def explain(self, person: Histories, at: int, names: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
        """Per segment, by default of all, the tree of one row as of an instant."""
        segments, matrix = self.segments.only(names) if names else self.segments, self.matrix(person, at)
        return segments.explain(person, at, features=matrix, scores=self.scores(matrix))

    def fit(self, segment: Segment) -> str:
        """A digest of the bounds and models that a segment, of any set, compares with; empty where there are none."""
        mine = self.segments.segment(segment.name)
        digests = [self.models[name].digest for name in sorted({*self._asked(mine)} & {*self.models})]
        told = [*map(repr, self.segments.compared(mine)), *digests]
        return sha256("|".join(told).encode()).hexdigest()[:16] if told else ""

    def unanswered(self, segment: Segment) -> str:
        """Why nobody can be said to be in a segment here; empty where that can be said."""
        if "context" in sources(self.segments.nodes, segment.root):
            return "known at a call only"
        lacking = [name for name in self._asked(segment) if name not in self.models]
        return f"no model of {lacking[0]} is served" if lacking else ""

    def _asked(self, segment: Segment) -> list[str]:
        """The studies that a segment rests on."""
        inputs = (node.input for node in below(self.segments.nodes, segment.root))
        return [each.name for each in inputs if each is not None and each.source in STUDIES]

    @cached_property
    def merges(self) -> dict[str, list[int]]:
        """Per person the instants at which another id joined."""
        found: dict[str, list[int]] = {}
        for canonical, joined in self.log.canonical().values():
            found.setdefault(canonical, []).append(joined)
        return found


def _kept(segments: SegmentSet, served: Mapping[str, Snapshot], at: int) -> dict[str, Snapshot]:
    """The bounds in service, or applied last, that are needed and not due for a refresh."""
    cuts = [node.cut for node in segments.nodes if node.cut is not None and node.cut.key in served]
    due = {cut.key for cut in cuts if cut.refresh and served[cut.key].at + cut.refresh <= at}
    return {cut.key: served[cut.key] for cut in cuts if cut.key not in due}


def _served(project: Project, features: FeatureSet) -> Bundle | None:
    """The bundle in service, where its features are the declared ones."""
    folder = current(project.path("bundles"))
    bundle = Bundle.load(folder) if folder is not None else None
    return bundle if bundle is not None and bundle.features.fingerprint == features.fingerprint else None
