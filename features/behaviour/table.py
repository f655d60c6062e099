"""Table: one family's features as arrays; what makes one compiled signature serve every plan."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from features.behaviour.compiled import Ints
from features.behaviour.schema import TS, StateSchema
from features.instants import format_duration

if TYPE_CHECKING:
    from features.behaviour.declarations import Declaration

Source = tuple[str, int, int, int]

LIFETIME = -1
"""The window of a life-time feature."""

NO_SLOT, DAY_SLOT, TS_SLOT = -1, -2, TS
"""What a stream reads instead of a property: nothing (it counts events), the local day, the instant."""

SLOT, KIND, OPTION = range(3)
STAT, STREAM, FACTOR, COLUMN = range(4)


MEANINGS: Mapping[str, str] = {
    "count": "number of {event}",
    "sum": "sum of {what}",
    "mean": "mean of {what}; missing without one",
    "min": "least {what}; missing without one",
    "max": "greatest {what}; missing without one",
    "first": "first {what}; missing without one",
    "last": "newest {what}; missing without one",
    "distinct": "number of different {what}",
    "active_days": "days with {event}",
    "recency": "seconds since the newest {event}; missing where there was none",
    "tenure": "seconds since the first {event} ever; missing where there was none",
    "sessions": "number of sessions (ended by {option} of silence)",
    "session_minutes": "mean minutes of a session (ended by {option} of silence); missing without one",
    "session_depth": "mean events of a session (ended by {option} of silence); missing without one",
    "bounce_share": "share of sessions of one event (ended by {option} of silence); missing without one",
}
"""What each statistic says, in words."""


@dataclass(frozen=True)
class Feature:
    """One declared number.

    Attributes:
        name: `<what>_<event>_<window>`.
        family: The family that computes it.
        stat: What the family takes of the stream, such as `sum`.
        event: Whose events; `any` for all.
        property: Which property; empty where events or instants are counted.
        window: Microseconds; 0 where the family looks back as far as the horizon; LIFETIME.
        option: A family's own setting, such as the gap of sessions in microseconds.
    """

    name: str
    family: str
    stat: str
    event: str = "any"
    property: str = ""
    window: int = 0
    option: int = 0

    def meaning(self) -> str:
        """The feature in words, as `ethogram features` lists it."""
        what = f"{self.event}.{self.property}" if self.property else self.event
        option = format_duration(self.option) if self.family == "sessions" and self.option else ""
        words = MEANINGS[self.stat].format(event=self.event, what=what, option=option)
        if self.window == LIFETIME:
            return f"{words}, ever"
        return f"{words}, last {format_duration(self.window)}" if self.window else words


class Table(NamedTuple):
    """The features of one family.

    A stream is what one pass over the events accumulates: the events of a kind, or one property of them. Several
    features, one a window and a statistic, read the same stream.
    """

    windows: Ints  # ascending, microseconds
    places: Ints  # shape (n_codes + 1,): the streams of code c are streams[places[c]:places[c + 1]]
    streams: Ints
    sources: Ints  # shape (n_streams, 3): slot, kind, option
    edges: Ints  # shape (n_windows + 1,): the features of window w are features[edges[w]:edges[w + 1]]
    features: Ints  # shape (n_features, 4): statistic, stream (or event code), factor, column


class User(NamedTuple):
    """What a family's loop sees of one user.

    Events `past <= k < n` are within the horizon; those before `past` matter to life-time folds alone.
    """

    slots: Ints  # everybody's records
    rows: Ints  # event k is the record slots[rows[k]]
    ts: Ints
    codes: Ints
    past: int
    n: int
    carry: Ints  # what is folded already
    zone_starts: Ints  # see `instants.zone_offsets`
    zone_offsets: Ints
    seats: Ints  # scratch: see `gather.Scratch`
    era: Ints
    counts: Ints  # scratch: per event code
    tally: Ints  # scratch: shape (n_streams, 6)
    folds: Ints  # scratch: as long as `carry`


@dataclass(frozen=True)
class Family:
    """One kind of features: what may be declared, and what its loop computes.

    Attributes:
        name: The name that its features carry.
        declarations: What may stand in features.yaml for it.
        stats: The statistics that its loop knows; a feature's code is the place in this list.
        source: The stream that a feature reads: (event, slot, kind, option); None where it counts an event's code.
    """

    name: str
    declarations: tuple[type["Declaration"], ...]
    stats: tuple[str, ...]
    source: Callable[[Feature, StateSchema], Source | None]


def tabulate(family: Family, features: Sequence[Feature], schema: StateSchema, streams: Iterable[Source] = ()) -> Table:
    """The table of a family's features within all `features`, whose places are the columns.

    Args:
        family: Whose.
        features: Every declared feature.
        schema: Where properties are.
        streams: Streams to accumulate first, in this order, needed or not.
    """
    mine = [(each.window, column) for column, each in enumerate(features) if each.family == family.name]
    needed = [family.source(features[column], schema) for _, column in mine]
    sources = list(dict.fromkeys([*streams, *filter(None, needed)]))
    windows = sorted({window for window, _ in mine})
    mine.sort()
    rows = [_row(family, features[column], schema, sources, column) for _, column in mine]
    edges = np.searchsorted([window for window, _ in mine], windows)
    codes = [schema.code(event) for event, *_ in sources]
    of_code = [[place for place, code in enumerate(codes) if code in (0, each)] for each in range(schema.n_codes)]
    return Table(
        windows=np.array(windows, np.int64),
        places=np.cumsum([0, *map(len, of_code)], dtype=np.int64),
        streams=np.array([place for places in of_code for place in places], np.int64),
        sources=np.array([rest for _, *rest in sources], np.int64).reshape(-1, 3),
        edges=np.array([*edges, len(mine)], np.int64),
        features=np.array(rows, np.int64).reshape(-1, 4),
    )


def _row(
    family: Family, feature: Feature, schema: StateSchema, sources: list[Source], column: int
) -> tuple[int, int, int, int]:
    source = family.source(feature, schema)
    stream = sources.index(source) if source else schema.code(feature.event)
    return family.stats.index(feature.stat), stream, schema.factor(feature.property), column


def of_property(feature: Feature, schema: StateSchema) -> Source:
    """The stream of a property of an event, or of the event alone."""
    return feature.event, schema.slot(feature.property) if feature.property else NO_SLOT, 0, feature.option
