"""Table: one family's features as arrays; what makes one compiled signature serve every plan."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from features.behaviour.compiled import Floats, Ints, compiled_inside, grid, place, vector
from features.behaviour.feature import Feature
from features.behaviour.kinds import ANYTHING, Kind
from features.behaviour.marks import NO_FILTER
from features.behaviour.schema import MISSING, TS, StateSchema

if TYPE_CHECKING:
    from features.behaviour.declarations import Declaration

NO_SLOT, TS_SLOT = -1, TS
"""What a stream reads instead of a property: nothing (it counts events), the instant."""

SLOT, CODE, OPTION, DETAIL, KIND = range(5)
OF_STREAM, STEP, FILTER = range(3)
STAT, STREAM, FACTOR, COLUMN, PART, SPAN = range(6)


class Source(NamedTuple):
    """What a stream reads.

    Attributes:
        kinds: Which events enter it; several where a family tells steps apart, each kind being a step.
        slot: Of the property, or NO_SLOT, TS_SLOT.
        code: A family's own.
        option: A family's own.
        detail: A family's own, as many integers as it likes; behind them the places of its kinds where it joins them.
        joins: Whether it reads the members of each of its kinds; where not, several are told apart event by event.
    """

    kinds: tuple[Kind, ...] = (ANYTHING,)
    slot: int = NO_SLOT
    code: int = 0
    option: int = 0
    detail: tuple[int, ...] = ()
    joins: bool = False

    @property
    def settled(self) -> tuple[Kind, ...]:
        """The kinds whose members it reads."""
        return self.kinds if self.joins or len(self.kinds) == 1 else ()

    @property
    def steps(self) -> tuple[Kind, ...]:
        """The kinds that are told apart event by event."""
        return () if self.settled else self.kinds


class Table(NamedTuple):
    """The features of one family.

    A stream is what one pass over events accumulates: the members of a kind, or one property of them. Several features,
    one a window and a statistic, read the same stream. Where a stream takes several kinds, its steps, an entry is the
    way of one event code into it.
    """

    windows: Ints  # ascending, microseconds
    spans: Ints  # their places among all families' windows
    places: Ints  # shape (n_codes + 1,): the entries of code c are entries[places[c]:places[c + 1]]
    entries: Ints  # shape (n_entries, 3): stream, step, filter (see `marks`)
    sources: Ints  # shape (n_streams, 5): slot, code, option, where its detail begins, kind (see `members`)
    details: Ints
    edges: Ints  # shape (n_streams * n_windows + 1,): see `asked`
    features: Ints  # shape (n_features, 6): statistic, stream, factor (0: a category), column, part, window's place


N_ARRAYS = len(Table._fields)


@compiled_inside
def table(arrays: Ints, family: int) -> Table:
    """A family's table among the views of all families' arrays."""
    k = family * N_ARRAYS
    return Table(
        vector(arrays, k), vector(arrays, k + 1), vector(arrays, k + 2), grid(arrays, k + 3), grid(arrays, k + 4),
        vector(arrays, k + 5), vector(arrays, k + 6), grid(arrays, k + 7),
    )  # fmt: skip


class User(NamedTuple):
    """What a family's loop sees of one user.

    Events `past <= k < n` are within the horizon; those before `past` matter to life-time folds alone.
    """

    slots: Ints  # everybody's records
    rows: Ints  # event k is the record slots[rows[k]]
    ts: Ints
    codes: Ints
    marks: Ints  # see `marks.mark`
    n_words: int
    past: int
    n: int
    carry: Ints  # what is folded already
    zone_starts: Ints  # see `instants.zone_offsets`
    zone_offsets: Ints
    spare: Ints  # scratch: as long as `rows`
    seats: Ints  # scratch: see `gather.Scratch`
    era: Ints
    counts: Ints  # scratch: per event code
    tally: Ints  # scratch: shape (n_streams, cells)
    folds: Ints  # scratch: as long as `carry`
    heap: Ints  # scratch: see `gather.Scratch`
    members: Ints  # see `members.settle`, as the three that follow
    begins: Ints
    ends: Ints
    firsts: Ints


@compiled_inside
def begin_of(user: User, stream: int, table: Table) -> int:
    """The first member of a stream's kind, however old it is."""
    return int(user.begins[place(table.sources[place(stream), KIND])])


@compiled_inside
def end_of(user: User, stream: int, table: Table) -> int:
    """Behind the newest member of a stream's kind."""
    return int(user.ends[place(table.sources[place(stream), KIND])])


@compiled_inside
def first_of(user: User, stream: int, window: int, table: Table) -> int:
    """The first member of a stream's kind that is in a window of the family."""
    return int(user.firsts[place(table.sources[place(stream), KIND]), place(table.spans[place(window)])])


@compiled_inside
def asked(stream: int, window: int, table: Table) -> tuple[int, int]:
    """The features that read a stream in a window: `features[begin:end]`."""
    edge = stream * len(table.windows) + window
    return table.edges[place(edge)], table.edges[place(edge + 1)]


@compiled_inside
def read_off(user: User, stream: int, table: Table, out: Floats) -> None:
    """The features of a stream whose count so far, from the newest member back, `heap` holds from the oldest on."""
    first, end = first_of(user, stream, len(table.windows) - 1, table), end_of(user, stream, table)
    for window in range(len(table.windows)):
        low = first_of(user, stream, window, table)
        begin, until = asked(stream, window, table)
        for each in range(begin, until):
            out[place(table.features[place(each), COLUMN])] = user.heap[place(low - first)] if low < end else 0


@compiled_inside
def value_at(user: User, k: int, slot: int) -> int:
    """What event k says in a slot."""
    return int(user.slots[place(user.rows[place(k)]), place(slot)])


@compiled_inside
def enters(user: User, k: int, entry: int, table: Table) -> bool:
    """Whether event k passes the filter of an entry."""
    one = table.entries[place(entry), FILTER]
    if one < 0:
        return True
    return bool(user.marks[place(k * user.n_words + (one >> 6))] >> (one & 63) & 1)


@compiled_inside
def leads(stream: int, table: Table) -> bool:
    """Whether no stream before it has its option; what depends on a gap is one pass over the events a gap."""
    first = 0
    while table.sources[place(first), OPTION] != table.sources[place(stream), OPTION]:
        first += 1
    return first == stream


@compiled_inside
def put(out: Floats, column: int, value: int, factor: int) -> None:
    """A property's value, NaN where it is MISSING; a hash, which has no factor, as it is: see `categories.listed`."""
    if factor == 0:
        out.view(np.int64)[column] = value
    else:
        out[column] = np.nan if value == MISSING else value / factor


def _cells(_source: Source) -> int:
    return 0


@dataclass(frozen=True)
class Family:
    """One kind of features: what may be declared, and what its loop computes.

    Attributes:
        name: The name that its features carry.
        declarations: What may stand in features.yaml for it.
        stats: The statistics that its loop knows; a feature's code is the place in this list.
        source: The stream that a feature reads; none where it has no table.
        cells: How many integers of `User.tally` a stream needs.
    """

    name: str
    declarations: tuple[type["Declaration"], ...]
    stats: tuple[str, ...]
    source: Callable[[Feature, StateSchema], Source | None]
    cells: Callable[[Source], int] = _cells

    def sources(self, features: Sequence[Feature], schema: StateSchema, first: Iterable[Source] = ()) -> list[Source]:
        """The streams of its features within all `features`, each once; `first` before them, needed or not."""
        needed = [self.source(each, schema) for each in features if each.family == self.name]
        return list(dict.fromkeys([*first, *filter(None, needed)]))


def tabulate(
    family: Family,
    features: Sequence[Feature],
    schema: StateSchema,
    asked: "Asked",
    first: Iterable[Source] = (),
) -> Table:
    """The table of a family's features within all `features`, whose places are the columns.

    Args:
        family: Whose.
        features: Every declared feature.
        schema: Where properties are.
        asked: What all families ask for.
        first: Streams to accumulate first, in this order, needed or not.
    """
    sources = family.sources(features, schema, first)
    rows = [
        (*_row(family, each, schema, sources, column), asked.span_of(each.window))
        for column, each in enumerate(features)
        if each.family == family.name
    ]
    windows = sorted({features[row[COLUMN]].window for row in rows})
    places = [row[STREAM] * len(windows) + windows.index(features[row[COLUMN]].window) for row in rows]
    order = sorted(range(len(rows)), key=lambda k: (places[k], rows[k][COLUMN]))
    entries = [_entries(code, sources, schema, asked.marked) for code in range(schema.n_codes)]
    detail = [(*source.detail, *(asked.places_of(source) if source.joins else ())) for source in sources]
    details = np.cumsum([0, *map(len, detail)])
    heads = [
        (each.slot, each.code, each.option, begin, asked.places_of(each)[0])
        for each, begin in zip(sources, details, strict=False)
    ]
    return Table(
        windows=np.array(windows, np.int64),
        spans=np.array([asked.span_of(window) for window in windows], np.int64),
        places=np.cumsum([0, *map(len, entries)], dtype=np.int64),
        entries=np.array([each for of_code in entries for each in of_code], np.int64).reshape(-1, 3),
        sources=np.array(heads, np.int64).reshape(-1, 5),
        details=np.array([number for each in detail for number in each], np.int64),
        edges=np.searchsorted([places[k] for k in order], np.arange(len(sources) * len(windows) + 1)).astype(np.int64),
        features=np.array([rows[k] for k in order], np.int64).reshape(-1, 6),
    )


@dataclass(frozen=True)
class Asked:
    """What several families ask for, settled once for all.

    Attributes:
        kinds: Beside any event, those of streams that take one.
        marked: Those with a `where` among the steps of streams that take several; a filter's number is its place.
        windows: Ascending; the last is the horizon.
    """

    kinds: tuple[Kind, ...]
    marked: tuple[Kind, ...]
    windows: tuple[int, ...]

    @classmethod
    def of(cls, features: Iterable[Feature], sources: Iterable[Source], horizon: int) -> Self:
        """Of all features and streams."""
        every = list(sources)
        return cls(
            tuple(dict.fromkeys(kind for source in every for kind in source.settled if kind != ANYTHING)),
            tuple(dict.fromkeys(kind for source in every for kind in source.steps if kind.where)),
            tuple(sorted({each.window for each in features if 0 < each.window < horizon} | {horizon})),
        )

    def places_of(self, source: Source) -> tuple[int, ...]:
        """The kinds whose members a stream reads, see `members.kinds_of`; any event where it reads none."""
        return tuple((ANYTHING, *self.kinds).index(kind) for kind in source.settled) or (0,)

    def span_of(self, window: int) -> int:
        """The place of a window; the horizon's where there is none."""
        return self.windows.index(window) if window > 0 else len(self.windows) - 1


def _entries(
    code: int, sources: Sequence[Source], schema: StateSchema, filters: Sequence[Kind]
) -> list[tuple[int, int, int]]:
    return [
        (stream, step, filters.index(kind) if kind.where else NO_FILTER)
        for stream, source in enumerate(sources)
        for step, kind in enumerate(source.steps)
        if not kind.events or code in kind.codes(schema)
    ]


def _row(
    family: Family, feature: Feature, schema: StateSchema, sources: list[Source], column: int
) -> tuple[int, int, int, int, int]:
    source = family.source(feature, schema)
    stream = sources.index(source) if source else 0
    factor = 0 if feature.top else schema.factor(feature.property)
    return family.stats.index(feature.stat), stream, factor, column, feature.part


def of_property(feature: Feature, schema: StateSchema) -> Source:
    """The stream of a property of an event, or of the event alone."""
    slot = schema.slot(feature.property) if feature.property else NO_SLOT
    return Source((feature.kind,), slot, option=feature.option)


def of_steps(feature: Feature, schema: StateSchema) -> Source:
    """The stream of events told apart by step; its code is the number of steps."""
    return Source(feature.steps, code=len(feature.steps), option=feature.option, detail=feature.detail)
