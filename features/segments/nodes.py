"""Nodes: conditions with every name resolved, as plain values: what a bundle carries and what loops are made from."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from msgspec import convert

from features.behaviour.kinds import Intervals, Kind

OPS = (
    "all", "any", "not", "known", "member",
    "count", "nth", "regularly", "resumed", "compare", "sequence", "trait", "input",
)  # fmt: skip
"""What a node does; the code of an op is its place."""
ALL, ANY, NOT, KNOWN, MEMBER, COUNT, NTH, REGULARLY, RESUMED, COMPARE, SEQUENCE, TRAIT, INPUT = range(len(OPS))

WINDOWS = ("ever", "ago", "between", "since_first_seen", "session", "calendar")
EVER, AGO, BETWEEN, SINCE_FIRST_SEEN, SESSION, CALENDAR = range(len(WINDOWS))
PERIODS = ("day", "week", "month")

CLASSES = ("request", "stream", "timer", "batch")
"""Evaluation classes, from the freshest: a segment has the worst of its nodes."""
PROMISES: Mapping[str, str] = {
    "request": "known at the call",
    "stream": "changes only with an event; fresh within a second",
    "timer": "changes by the clock; at most a second after its due time",
    "batch": "compared with figures of the whole population, as of computed_at",
}

CHANGES = ("never", "expiry", "threshold", "tick")
"""How time alone changes an input: not, when an event leaves its window, as it grows, or unforeseeably."""
NO_CHANGE, EXPIRY, THRESHOLD, TICK = range(len(CHANGES))

Ranges = tuple[tuple[float, float], ...]
"""Closed intervals of float64."""


@dataclass(frozen=True)
class Window:
    """When something has to have happened.

    Attributes:
        mode: One of WINDOWS.
        start: Microseconds back (ago), an instant (between), microseconds (since_first_seen), or a place in PERIODS.
        end: Microseconds back (ago), or an instant (between).
    """

    mode: str = "ever"
    start: int = 0
    end: int = 0


@dataclass(frozen=True)
class Side:
    """One side of a comparison: a figure of the events of a kind.

    Attributes:
        kind: Which events.
        agg: count, sum, mean, min, max, first, last.
        property: Empty for counts.
        window: When.
    """

    kind: Kind
    agg: str
    property: str
    window: Window


@dataclass(frozen=True)
class Move:
    """A step of a sequence, made explicit.

    Attributes:
        kind: Which events.
        absent: Whether they have to stay away.
        n: So many events make, or break, the step.
        within: Microseconds; 0 where nothing but the session or the next step ends it.
        since: The positive step that `within` counts from; -1 for the anchor event itself.
        after: The positive step after whose last event this one begins; -1 for the anchor event.
        immediately: Whether nothing may come between.
        until_next: Whether the next positive step ends it.
        window: What lies outside it as of the instant that is asked for takes no part in the step.
    """

    kind: Kind
    absent: bool = False
    n: int = 1
    within: int = 0
    since: int = -1
    after: int = -1
    immediately: bool = False
    until_next: bool = False
    window: Window = Window()


@dataclass(frozen=True)
class Input:
    """A number that is handed in, beside the events.

    Attributes:
        source: feature, count (a feature that counts what the node looks at: it is not handed in, but counted), bucket,
            model, cluster, confidence, context or listed.
        name: The feature, salt, study or path.
        among: The clusters, or users, that count as 1.
        test: What is asked of a context value, as it was written.
    """

    source: str
    name: str
    among: tuple[str, ...] = ()
    test: str = ""


@dataclass(frozen=True)
class Cut:
    """A bound that a snapshot of the population gives.

    Attributes:
        what: `percentile`, or `fifths`.
        feature: Of which feature.
        population: A segment, for percentiles; a feature that is not missing, for fifths; empty: everybody.
        q: The percentile.
        side: `gte` or `lte` of a percentile; `up` or `down`: whether the fifth of the largest values is 5 or 1.
        refresh: `segments apply` takes it anew when it is as old as this, microseconds; 0: with the next `promote`.
    """

    what: str
    feature: str
    population: str = ""
    q: float = 0.0
    side: str = "up"
    refresh: int = 0

    @property
    def key(self) -> str:
        """The snapshot that it needs."""
        return "|".join([self.what, self.feature, self.population, *([f"{self.q:g}"] if self.q else [])])


@dataclass(frozen=True)
class Node:
    """One node; children come before it.

    Attributes:
        op: One of OPS.
        says: The part of the definition that it stands for.
        level: Its evaluation class, a place in CLASSES.
        children: Places of other nodes.
        kind: Which events, where one kind is meant.
        window: When.
        tests: Which integers pass: of counts, of a trait, of fifths.
        ranges: Which numbers pass: of an input.
        numbers: What else the op needs, see `compiler`.
        sides: Of a comparison: one, against a constant, or two.
        factor: Of a comparison's right side.
        constant: A comparison's right side, where it is a number.
        moves: Of a sequence.
        same: Properties that a sequence's events share.
        trait: The property, or flag, that a trait's node reads.
        input: What an input's node reads.
        cut: The snapshot that bounds an input, instead of `ranges`.
        change: One of CHANGES, for inputs.
        decided: Whether missing data is FALSE here, not UNKNOWN.
        absent: Whether missing data is what is asked for.
    """

    op: str
    says: str
    level: int = 0
    children: tuple[int, ...] = ()
    kind: Kind | None = None
    window: Window = Window()
    tests: Intervals = ()
    ranges: Ranges = ()
    numbers: tuple[int, ...] = ()
    sides: tuple[Side, ...] = ()
    factor: float = 1.0
    constant: float = 0.0
    moves: tuple[Move, ...] = ()
    same: tuple[str, ...] = ()
    trait: str = ""
    input: Input | None = None
    cut: Cut | None = None
    change: str = "never"
    decided: bool = False
    absent: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values; what has its default is left out."""
        told = {name: value for name, value in asdict(self).items() if getattr(self, name) != getattr(_EMPTY, name)}
        if self.ranges:
            told["ranges"] = [[repr(low), repr(high)] for low, high in self.ranges]  # JSON knows no infinity
        return told

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> Self:
        """The node that `to_dict`, and JSON, described."""
        return convert(data, cls, strict=False)  # bounds that are no number in JSON are texts

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """All kinds of events that it looks at."""
        own = (self.kind,) if self.kind is not None else ()
        return (*own, *(side.kind for side in self.sides), *(move.kind for move in self.moves))

    @property
    def properties(self) -> set[str]:
        """All properties that it reads."""
        tested = {name for kind in self.kinds for name in kind.properties}
        read = {*self.same, self.trait, *(side.property for side in self.sides)}
        return (tested | read) - {""}


_EMPTY = Node("", "")


def below(nodes: Sequence[Node], place: int) -> Iterator[Node]:
    """A node and everything that it is made of."""
    yield nodes[place]
    for child in nodes[place].children:
        yield from below(nodes, child)


def sources(nodes: Sequence[Node], place: int) -> set[str]:
    """What a node, and everything below it, is handed beside events."""
    return {node.input.source for node in below(nodes, place) if node.input is not None}
