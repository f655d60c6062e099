"""Clicks: those that are repeated in rage, and those that nothing follows."""

from collections.abc import Iterator
from dataclasses import replace

from pydantic import Field

from features.behaviour.compiled import Floats, Ints, compiled_inside, place
from features.behaviour.declarations import Declaration, Spans
from features.behaviour.schema import MISSING, StateSchema
from features.behaviour.table import (
    CODE,
    COLUMN,
    DETAIL,
    NO_SLOT,
    OF_STREAM,
    OPTION,
    STREAM,
    Family,
    Feature,
    Source,
    Table,
    User,
    value_of,
)
from features.behaviour.words import Names, Words
from features.document import Duration
from features.instants import NEVER, SECOND

STATS = ("rage_clicks", "dead_clicks")
RAGE = 0


class Clicks(Declaration):
    """`{rage_clicks: clicked.element, clicks: 3, dead_clicks: clicked, within: 2s, windows: [7d]}`.

    A click counts as dead once the time has passed without any event at all.
    """

    rage_clicks: Names = ()
    clicks: int = Field(3, ge=2, le=100)
    dead_clicks: Names = ()
    within: Duration = 2 * SECOND
    windows: Spans

    def features(self, words: Words) -> Iterator[Feature]:
        """`rage_clicks_<event>_<property>_<window>`, `dead_clicks_<event>_<window>`."""
        for text, window in self.windows:
            for name, kind, prop in self.properties(self.rage_clicks, words):
                full, said = f"rage_clicks_{name}_{prop}_{text}", str(self.clicks - 1)
                plain = Feature(full, "clicks", "rage_clicks", name, kind, prop, window, self.within)
                yield replace(plain, detail=(self.clicks,), said=said)
            for name, kind in self.kinds(self.dead_clicks, words):
                full = f"dead_clicks_{name}_{text}"
                yield Feature(full, "clicks", "dead_clicks", name, kind, "", window, self.within)


@compiled_inside
def clicks(user: User, at: int, table: Table, out: Floats) -> None:
    """One pass from the newest event back; `later` is the next instant at which anything happened."""
    tally, n_windows, window = user.tally, len(table.windows), 0
    if n_windows == 0:
        return
    for stream in range(len(table.sources)):
        tally[stream, 0] = 0
    edge, later = at - table.windows[0], NEVER
    for k in range(user.n - 1, user.past - 1, -1):
        ts = user.ts[place(k)]
        while ts <= edge:
            _read_off(tally, table, window, out)
            window += 1
            if window == n_windows:
                return
            edge = at - table.windows[window]
        if k + 1 < user.n and user.ts[place(k + 1)] > ts:
            later = user.ts[place(k + 1)]
        code = place(user.codes[place(k)])
        for each in range(table.places[code], table.places[code + place(1)]):
            value = value_of(user, k, each, table)
            if value == MISSING:
                continue
            stream = place(table.entries[place(each), OF_STREAM])
            within = table.sources[stream, OPTION]
            if table.sources[stream, CODE] == RAGE:
                tally[stream, 0] += _in_rage(user, k, table.entries[place(each), OF_STREAM], value, table)
            else:
                tally[stream, 0] += at - ts >= within and later - ts > within
    for rest in range(window, n_windows):
        _read_off(tally, table, rest, out)


@compiled_inside
def _in_rage(user: User, last: int, stream: int, value: int, table: Table) -> bool:
    """Whether the click is at least the n-th on its element within the time, itself included."""
    missing = table.details[place(table.sources[place(stream), DETAIL])] - 1
    since = user.ts[place(last)] - table.sources[place(stream), OPTION]
    for k in range(last - 1, user.past - 1, -1):
        if missing == 0 or user.ts[place(k)] < since:
            break
        code = place(user.codes[place(k)])
        for each in range(table.places[code], table.places[code + place(1)]):
            if table.entries[place(each), OF_STREAM] == stream and value_of(user, k, each, table) == value:
                missing -= 1
    return bool(missing == 0)


@compiled_inside
def _read_off(tally: Ints, table: Table, window: int, out: Floats) -> None:
    for each in range(table.edges[window], table.edges[window + 1]):
        k = place(each)
        out[place(table.features[k, COLUMN])] = tally[place(table.features[k, STREAM]), 0]


def _source(feature: Feature, schema: StateSchema) -> Source:
    slot = schema.slot(feature.property) if feature.property else NO_SLOT
    return Source((feature.kind,), slot, STATS.index(feature.stat), feature.option, feature.detail)


FAMILY = Family("clicks", (Clicks,), STATS, _source)
