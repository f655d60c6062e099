"""Segment set: declared segments, and the only place where their truths are evaluated."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from hashlib import sha256
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from msgspec import convert
from numpy.typing import NDArray

from features.behaviour.histories import Histories
from features.behaviour.kinds import Kind
from features.behaviour.matrix import FeatureMatrix
from features.behaviour.schema import StateSchema
from features.errors import DefinitionError, SchemaError, nearest
from features.events.plan import Codes, TrackingPlan
from features.instants import NEVER
from features.segments.inputs import Scored, matrix_of
from features.segments.nodes import CLASSES, Input, Node, below
from features.segments.program import FIRST_SEEN, TRUE, Snapshot, lifetimes, program

if TYPE_CHECKING:
    from features.behaviour.feature_set import FeatureSet
    from features.project import Project
    from features.segments.evaluator import Evaluator

FILE = "segments.yaml"

KINDS_OF_INPUT = {
    "feature": "feature", "count": "feature", "model": "study", "chosen": "study", "cluster": "study",
    "confidence": "study",
}  # fmt: skip
"""What an input's name names, by its source."""


@dataclass(frozen=True)
class Segment:
    """One segment.

    Attributes:
        name: Its id.
        root: The place of its node.
        version: 16 hexadecimal digits over everything that its truth depends on.
        kind: Its evaluation class: request, stream, timer or batch.
        description: In words.
        status: draft, active, paused or archived.
        membership: What its definition says of staying and coming back; plain values.
        emit: Which changes `export --changes` hands on.
        min_size: With fewer members it is neither served nor reported.
        stays: The place of the node that holds while one stays in; its own root where that is no other.
        exits: Which events end a membership.
    """

    name: str
    root: int
    version: str
    kind: str
    description: str = ""
    status: str = "active"
    membership: Mapping[str, Any] | None = None
    emit: tuple[str, ...] = ()
    min_size: int = 0
    stays: int = 0
    exits: tuple[Kind, ...] = ()


@dataclass(frozen=True)
class Truths:
    """What segments say of rows (user, at).

    Attributes:
        names: One per column.
        users: Shape (n_rows,).
        at: Shape (n_rows,), microseconds UTC.
        values: Shape (n_rows, n_segments): FALSE or TRUE (see `program`), as membership needs TRUE.
        changes: Shape (n_rows, n_segments): the next instant at which time alone may change the value; NEVER. No rows
            where nobody asked.
        stays: Shape (n_rows, n_segments): TRUE where somebody who is in stays in.
        barred: Shape (n_rows, n_segments), or (1, n_segments): who is excluded from one with `min_dwell`.
    """

    names: tuple[str, ...]
    users: NDArray[np.object_]
    at: NDArray[np.int64]
    values: NDArray[np.int8]
    changes: NDArray[np.int64]
    stays: NDArray[np.int8]
    barred: NDArray[np.bool_]

    def column(self, name: str) -> NDArray[np.bool_]:
        """Who is in one segment."""
        return np.asarray(self.values[:, self.names.index(name)] == TRUE)

    def of(self, row: int) -> tuple[str, ...]:
        """The segments that a row is in."""
        return tuple(name for name, value in zip(self.names, self.values[row].tolist(), strict=True) if value == TRUE)


class SegmentSet:
    """Declared segments over a state schema.

    Attributes:
        segments: In the order of the columns.
        nodes: Of all of them, children before parents.
        schema: What histories must hold.
        gap: What ends a session, microseconds.
        snapshots: Bounds of percentiles and fifths, by `Cut.key`.
    """

    def __init__(
        self,
        segments: tuple[Segment, ...],
        nodes: tuple[Node, ...],
        schema: StateSchema,
        *,
        gap: int,
        snapshots: Mapping[str, Snapshot] | None = None,
    ) -> None:
        self.segments = segments
        self.nodes = nodes
        self.schema = schema
        self.gap = gap
        self.snapshots = dict(snapshots or {})
        self.names = tuple(segment.name for segment in segments)
        asked = [node.input for node in nodes if node.input is not None and node.input.source != "count"]
        self.inputs: tuple[Input, ...] = tuple(dict.fromkeys(asked))
        self._barring = {
            k: set(self.lists(each)[1]) for k, each in enumerate(segments) if "min_dwell" in (each.membership or {})
        }
        self._held = [place for place, segment in enumerate(segments) if segment.stays != segment.root]

    @classmethod
    def from_yaml(
        cls,
        path: Path | str,
        plan: TrackingPlan,
        codes: Codes,
        features: "FeatureSet",
        *,
        studies: Mapping[str, str] | None = None,
        clusters: Mapping[str, Sequence[str]] | None = None,
    ) -> Self:
        """The segments that a file declares.

        Args:
            path: segments.yaml.
            plan: Which events and properties there are.
            codes: The events' codes.
            features: Which features there are; horizon, bounds and zone are theirs.
            studies: By name `propensity`, `classes` or `clusters`; None where nobody knows them yet.
            clusters: Per study the names of its clusters, or classes, where they are known.

        Raises:
            DefinitionError: the file is absent or says what it cannot; every fault with its line.
        """
        from features.document import load

        path = Path(path)
        return cls.from_dict(load(path), plan, codes, features, studies=studies, clusters=clusters, where=path.name)

    @classmethod
    def of(
        cls,
        project: "Project",
        plan: TrackingPlan,
        codes: Codes,
        features: "FeatureSet",
        *,
        studies: Mapping[str, str] | None = None,
        clusters: Mapping[str, Sequence[str]] | None = None,
    ) -> Self | None:
        """The segments of a project; None where it declares none."""
        file = project.file(FILE)
        return cls.from_yaml(file, plan, codes, features, studies=studies, clusters=clusters) if file.exists() else None

    @classmethod
    def from_dict(
        cls,
        data: Mapping[str, Any],
        plan: TrackingPlan,
        codes: Codes,
        features: "FeatureSet",
        *,
        studies: Mapping[str, str] | None = None,
        clusters: Mapping[str, Sequence[str]] | None = None,
        where: str = "segments",
    ) -> Self:
        """The segments of a parsed document, with the arguments of `from_yaml`."""
        from features.behaviour.words import Words
        from features.document import validated
        from features.segments.compiler import Compiler
        from features.segments.definitions import Document
        from features.segments.names import Names

        document = validated(Document, data, where=where)
        words = Words.of(plan, document.events, data, where=where)
        known = {feature.name: feature for feature in features.features if not feature.hidden}
        made = Compiler(document, data, Names(words, known, studies, clusters or {}, features.schema.horizon))
        made.compile(where=where)
        schema = _schema(
            made.nodes, [kind for own in made.exits.values() for kind in own], plan, codes, features.schema
        )
        segments = []
        for name, spec in document.segments.items():
            root = made.roots[name]
            member = spec.membership.model_dump(exclude_none=True) if spec.membership else None
            version = _version(made.nodes, root, document.session_gap, member, features)
            kind, exits = CLASSES[made.nodes[root].level], made.exits.get(name, ())
            about = spec.description, spec.status, member, spec.emit, spec.min_size
            segments.append(Segment(name, root, version, kind, *about, made.stays.get(name, root), exits))
        return cls(tuple(segments), tuple(made.nodes), schema, gap=document.session_gap)

    def to_dict(self) -> dict[str, object]:
        """Plain values, enough to evaluate without the plan."""
        return {
            "segments": [asdict(segment) for segment in self.segments],
            "nodes": [node.to_dict() for node in self.nodes],
            "schema": self.schema.to_dict(),
            "gap": self.gap,
            "snapshots": {key: asdict(snapshot) for key, snapshot in self.snapshots.items()},
        }

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> Self:
        """The segment set that `to_dict`, and JSON, described."""
        return cls(
            convert(data["segments"], tuple[Segment, ...]),
            tuple(map(Node.load, data["nodes"])),
            StateSchema.from_dict(data["schema"]),
            gap=data["gap"],
            snapshots=convert(data["snapshots"], dict[str, Snapshot]),
        )

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over the definitions, the snapshots and the schema."""
        return sha256(dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.segments)

    def __repr__(self) -> str:
        return f"SegmentSet({len(self)} segments, {self.fingerprint})"

    def segment(self, name: str) -> Segment:
        """One segment, or a DefinitionError with the nearest name."""
        if name not in self.names:
            raise DefinitionError(f"unknown segment {name!r}. {nearest(name, self.names)}")
        return self.segments[self.names.index(name)]

    def compared(self, segment: Segment) -> list[Snapshot]:
        """The snapshots that a segment compares with."""
        keys = [node.cut.key for node in below(self.nodes, segment.root) if node.cut is not None]
        return [self.snapshots[key] for key in keys if key in self.snapshots]

    def uses(self, segment: Segment) -> tuple[str, ...]:
        """What a segment rests on: other segments, features and studies, each once; not what those rest on."""
        named = {each.root: each.name for each in self.segments}

        def read(place: int) -> Iterator[str]:
            node = self.nodes[place]
            if place != segment.root and place in named:
                yield f"segment {named[place]}"
                return
            if node.input is not None and node.input.source in KINDS_OF_INPUT:
                yield f"{KINDS_OF_INPUT[node.input.source]} {node.input.name}"
            if node.cut is not None and node.cut.population:
                yield f"{'segment' if node.cut.what == 'percentile' else 'feature'} {node.cut.population}"
            for child in node.children:
                yield from read(child)

        return tuple(dict.fromkeys(read(segment.root)))

    def lists(self, segment: Segment) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Who stands under `include` and under `exclude` of a segment, as `Compiler` joins them to its condition."""
        node, found = self.nodes[segment.root], dict[str, tuple[str, ...]]()
        while node.op in ("any", "all"):
            listed = self.nodes[node.children[1]]
            listed = self.nodes[listed.children[0]] if node.op == "all" else listed
            found[node.op] = listed.input.among if listed.input is not None else ()
            node = self.nodes[node.children[0]]
        return found.get("any", ()), found.get("all", ())

    def only(self, names: Collection[str]) -> "SegmentSet":
        """These segments alone, and what they are made of."""
        segments = [segment for segment in self.segments if segment.name in names]
        open_places, kept = [place for segment in segments for place in (segment.root, segment.stays)], set[int]()
        while open_places:
            place = open_places.pop()
            if place not in kept:
                kept.add(place)
                open_places += self.nodes[place].children
        moved = {old: new for new, old in enumerate(sorted(kept))}
        nodes = [replace(self.nodes[k], children=tuple(moved[c] for c in self.nodes[k].children)) for k in sorted(kept)]
        mine = [replace(each, root=moved[each.root], stays=moved[each.stays]) for each in segments]
        return SegmentSet(tuple(mine), tuple(nodes), self.schema, gap=self.gap, snapshots=self.snapshots)

    def on(self, schema: StateSchema) -> "SegmentSet":
        """The same segments over a schema that holds at least what they need.

        Raises:
            SchemaError: the schema lacks something, or its horizon, bounds, codes or zone are others.
        """
        if not schema.covers(self.schema):
            raise SchemaError(f"the schema {schema.fingerprint} does not hold what {self!r} needs.")
        return SegmentSet(self.segments, self.nodes, schema, gap=self.gap, snapshots=self.snapshots)

    def fitted(self, snapshots: Mapping[str, Snapshot]) -> "SegmentSet":
        """The same segments with these bounds of percentiles and fifths."""
        return SegmentSet(self.segments, self.nodes, self.schema, gap=self.gap, snapshots=snapshots)

    def evaluate(
        self,
        histories: Histories,
        at: int | NDArray[np.int64],
        *,
        features: FeatureMatrix | None = None,
        scores: Mapping[str, Scored] | None = None,
        context: Mapping[str, object] | None = None,
        until: int | None = NEVER,
        threads: int | None = None,
    ) -> Truths:
        """Every segment's truth as of `at`, for every row of `histories`.

        Events that happened, or became known, after `at` do not count.

        Args:
            histories: n_rows users' events; a user may appear in several rows.
            at: Microseconds UTC, one for all rows or shape (n_rows,).
            features: The same rows' features; missing where not given.
            scores: Per study, of the same rows; missing where not given.
            context: What the call says; missing where not given.
            until: Next changes up to here are exact, and none is told too late; None where nobody asks, and `changes`
                has no rows.
            threads: At most so many; by default one a core.

        Raises:
            SchemaError: the histories were recorded under another state schema.
        """
        instants = self._instants(histories, at)
        given = matrix_of(self.inputs, histories.users, instants, features=features, scores=scores, said=context)
        values, changes = self.evaluator.run(histories, instants, given, until=until, threads=threads)
        n, stays = len(self), values[:, : len(self)]
        if self._held:
            stays = stays.copy()
            stays[:, self._held] = values[:, n:]
            changes[:, self._held] = np.minimum(changes[:, self._held], changes[:, n:])
        barred = np.zeros((len(histories) if any(self._barring.values()) else 1, n), np.bool_)
        for k, listed in self._barring.items():
            if listed:
                barred[:, k] = [user in listed for user in histories.users]
        return Truths(self.names, histories.users, instants, values[:, :n], changes[:, :n], stays, barred)

    def explain(
        self,
        histories: Histories,
        at: int,
        *,
        features: FeatureMatrix | None = None,
        scores: Mapping[str, Scored] | None = None,
        context: Mapping[str, object] | None = None,
    ) -> dict[str, dict[str, Any]]:
        """Per segment why the only row is in it or not, with the arguments of `evaluate`: plain values."""
        from features.segments.explanation import Explanation

        instants = self._instants(histories, at)
        given = matrix_of(self.inputs, histories.users, instants, features=features, scores=scores, said=context)
        room, gathered = self.evaluator.explain(histories, instants, given)
        shown = Explanation(self, room, gathered.rows, histories, given[0], scores or {})
        return {each.name: shown.tree(each) for each in self.segments}

    def _instants(self, histories: Histories, at: int | NDArray[np.int64]) -> NDArray[np.int64]:
        if histories.schema is not self.schema and histories.schema.fingerprint != self.schema.fingerprint:
            found, wanted = histories.schema.fingerprint, self.schema.fingerprint
            raise SchemaError(
                f"state has schema {found}, segments need {wanted}. Hint: run `ethogram rebuild --state`."
            )
        instants = np.empty(len(histories), np.int64)
        instants[:] = at
        return instants

    @cached_property
    def evaluator(self) -> "Evaluator":
        """The loop behind it."""
        from features.segments.evaluator import Evaluator

        places = {each: place for place, each in enumerate(self.inputs)}
        roots = [segment.root for segment in self.segments] + [self.segments[k].stays for k in self._held]
        made = program(self.nodes, roots, places, self.schema, gap=self.gap, snapshots=self.snapshots)
        return Evaluator(made, self.schema)


def _schema(nodes: list[Node], exits: list[Kind], plan: TrackingPlan, codes: Codes, base: StateSchema) -> StateSchema:
    """What histories must hold for these nodes, and to tell these events, under the rules of the features' schema."""
    folds = dict.fromkeys([FIRST_SEEN, *(each for node in nodes for each in lifetimes(node))])
    own = tuple(each for each in folds if each.what != "mean")
    properties = {name for node in nodes for name in node.properties} | {
        name for kind in exits for name in kind.properties
    }
    return StateSchema.of(plan, codes.codes, properties, lifetime=own, **base.rules)


def _version(nodes: list[Node], root: int, gap: int, membership: object, features: "FeatureSet") -> str:
    """A digest over a node, all below it and the features that these read; where things are written changes nothing."""
    defined = {feature.name: feature for feature in features.features}

    def read(name: str) -> list[object]:
        return [repr(defined[name]), *map(read, defined[name].of)]

    def told(place: int) -> dict[str, Any]:
        node = replace(nodes[place], says="", children=())
        named = [node.input.name] if node.input is not None and node.input.source in ("feature", "count") else []
        return {**node.to_dict(), "of": [told(child) for child in nodes[place].children], "read": [*map(read, named)]}

    schema = features.schema
    said = [told(root), gap, schema.zone, schema.horizon, membership, *([dict(schema.bounds)] if schema.bounds else [])]
    return sha256(dumps(said, sort_keys=True).encode()).hexdigest()[:16]
