"""Streaks: runs of consecutive days, in the project's zone, each with an event."""

from collections.abc import Iterator

from features.behaviour.compiled import Floats, compiled_inside, place
from features.behaviour.days import day_of
from features.behaviour.declarations import Declaration, Spans
from features.behaviour.feature import Feature
from features.behaviour.schema import MISSING
from features.behaviour.table import COLUMN, Family, Table, User, asked, begin_of, end_of, first_of, of_property
from features.behaviour.words import Names, Words
from features.instants import NEVER

STATS = ("streak", "longest_streak")


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
    """A pass a stream, from the newest event back; the current streak, which has no window, is known at its end.

    Days come in order but where clocks go back shortly after midnight: then the day after the one met may come, and
    join it with the run behind itself.
    """
    if len(table.sources) == 0:
        return
    today, _, last = day_of(user, at, len(user.zone_starts) - 1)
    for stream in range(len(table.sources)):
        high, step, since, met, newest = end_of(user, stream, table), last, NEVER, MISSING, MISSING
        run, longest, current, behind, first = 0, 0, 0, 0, 1 if table.windows[0] == 0 else 0
        for each in range(first, len(table.windows) + first):
            window = each if each < len(table.windows) else 0
            low = first_of(user, stream, window, table)
            for j in range(high - 1, low - 1, -1):
                ts = user.ts[place(user.members[place(j)])]
                if ts >= since:
                    continue
                day, since, step = day_of(user, ts, step)
                if met == MISSING or day < met:
                    behind = run if day == met - 2 else 0
                    run, newest = run + 1 if day == met - 1 else 1, day if met == MISSING else newest
                    met = day
                elif day == met + 1 and run == 1:
                    run, newest = 2 + behind, max(newest, day)
                else:
                    continue
                longest = max(longest, run)
                current = run if newest - met < run else current
            high = min(high, low)
            begin, end = asked(stream, window, table)
            for k in range(begin, end):
                alive = current if newest >= today - 1 else 0
                if newest > today:
                    alive = counted_back(user, stream, today, last, table)
                out[place(table.features[place(k), COLUMN])] = longest if table.windows[window] else alive


@compiled_inside
def counted_back(user: User, stream: int, today: int, last: int, table: Table) -> int:
    """The current streak, looked for day by day: for the hour in which the clock has been on tomorrow already."""
    run, day = 0, today
    while True:
        met, step, j = MISSING, last, end_of(user, stream, table) - 1
        while met != day and j >= begin_of(user, stream, table):
            met, _, step = day_of(user, user.ts[place(user.members[place(j)])], step)
            j -= 1
        if met != day and day < today:
            return run
        run += 1 if met == day else 0
        day -= 1


FAMILY = Family("streaks", (Streak, LongestStreak), STATS, of_property)
