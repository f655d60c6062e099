"""Clicks: those that are repeated in rage, and those that nothing follows."""

from collections.abc import Iterator
from dataclasses import replace

from pydantic import Field

from features.behaviour.compiled import Floats, compiled_inside, place
from features.behaviour.declarations import Declaration, Spans
from features.behaviour.feature import Feature
from features.behaviour.schema import MISSING, StateSchema
from features.behaviour.table import (
    CODE,
    COLUMN,
    DETAIL,
    KIND,
    NO_SLOT,
    OPTION,
    SLOT,
    Family,
    Source,
    Table,
    User,
    asked,
    end_of,
    first_of,
    value_at,
)
from features.behaviour.words import Names, Words
from features.document import Duration
from features.instants import SECOND

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
    """A pass a stream, from the newest event back."""
    for stream in range(len(table.sources)):
        count, high = 0, end_of(user, stream, table)
        rage, within = table.sources[place(stream), CODE] == RAGE, table.sources[place(stream), OPTION]
        oldest = user.firsts[place(table.sources[place(stream), KIND]), user.firsts.shape[1] - 1]  # within the horizon
        for window in range(len(table.windows)):
            low = first_of(user, stream, window, table)
            for j in range(high - 1, low - 1, -1):
                if rage:
                    count += _in_rage(user, j, oldest, stream, table)
                else:
                    count += _is_dead(user, user.members[place(j)], at, within)
            high = low
            begin, end = asked(stream, window, table)
            for each in range(begin, end):
                out[place(table.features[place(each), COLUMN])] = count


@compiled_inside
def _in_rage(user: User, last: int, oldest: int, stream: int, table: Table) -> bool:
    """Whether the click is at least the n-th on its element within the time, itself included."""
    slot, click = table.sources[place(stream), SLOT], user.members[place(last)]
    value, since = value_at(user, click, slot), user.ts[place(click)] - table.sources[place(stream), OPTION]
    missing = table.details[place(table.sources[place(stream), DETAIL])] - 1
    for j in range(last - 1, oldest - 1, -1):
        k = user.members[place(j)]
        if missing == 0 or value == MISSING or user.ts[place(k)] < since:
            break
        missing -= value_at(user, k, slot) == value
    return bool(missing == 0)


@compiled_inside
def _is_dead(user: User, k: int, at: int, within: int) -> bool:
    """Whether the time after an event is over, and what happened next, at any later instant, came after it."""
    ts, later = user.ts[place(k)], k + 1
    while later < user.n and user.ts[place(later)] == ts:
        later += 1
    return bool(at - ts >= within and (later == user.n or user.ts[place(later)] - ts > within))


def _source(feature: Feature, schema: StateSchema) -> Source:
    slot = schema.slot(feature.property) if feature.property else NO_SLOT
    return Source((feature.kind,), slot, STATS.index(feature.stat), feature.option, feature.detail)


FAMILY = Family("clicks", (Clicks,), STATS, _source)
