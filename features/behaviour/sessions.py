"""Sessions: runs of events without a longer pause, once they are over; and the one that is not."""

from collections.abc import Iterator

import numpy as np

from features.behaviour.compiled import Floats, compiled_inside, place
from features.behaviour.declarations import Declaration, Spans
from features.behaviour.distinct import is_new
from features.behaviour.feature import Feature
from features.behaviour.gather import freed
from features.behaviour.schema import MISSING, StateSchema
from features.behaviour.table import (
    CODE,
    COLUMN,
    OPTION,
    SLOT,
    STAT,
    Family,
    Source,
    Table,
    User,
    asked,
    begin_of,
    end_of,
    leads,
    value_at,
)
from features.behaviour.words import Names, Words
from features.document import Definition, Duration
from features.instants import MINUTE

GAP = 30 * MINUTE
BASE = ("sessions", "session_minutes", "session_depth", "bounce_share")
OVER = (*BASE, "session_pause_minutes", "session_count", "session_distinct")
STATS = (*OVER, "current_session_minutes", "current_session_count", "current_session_distinct")
SESSIONS, MINUTES, DEPTH, BOUNCES, PAUSES = range(len(BASE) + 1)
OPEN_MINUTES = len(OVER)
RUNS, COUNTED, ONCE = range(3)
"""What a stream is: the sessions of a gap, events within them, different values within each of them."""


class Gap(Definition):
    """The longest pause within a session."""

    gap: Duration = GAP


class Runs(Gap):
    """The sessions themselves; the pauses between them where asked for."""

    pauses: bool = False


class Within(Gap):
    """What is counted within each session."""

    count: Names = ()
    distinct: Names = ()


class Sessions(Declaration):
    """`{sessions: {gap: 30m, pauses: true}, windows: [7d, 30d]}`: those that are over.

    They are in the windows of their last event; the mean pause between them is there where `pauses` asks for it.
    `{in_session: {count: page_viewed, distinct: page_viewed.page}, windows: [7d]}`: means over these sessions.
    """

    sessions: Runs | None = None
    in_session: Within | None = None
    windows: Spans

    def features(self, words: Words) -> Iterator[Feature]:
        """`sessions_<window>`, `session_minutes_<window>`, `session_count_<event>_<window>` and so on."""
        self.steps((), words)
        for text, window in self.windows:
            if self.sessions:
                for stat in OVER[: len(BASE) + self.sessions.pauses]:
                    name = f"{stat}{self.suffix}_{text}"
                    yield Feature(name, "sessions", stat, window=window, option=self.sessions.gap)
            if self.in_session:
                yield from _within(self, self.in_session, words, "session", f"_{text}", window)


class CurrentSession(Declaration):
    """`{current_session: {count: any, distinct: page_viewed.page}}`: the open session so far."""

    current_session: Within

    def features(self, words: Words) -> Iterator[Feature]:
        """`current_session_minutes`, `current_session_count_<event>`, `current_session_distinct_<event>_<property>`."""
        name = f"current_session_minutes{self.suffix}"
        yield Feature(name, "sessions", "current_session_minutes", option=self.current_session.gap)
        yield from _within(self, self.current_session, words, "current_session", "", 0)


def _within(entry: Declaration, spec: Within, words: Words, what: str, text: str, window: int) -> Iterator[Feature]:
    end = entry.suffix + text
    for name, kind in zip(spec.count, entry.steps(spec.count, words), strict=True):
        yield Feature(f"{what}_count_{name}{end}", "sessions", f"{what}_count", name, kind, "", window, spec.gap)
    for said in spec.distinct:
        name, prop = words.property(said)
        (kind,) = entry.steps((name,), words)
        stat = f"{what}_distinct"
        yield Feature(f"{stat}_{name}_{prop}{end}", "sessions", stat, name, kind, prop, window, spec.gap)


@compiled_inside
def sessions(user: User, at: int, table: Table, out: Floats) -> None:
    """There is rarely more than one gap."""
    for lead in range(len(table.sources)):
        if not leads(lead, table):
            continue
        gap = table.sources[place(lead), OPTION]
        number, over = _ends(user, gap), user.n
        if number > 0 and at - user.ts[place(user.n - 1)] <= gap:
            number -= 1
            over = _begin(user, number)
        for stream in range(lead, len(table.sources)):
            if table.sources[place(stream), OPTION] != gap:
                continue
            if table.sources[place(stream), CODE] == RUNS:
                _runs(user, at, stream, number, over, table, out)
            else:
                _counted(user, at, stream, number, over, table, out)


@compiled_inside
def _ends(user: User, gap: int) -> int:
    """Write each session's last event, and say how many there are; without a branch, as no pause can be guessed."""
    n = 0
    for k in range(user.past, user.n - 1):
        user.spare[place(n)] = k
        n += user.ts[place(k + 1)] - user.ts[place(k)] > gap
    if user.past < user.n:
        user.spare[place(n)] = user.n - 1
        n += 1
    return n


@compiled_inside
def _begin(user: User, number: int) -> int:
    """The first event of a session."""
    return user.spare[place(number - 1)] + 1 if number > 0 else user.past


@compiled_inside
def _runs(user: User, at: int, stream: int, number: int, over: int, table: Table, out: Floats) -> None:
    """The sessions themselves, from the newest that is over back; one is in the windows that its last event is in.

    Args:
        user: Whose.
        at: As of: the last session is open until `at - last > gap`.
        stream: Of the gap.
        number: How many sessions are over.
        over: The first event of the open one; behind the last event without one.
        table: The family's.
        out: The row.
    """
    n, length, bounces, pauses, begin, newer = 0, 0, 0, 0, over, 0
    for window in range(len(table.windows)):
        edge = at - table.windows[place(window)]
        while table.windows[place(window)] > 0 and number > 0 and user.ts[place(begin - 1)] > edge:
            end, number = begin, number - 1
            begin, last = _begin(user, number), user.ts[place(end - 1)]
            pauses += newer - last if n else 0
            newer = user.ts[place(begin)]
            n, length, bounces = n + 1, length + last - newer, bounces + (end - begin == 1)
        first, until = asked(stream, window, table)
        for each in range(first, until):
            stat, column = table.features[place(each), STAT], place(table.features[place(each), COLUMN])
            if stat == OPEN_MINUTES:
                out[column] = (user.ts[place(user.n - 1)] - user.ts[place(over)]) / MINUTE if over < user.n else 0.0
            elif stat == SESSIONS:
                out[column] = n
            elif n == 0 or (stat == PAUSES and n == 1):
                out[column] = np.nan
            elif stat == MINUTES:
                out[column] = length / (n * MINUTE)
            elif stat == PAUSES:
                out[column] = pauses / ((n - 1) * MINUTE)
            else:
                out[column] = (over - begin if stat == DEPTH else bounces) / n


@compiled_inside
def _counted(user: User, at: int, stream: int, number: int, over: int, table: Table, out: Floats) -> None:
    """What is counted within the same sessions, or within the open one alone; what counts once is met first there."""
    once, slot = table.sources[place(stream), CODE] == ONCE, table.sources[place(stream), SLOT]
    high, n, count = end_of(user, stream, table), 0, 0
    mask, era = freed(user.seats, user.era, high - begin_of(user, stream, table))
    low = _since(user, stream, over, high, table)
    for window in range(len(table.windows)):
        edge, in_the_open_one = at - table.windows[place(window)], table.windows[place(window)] == 0
        if in_the_open_one:
            count = _different(user, low, high, slot, mask, era, number) if once else high - low
        high = low
        while not in_the_open_one and number > 0 and user.ts[place(user.spare[place(number - 1)])] > edge:
            n, number = n + 1, number - 1
            if once:
                low = _since(user, stream, _begin(user, number), high, table)
                count += _different(user, low, high, slot, mask, era, number)
                high = low
        if n > 0 and not once:
            low = _since(user, stream, _begin(user, number), high, table)
            count += high - low
        first, until = asked(stream, window, table)
        for each in range(first, until):
            column = place(table.features[place(each), COLUMN])
            if in_the_open_one:
                out[column] = count
            else:
                out[column] = count / n if n > 0 else np.nan
        count = 0 if in_the_open_one else count


@compiled_inside
def _since(user: User, stream: int, begin: int, end: int, table: Table) -> int:
    """The first member before the member `end` that is not before the event `begin`."""
    first = begin_of(user, stream, table)
    while end > first and user.members[place(end - 1)] >= begin:
        end -= 1
    return end


@compiled_inside
def _different(user: User, low: int, high: int, slot: int, mask: int, era: int, number: int) -> int:
    """The different values of some members, those of a session."""
    count = 0
    for j in range(high - 1, low - 1, -1):
        value = value_at(user, user.members[place(j)], slot)
        count += value != MISSING and is_new(user.seats, mask, era, value, number)
    return count


def _source(feature: Feature, schema: StateSchema) -> Source:
    """What is counted within the sessions of a gap; no event enters the stream of the sessions themselves."""
    if feature.stat.endswith("count"):
        return Source((feature.kind,), code=COUNTED, option=feature.option)
    if feature.stat.endswith("distinct"):
        return Source((feature.kind,), schema.slot(feature.property), ONCE, feature.option)
    return Source((), option=feature.option)


FAMILY = Family("sessions", (Sessions, CurrentSession), STATS, _source)
