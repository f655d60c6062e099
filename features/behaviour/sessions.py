"""Sessions: runs of events without a longer pause, once they are over; and the one that is not."""

from collections.abc import Iterator

import numpy as np

from features.behaviour.compiled import Floats, Ints, compiled_inside, place
from features.behaviour.declarations import Declaration, Spans
from features.behaviour.distinct import is_new, streams_per_event
from features.behaviour.gather import freed
from features.behaviour.schema import MISSING, StateSchema
from features.behaviour.table import (
    COLUMN,
    NO_SLOT,
    OF_STREAM,
    OPTION,
    SLOT,
    STAT,
    STREAM,
    Family,
    Feature,
    Source,
    Table,
    User,
    leads,
    of_property,
    value_of,
)
from features.behaviour.words import Names, Words
from features.document import Definition, Duration
from features.instants import MINUTE

GAP = 30 * MINUTE
BASE = ("sessions", "session_minutes", "session_depth", "bounce_share")
OVER = (*BASE, "session_pause_minutes", "session_count", "session_distinct")
STATS = (*OVER, "current_session_minutes", "current_session_count", "current_session_distinct")
SESSIONS, MINUTES, DEPTH, BOUNCES, PAUSES, COUNTED, DISTINCT, OPEN_MINUTES, OPEN_COUNTED, OPEN_DISTINCT = range(10)
CELLS = 6
"""Of a stream's tally: SESSIONS to PAUSES of its gap, then what it counts within sessions."""


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
    for stream in range(len(table.sources)):
        if leads(stream, table):
            _of_gap(user, at, table, stream, out)


@compiled_inside
def _of_gap(user: User, at: int, table: Table, lead: int, out: Floats) -> None:
    """From the newest session back; a session is in the windows that its last event is in.

    The last session is open until `at - last > gap`; until then it is in none, and in the features without a window.
    """
    tally, gap, n_windows = user.tally, table.sources[lead, OPTION], len(table.windows)
    mask, era = freed(user.seats, user.era, (user.n - user.past) * streams_per_event(table))
    _forget(tally, table, gap)
    window, newer, n = 0, 0, _ends(user, gap)
    for number in range(n - 1, -1, -1):
        end, begin = user.spare[place(number)], user.spare[place(number - 1)] + 1 if number else user.past
        first, last = user.ts[place(begin)], user.ts[place(end)]
        while window < n_windows and at - last > gap and last <= at - table.windows[window]:
            _read_off(tally, table, window, lead, out)
            window += 1
        if window == n_windows:
            return
        if len(table.entries):
            for k in range(begin, end + 1):
                _count(user, k, table, gap, mask, era, number)
        _account(tally, lead, end - begin + 1, last - first, newer - last)
        newer = first
        if at - last <= gap:
            if table.windows[0] == 0:
                _read_off(tally, table, 0, lead, out)
                window = 1
            _forget(tally, table, gap)
    for rest in range(window, n_windows):
        _read_off(tally, table, rest, lead, out)


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
def _forget(tally: Ints, table: Table, gap: int) -> None:
    for stream in range(len(table.sources)):
        if table.sources[stream, OPTION] == gap:
            for cell in range(CELLS):
                tally[stream, cell] = 0


@compiled_inside
def _count(user: User, k: int, table: Table, gap: int, mask: int, era: int, number: int) -> None:
    """Count event k within session `number`; what is counted once is met for the first time there."""
    code = place(user.codes[place(k)])
    for each in range(table.places[code], table.places[code + place(1)]):
        stream = table.entries[place(each), OF_STREAM]
        if table.sources[place(stream), OPTION] != gap:
            continue
        value = value_of(user, k, each, table)
        if value == MISSING:
            continue
        once = table.sources[place(stream), SLOT] != NO_SLOT
        if not once or is_new(user.seats, mask, era, value, number * len(table.sources) + stream):
            user.tally[place(stream), COUNTED] += 1


@compiled_inside
def _account(tally: Ints, lead: int, n_events: int, length: int, pause: int) -> None:
    """A session more, older than those before it; the pause is the one after it."""
    if tally[lead, SESSIONS] > 0:
        tally[lead, PAUSES] += pause
    tally[lead, SESSIONS] += 1
    tally[lead, MINUTES] += length
    tally[lead, DEPTH] += n_events
    tally[lead, BOUNCES] += n_events == 1


@compiled_inside
def _read_off(tally: Ints, table: Table, window: int, lead: int, out: Floats) -> None:
    n = tally[lead, SESSIONS]
    for k in range(table.edges[window], table.edges[window + 1]):
        stream, stat, column = table.features[k, STREAM], table.features[k, STAT], table.features[k, COLUMN]
        if table.sources[stream, OPTION] != table.sources[lead, OPTION]:
            continue
        if stat == SESSIONS:
            out[column] = n
        elif stat == OPEN_MINUTES:
            out[column] = tally[lead, MINUTES] / MINUTE
        elif stat in (OPEN_COUNTED, OPEN_DISTINCT):
            out[column] = tally[stream, COUNTED]
        elif n == 0 or (stat == PAUSES and n == 1):
            out[column] = np.nan
        elif stat == PAUSES:
            out[column] = tally[lead, PAUSES] / ((n - 1) * MINUTE)
        elif stat in (COUNTED, DISTINCT):
            out[column] = tally[stream, COUNTED] / n
        else:
            out[column] = tally[lead, stat] / (n * MINUTE if stat == MINUTES else n)


def _source(feature: Feature, schema: StateSchema) -> Source:
    """What is counted within the sessions of a gap; no event enters the stream of the sessions themselves."""
    if feature.stat.endswith(("count", "distinct")):
        return of_property(feature, schema)
    return Source((), option=feature.option)


FAMILY = Family("sessions", (Sessions, CurrentSession), STATS, _source)
