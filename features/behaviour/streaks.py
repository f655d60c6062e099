"""Streaks: runs of consecutive days, in the project's zone, each with an event."""

from collections.abc import Iterator

from features.behaviour.compiled import Floats, Ints, compiled_inside, place
from features.behaviour.days import day_of
from features.behaviour.declarations import Declaration, Spans
from features.behaviour.schema import MISSING
from features.behaviour.table import COLUMN, OF_STREAM, STREAM, Family, Feature, Table, User, enters, of_property
from features.behaviour.words import Names, Words
from features.instants import NEVER

STATS = ("streak", "longest_streak")
NEWEST, MET, RUN, LONGEST, CURRENT = range(5)
"""Places in a stream's tally: the newest day, the one met last, the run that it is in, the longest run, the newest."""


class Streak(Declaration):
    """`{streak: [any, order_completed]}`: the run that is still alive."""

    streak: Names

    def features(self, words: Words) -> Iterator[Feature]:
        """`streak_<event>_d`."""
        for name, kind in self.kinds(self.streak, words):
            yield Feature(f"streak_{name}_d", "streaks", "streak", name, kind)


class LongestStreak(Declaration):
    """`{longest_streak: any, windows: [30d]}`."""

    longest_streak: Names
    windows: Spans

    def features(self, words: Words) -> Iterator[Feature]:
        """`longest_streak_<event>_d_<window>`."""
        for text, window in self.windows:
            for name, kind in self.kinds(self.longest_streak, words):
                name_ = f"longest_streak_{name}_d_{text}"
                yield Feature(name_, "streaks", "longest_streak", name, kind, window=window)


@compiled_inside
def streaks(user: User, at: int, table: Table, out: Floats) -> None:
    """One pass from the newest event back; the current streaks, which have no window, are known at its end."""
    tally, n_windows = user.tally, len(table.windows)
    if n_windows == 0:
        return
    for stream in range(len(table.sources)):
        tally[stream, NEWEST] = tally[stream, MET] = MISSING
        tally[stream, RUN] = tally[stream, LONGEST] = tally[stream, CURRENT] = 0
    current = 1 if table.windows[0] == 0 else 0
    window, (today, _, step) = current, day_of(user, at, len(user.zone_starts) - 1)
    day, since, edge = today, NEVER, at - table.windows[window] if window < n_windows else MISSING
    for k in range(user.n - 1, user.past - 1, -1):
        ts = user.ts[place(k)]
        while ts <= edge:
            _longest(tally, table, window, out)
            window += 1
            edge = at - table.windows[window] if window < n_windows else MISSING
        if window == n_windows and current == 0:
            return
        if ts < since:
            day, since, step = day_of(user, ts, step)
        code = place(user.codes[place(k)])
        for each in range(table.places[code], table.places[code + place(1)]):
            if enters(user, k, each, table):
                _add(tally, place(table.entries[place(each), OF_STREAM]), day)
    for rest in range(window, n_windows):
        _longest(tally, table, rest, out)
    for each in range(table.edges[current]):
        stream = table.features[each, STREAM]
        alive = tally[stream, NEWEST] >= today - 1
        out[table.features[each, COLUMN]] = tally[stream, CURRENT] if alive else 0


@compiled_inside
def _add(tally: Ints, stream: int, day: int) -> None:
    """A day that is not after those before it."""
    met = tally[stream, MET]
    if day >= met and met != MISSING:
        return
    if met == MISSING:
        tally[stream, NEWEST] = day
    tally[stream, RUN] = tally[stream, RUN] + 1 if day == met - 1 else 1
    tally[stream, MET] = day
    tally[stream, LONGEST] = max(tally[stream, LONGEST], tally[stream, RUN])
    if tally[stream, NEWEST] - day < tally[stream, RUN]:
        tally[stream, CURRENT] = tally[stream, RUN]


@compiled_inside
def _longest(tally: Ints, table: Table, window: int, out: Floats) -> None:
    for k in range(table.edges[window], table.edges[window + 1]):
        out[table.features[k, COLUMN]] = tally[table.features[k, STREAM], LONGEST]


FAMILY = Family("streaks", (Streak, LongestStreak), STATS, of_property)
