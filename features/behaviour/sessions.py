"""Sessions: runs of events without a longer pause, once they are over."""

from collections.abc import Iterator

import numpy as np

from features.behaviour.compiled import Floats, Ints, compiled, place
from features.behaviour.declarations import Declaration, Windows
from features.behaviour.table import COLUMN, OPTION, STAT, STREAM, Family, Feature, Table, User, of_property
from features.behaviour.words import Words
from features.document import Definition, Duration
from features.errors import DefinitionError
from features.instants import MINUTE

STATS = ("sessions", "session_minutes", "session_depth", "bounce_share")
SESSIONS, MINUTES, DEPTH, BOUNCES = range(len(STATS))


class Gap(Definition):
    """The longest pause within a session."""

    gap: Duration = 30 * MINUTE


class Sessions(Declaration):
    """`{sessions: {gap: 30m}, windows: [7d, 30d]}`."""

    sessions: Gap
    windows: Windows

    def features(self, words: Words) -> Iterator[Feature]:
        """`sessions_<window>`, `session_minutes_<window>`, `session_depth_<window>`, `bounce_share_<window>`."""
        for text, window in self.windows:
            if window < 0:
                raise DefinitionError("sessions have no life-time. Hint: name a window such as 90d.")
            for stat in STATS:
                yield Feature(f"{stat}_{text}", "sessions", stat, window=window, option=self.sessions.gap)


@compiled
def sessions(user: User, at: int, table: Table, out: Floats) -> None:
    """A stream is a gap; there is rarely more than one."""
    for stream in range(len(table.sources)):
        _of_gap(user, at, table, stream, out)


@compiled
def _of_gap(user: User, at: int, table: Table, stream: int, out: Floats) -> None:
    """One pass from the newest event back; a session is in the windows that its last event is in.

    The last session is open until `at - last > gap`; until then it is in none.
    """
    gap, n_windows = table.sources[stream, OPTION], len(table.windows)
    tally = user.tally
    for stat in range(len(STATS)):
        tally[stream, stat] = 0
    window, end = 0, user.n
    for k in range(user.n - 1, user.past - 1, -1):
        first = user.ts[place(k)]
        if k > user.past and first - user.ts[place(k - 1)] <= gap:
            continue
        last = user.ts[place(end - 1)]
        if at - last > gap:
            while window < n_windows and last <= at - table.windows[window]:
                _read_off(tally, table, window, stream, out)
                window += 1
            tally[stream, SESSIONS] += 1
            tally[stream, MINUTES] += last - first
            tally[stream, DEPTH] += end - k
            tally[stream, BOUNCES] += end - k == 1
        end = k
    for rest in range(window, n_windows):
        _read_off(tally, table, rest, stream, out)


@compiled
def _read_off(tally: Ints, table: Table, window: int, stream: int, out: Floats) -> None:
    n = tally[stream, SESSIONS]
    for k in range(table.edges[window], table.edges[window + 1]):
        if table.features[k, STREAM] != stream:
            continue
        stat, column = table.features[k, STAT], table.features[k, COLUMN]
        if stat == SESSIONS:
            out[column] = n
        elif n == 0:
            out[column] = np.nan
        else:
            out[column] = tally[stream, stat] / (n * MINUTE if stat == MINUTES else n)


FAMILY = Family("sessions", (Sessions,), STATS, of_property)
